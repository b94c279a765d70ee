"""A table as a CSV file in ComfyUI's output folder: all or nothing, and never over another file."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from .folders import saving_place

SUFFIX = ".csv"
TRIES = 100
"""Names tried in turn where other programs take them first."""


def save_csv(text: str, prefix: str | None) -> Path | None:
    """Write `text` below ComfyUI's output folder, numbered as its save nodes do; returns the path, or None for no or an empty `prefix`.

    Raises ValueError for a prefix that is no name or leads out of the folder, RuntimeError if the file cannot
    be written.
    """
    if prefix is None or isinstance(prefix, str) and not prefix.strip():
        return None
    try:
        for _ in range(TRIES):
            place = saving_place(prefix, example="measurements/restored")
            path = place.with_name(place.name + SUFFIX)
            if _written(text, path):
                # The browser does not show what a node of a pack says.
                logging.info(f"AIOR, CSV file saved: {path}")
                return path
    except ValueError as error:
        raise ValueError(f"csv: {error}") from error
    except OSError as error:
        raise RuntimeError(
            f"the CSV file could not be written: {error.strerror or error}. Make room, or choose another name."
        ) from error
    raise RuntimeError(
        f"other programs keep taking the names of the CSV file {path.name}. Choose another name."
    )


def _written(text: str, path: Path) -> bool:
    """Whether the file is there now; False where another has taken the name in between."""
    try:
        # Takes the name: what is moved there below overwrites this empty file and nothing else.
        path.touch(exist_ok=False)
    except FileExistsError:
        return False
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(text, encoding="utf-8", newline="")
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        raise
    return True
