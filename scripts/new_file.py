"""Writes result files: they replace no other file, and get their names when they are complete."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterable
from pathlib import Path

_PARTIAL_NAME = re.compile(r"\..*_restored(_\d+)?\.(png|jpg|webp|tif)\.\d+\.partial")


def write_new(path: Path, data: bytes) -> None:
    """Write `data` to a new file at `path`, which gets its name when it is complete.

    A process that is killed meanwhile leaves nothing where the system has files without a name (Linux, on
    most file systems), and a `.partial` file elsewhere. Raises FileExistsError when `path` exists, and leaves
    it as it is. Raises NotADirectoryError when a file has the name of its folder.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(f"{path.parent} is a file, not a folder") from None
    if not _write_unnamed(path, data):
        _write_partial(path, data)


def _write_unnamed(path: Path, data: bytes) -> bool:
    """Write a file that gets its name when it is complete. Returns False where the system cannot do that."""
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
                # With a folder given, Python calls linkat, which follows the link in /proc to the file.
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
    """Write a file under another name, and give it its own when it is complete."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(partial, path)  # unlike a rename, it fails when the name is taken
        except FileExistsError:
            raise
        except OSError:
            # A file system without hard links (exFAT): create an empty file first, which claims the name, and
            # replace it.
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            os.replace(partial, path)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def remove_partials(folders: Iterable[Path]) -> None:
    """Remove the partial result files in `folders` that nobody has written to for an hour.

    Commands that were killed left them.
    """
    for folder in folders:
        for path in folder.glob(".*.partial"):
            with contextlib.suppress(OSError):
                if _PARTIAL_NAME.fullmatch(path.name) and time.time() - path.stat().st_mtime > 3600:
                    path.unlink()
