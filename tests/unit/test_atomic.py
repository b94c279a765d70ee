"""Files that are replaced in one step."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from aior_pack.aior_core import atomic

ROOT = Path(__file__).resolve().parents[2]


def test_a_failed_write_leaves_the_old_file_and_no_partial(tmp_path):
    path = tmp_path / "new" / "plan.json"
    atomic.atomic_write_text(path, "first")
    with pytest.raises(UnicodeEncodeError):
        atomic.atomic_write_text(path, "second \ud800")

    def half(partial: Path) -> None:
        partial.write_text("sec")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        atomic.atomic_write(path, half)
    assert path.read_text() == "first" and list(path.parent.iterdir()) == [path]


def test_a_kill_before_the_move_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "curve.json"
    atomic.atomic_write_bytes(path, b"first")

    def killed(*names):
        raise KeyboardInterrupt

    monkeypatch.setattr(atomic.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        atomic.atomic_write_bytes(path, b"second")
    assert path.read_bytes() == b"first"


def test_partial_files_of_killed_processes_are_removed_and_those_of_live_ones_stay(tmp_path):
    path = tmp_path / "a[1].json"
    stale, live, other = (
        tmp_path / f".{name}.partial" for name in ("a[1].json.11", "a[1].json.12", "b.json.11")
    )
    for partial in (stale, live, other):
        partial.write_text("half")
    for partial in (stale, other):
        os.utime(partial, (1, 1))
    atomic.atomic_write_text(path, "whole")
    assert not stale.exists() and live.exists() and other.exists() and path.read_text() == "whole"


@pytest.mark.parametrize("module", ["atomic.py", "picture/suffixes.py"])
def test_scripts_can_load_it_without_any_package(module):
    """Neither PyTorch nor the rest of the pack is imported by these two files."""
    code = (
        "import runpy, sys; sys.modules['torch'] = None; "
        f"runpy.run_path({str(ROOT / 'aior_core' / module)!r})"
    )
    subprocess.run([sys.executable, "-S", "-c", code], check=True)
