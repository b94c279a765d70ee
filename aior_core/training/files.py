"""Files that a kill leaves as they were or makes whole, never half."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` write a file beside `path`, then move it there in one step. Makes the folder.

    Data reaches the disk before the move. Otherwise a power cut could leave the new name on an empty file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    write(part)
    with part.open("rb+") as file:
        os.fsync(file.fileno())
    os.replace(part, path)


def write_text(path: Path, text: str) -> None:
    """`write_whole` of text in UTF-8."""
    write_whole(path, lambda part: part.write_text(text, encoding="utf-8"))
