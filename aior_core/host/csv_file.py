"""CSV files in ComfyUI's output folder: written whole or not at all, and never over another file."""

from __future__ import annotations

import logging
from pathlib import Path

from ..atomic import atomic_write_text
from .folders import saving_place

SUFFIX = ".csv"
MAX_ATTEMPTS = 100
"""How many names are tried if other programs take each of them first."""


def save_csv(text: str, prefix: str | None) -> Path | None:
    """Write `text` as a CSV file below ComfyUI's output folder, numbered as ComfyUI's save nodes number
    files.

    Args:
        text: the content of the file.
        prefix: the beginning of the name, such as "measurements/restored".

    Returns:
        The path, or None if `prefix` is None or empty and nothing was written.

    Raises:
        ValueError: `prefix` is not a name, or leads out of the folder.
        RuntimeError: the file cannot be written.
    """
    if prefix is None or isinstance(prefix, str) and not prefix.strip():
        return None
    try:
        for _ in range(MAX_ATTEMPTS):
            place = saving_place(prefix, example="measurements/restored")
            path = place.with_name(place.name + SUFFIX)
            if _write_new(text, path):
                # People who queue graphs without a browser read the path in the log.
                logging.info(f"AIOR, CSV file saved: {path}")
                return path
    except ValueError as error:
        raise ValueError(f"csv: {error}") from error
    except OSError as error:
        raise RuntimeError(
            f"the CSV file could not be written: {error.strerror or error}. "
            "Make room, or choose another name."
        ) from error
    raise RuntimeError(
        f"other programs keep taking the names of the CSV file {path.name}. Choose another name."
    )


def _write_new(text: str, path: Path) -> bool:
    """Write a new file in one step, or nothing. Returns False if the name is taken; raises OSError."""
    try:
        # An empty file reserves the name. The atomic write replaces this file and never another program's.
        path.touch(exist_ok=False)
    except FileExistsError:
        return False
    try:
        atomic_write_text(path, text)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return True
