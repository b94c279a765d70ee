"""Files that are replaced in one step: a reader sees the old file or the new one, never half of either.

This module needs the standard library only, so that scripts can import it under a Python without PyTorch.
"""

from __future__ import annotations

import contextlib
import glob
import os
import time
from collections.abc import Callable
from pathlib import Path

STALE_SECONDS = 3600.0
"""A partial file that nobody has written to for so long belongs to a process that was killed."""


def atomic_write(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` write a file beside `path`, then move it to `path` in one step. Creates the folder.

    The data reaches the disk before the move: otherwise a power cut could leave the new name on an empty
    file. When `write` raises, its partial file is removed and `path` stays as it was. Partial files that
    killed processes left behind for `path` are removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        write(partial)
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    _remove_stale_partials(path)


def atomic_write_bytes(path: Path, data: bytes) -> None:
    """Replace `path` by a file that holds `data`, see `atomic_write`."""
    atomic_write(path, lambda partial: partial.write_bytes(data))


def atomic_write_text(path: Path, text: str) -> None:
    """Replace `path` by a file that holds `text` in UTF-8, see `atomic_write`. Line ends stay as they are."""
    atomic_write_bytes(path, text.encode("utf-8"))


def _remove_stale_partials(path: Path) -> None:
    for other in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
        with contextlib.suppress(OSError):  # another process may remove it first
            if time.time() - other.stat().st_mtime > STALE_SECONDS:
                other.unlink()
