"""Every help page shows the picture of its node, in a size that the help panel can show; all are small."""

from __future__ import annotations

import re

import pytest
from PIL import Image

from tools.make_help_pictures import LANGUAGES, PAGES, page_of, picture_of, refer, reference

NODES = sorted(path.stem for path in PAGES.glob("*.md"))
BYTES = 1_000_000
"""Limit of all pictures together: users download them with the pack."""


@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_page_shows_the_picture_of_its_node(node, language):
    title, blank, line, *_ = page_of(node, language).read_text(encoding="utf-8").split("\n")
    assert blank == "" and line == reference(node, language, title.removeprefix("# "))
    # ComfyUI serves web/docs, and the front end puts its address before the path.
    assert PAGES / re.search(r"\((.+)\)", line)[1] == picture_of(node, language)
    with Image.open(picture_of(node, language)) as picture:
        assert picture.format == "WEBP" and 480 <= picture.width <= 900 and 100 <= picture.height <= 1500
        assert len(picture.convert("RGB").getcolors(1 << 22)) > 50, "an empty canvas"


def test_the_pictures_are_the_pages_and_small():
    found = sorted(PAGES.rglob("*.webp"))
    assert found == sorted(picture_of(node, language) for node in NODES for language in LANGUAGES)
    assert sum(path.stat().st_size for path in found) < BYTES


def test_a_page_gets_the_line_of_its_picture_once(tmp_path, monkeypatch):
    monkeypatch.setattr("tools.make_help_pictures.PAGES", tmp_path)
    page = tmp_path / "Odd.md"
    page.write_text("# An odd node\n\nDoes things.\n", encoding="utf-8")
    for _ in range(2):
        refer("Odd", "en")
        assert (
            page.read_text(encoding="utf-8")
            == "# An odd node\n\n![An odd node](Odd/en.webp)\n\nDoes things.\n"
        )
