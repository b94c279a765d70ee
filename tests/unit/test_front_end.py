"""What is said where there is no browser, and which one is taken; the front end itself is tests/browser's."""

from __future__ import annotations

import sys

import pytest

from scripts.client import ComfyClient
from tools import front_end


def test_the_named_browser_goes_before_those_installed(tmp_path, monkeypatch):
    named = tmp_path / "my-chromium"
    named.touch()
    monkeypatch.setenv("AIOR_CHROMIUM", str(named))
    assert front_end.find_chromium() == named


def test_what_is_missing_is_said_before_anything_starts(monkeypatch):
    monkeypatch.setitem(sys.modules, "playwright.sync_api", None)
    assert "pip install playwright" in front_end.missing() and sys.executable in front_end.missing()
    with (
        pytest.raises(front_end.FrontEndError, match="pip install playwright"),
        front_end.front_end(ComfyClient(1)),
    ):
        pass


def test_a_missing_browser_is_named(tmp_path, monkeypatch):
    pytest.importorskip("playwright")
    monkeypatch.setenv("AIOR_CHROMIUM", str(tmp_path / "nowhere"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(front_end, "PLACES", ())
    assert front_end.find_chromium() is None and "AIOR_CHROMIUM" in front_end.missing()


@pytest.mark.parametrize(
    ("line", "noise"),
    [
        (
            "Failed to load resource: the server responded with a status of 404 (Not Found) "
            "http://127.0.0.1:1/extensions/aior/docs/AIOR_Degrade/en.md",
            True,
        ),
        (
            "Failed to load resource: the server responded with a status of 404 (Not Found) "
            "http://127.0.0.1:1/extensions/aior/docs/AIOR_Degrade/en.webp",
            False,
        ),
        (
            "Failed to load resource: the server responded with a status of 500 (Error) "
            "http://127.0.0.1:1/extensions/aior/docs/AIOR_Degrade/en.md",
            False,
        ),
    ],
)
def test_only_a_page_that_may_be_missing_is_let_pass(line, noise):
    assert bool(front_end.HELP_NOISE.search(line)) is noise
