"""Files that are written at once: nobody ever sees half of one under its name."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterable
from pathlib import Path

_PARTIAL_NAME = re.compile(r"\..*_restored(_\d+)?\.(png|jpg|webp|tif)\.\d+\.partial")


def write_atomic(path: Path, data: bytes) -> None:
    """Replace `path` with `data` in one move, so that nobody ever reads half a file."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(data)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_new(path: Path, data: bytes) -> None:
    """Write `data` to `path` at once, so that no half file is ever there under that name.

    Raises FileExistsError, and changes nothing, when something already has that name; NotADirectoryError when a file stands where
    its folder must go. Killed in between, it leaves
    nothing where the system knows files without a name (Linux, on most file systems), a `.partial` file elsewhere.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(f"{path.parent} is a file, not a folder") from None
    if not _write_unnamed(path, data):
        _write_partial(path, data)


def _write_unnamed(path: Path, data: bytes) -> bool:
    """Write a file that gets its name when it is complete; False where that cannot be done."""
    if not hasattr(os, "O_TMPFILE") or not os.path.isdir("/proc/self/fd"):
        return False
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            file = os.fdopen(os.open(path.parent, os.O_TMPFILE | os.O_WRONLY, 0o666), "wb")
        except OSError:
            return False
        with file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            try:
                # With a folder given, Python calls linkat, which follows this link of /proc to the file.
                os.link(
                    f"/proc/self/fd/{file.fileno()}",
                    path.name,
                    src_dir_fd=folder,
                    dst_dir_fd=folder,
                    follow_symlinks=True,
                )
            except FileExistsError:
                raise
            except OSError:
                return False
        return True
    finally:
        os.close(folder)


def _write_partial(path: Path, data: bytes) -> None:
    """Write a file under another name and move it."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(partial, path)  # unlike a rename it fails when the name is taken
        except FileExistsError:
            raise
        except OSError:
            # A file system without hard links (exFAT): claim the name first, then move over our own empty claim.
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            os.replace(partial, path)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def remove_partials(folders: Iterable[Path]) -> None:
    """Remove what killed calls left in `folders`: partial files of results that nobody has written to for an hour."""
    for folder in folders:
        for path in folder.glob(".*.partial"):
            with contextlib.suppress(OSError):
                if _PARTIAL_NAME.fullmatch(path.name) and time.time() - path.stat().st_mtime > 3600:
                    path.unlink()
