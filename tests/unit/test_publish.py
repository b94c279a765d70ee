"""What goes to the Comfy registry: the archive's files, and what pyproject.toml says of the pack."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from scripts.host_setup import OLDEST

ROOT = Path(__file__).resolve().parents[2]
NEEDED = (
    "__init__.py",
    "pyproject.toml",
    "requirements.txt",
    "nodes",
    "aior_core",
    "models",
    "workflows",
    "subgraphs",
    "web",
    "scripts",
    "aior.py",
    "LICENSE",
)


@pytest.fixture(scope="module")
def project() -> dict:
    tomllib = pytest.importorskip("tomllib")
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_only_the_roots_own_folders_are_left_out():
    left_out = (ROOT / ".comfyignore").read_text(encoding="utf-8").split()
    # Without the first slash `docs/` is web/docs too, and the help pages stay at home.
    assert all(re.fullmatch(r"/[\w.]+/?", line) for line in left_out), left_out
    names = {line.strip("/") for line in left_out}
    assert not names & set(NEEDED) and all((ROOT / name).exists() for name in NEEDED)


def test_the_registry_is_told_what_it_asks_for(project):
    comfy = project["tool"]["comfy"]
    assert comfy.keys() == {
        "PublisherId",
        "DisplayName",
        "Icon",
        "banner_url",
        "requires-comfyui",
        "includes",
    }
    assert re.fullmatch(r"[a-z][a-z0-9._-]*", project["project"]["name"]) and re.fullmatch(
        r"\d+\.\d+\.\d+", project["project"]["version"]
    )
    assert comfy["requires-comfyui"] == f">={OLDEST.version}" and comfy["DisplayName"]
    assert (
        all((ROOT / path).exists() for path in comfy["includes"]) and not project["project"]["dependencies"]
    )
    assert all(
        not address or address.startswith("https://") for address in (comfy["Icon"], comfy["banner_url"])
    )


def test_the_changes_of_this_version_are_written_down(project):
    assert f"\n## {project['project']['version']}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_icon_and_banner_have_the_registrys_shapes():
    with Image.open(ROOT / "docs" / "icon.png") as icon, Image.open(ROOT / "docs" / "banner.png") as banner:
        assert icon.width == icon.height <= 400 and banner.width * 9 == banner.height * 21


def test_sources_are_in_the_characters_of_windows():
    # What a Windows console cannot print ends a program that prints it.
    for folder in ("nodes", "aior_core", "scripts", "benchmarks"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            path.read_text(encoding="utf-8").encode("cp1252")
