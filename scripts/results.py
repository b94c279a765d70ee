"""Which pictures are restored and where their results go: found, named, recognised and written without overwriting."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import struct
import time
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}
_RESULT_NAME = re.compile(r"_restored(_\d+)?$")
_PARTIAL_NAME = re.compile(r"\..*_restored(_\d+)?\.png\.\d+\.partial")
_PNG_HEAD = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
_KEY_WORD = b"aior_key"


@dataclass(frozen=True)
class Picture:
    """A picture to restore, and the path of its result without `_restored.png`."""

    source: Path
    target: Path


def find_pictures(places: Iterable[str | Path], out: Path | None) -> tuple[list[Picture], list[str]]:
    """The pictures of files and folders (walked in order, links to folders not followed), and a sentence for each
    place that gives none.

    Results go into `out`, under the walked folder's own structure, or beside the picture when `out` is None. Files
    that are results themselves are left out, and so is a picture named twice.
    """
    pictures, remarks, seen = [], [], set()
    for place in map(Path, places):
        if place.is_dir():
            files = list(_walk(place))
            if not files:
                remarks.append(f"{place}: no pictures in this folder (looked for {', '.join(sorted(SUFFIXES))})")
        elif not place.exists():
            files = []
            remarks.append(f"{place}: no such file or folder")
        elif place.suffix.lower() not in SUFFIXES:
            files = []
            remarks.append(f"{place}: not a picture this command reads ({', '.join(sorted(SUFFIXES))})")
        elif _RESULT_NAME.search(place.stem):
            files = []
            remarks.append(f"{place}: left alone, its name says it is a result of this command")
        else:
            files = [place]
        base = place if place.is_dir() else place.parent
        for file in files:
            if file.resolve() in seen:
                continue
            seen.add(file.resolve())
            folder = out / file.parent.relative_to(base) if out else file.parent
            pictures.append(Picture(file, folder / file.stem))
    return pictures, remarks


def _walk(folder: Path) -> Iterator[Path]:
    for path, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            file = Path(path, name)
            if not name.startswith(".") and file.suffix.lower() in SUFFIXES and not _RESULT_NAME.search(file.stem):
                yield file


def request_key(source_name: str, source: bytes, workflow: bytes, options: dict) -> str:
    """What identifies a result: the picture's name and bytes, the workflow file and the options it was asked with."""
    digest = hashlib.sha256()
    for part in (source_name.encode("utf-8", "surrogateescape"), source, workflow, json.dumps(options, sort_keys=True).encode()):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def choose_target(target: Path, key: str, taken: set[Path]) -> tuple[Path, bool]:
    """`(path, done)` for a result: the first of NAME_restored.png, NAME_restored_2.png, ... that is free, or that
    already holds the complete result with this key (`done`). Paths in `taken` belong to other pictures of this call."""
    number = 1
    while True:
        tail = "_restored.png" if number == 1 else f"_restored_{number}.png"
        path = target.with_name(target.name + tail)
        if path not in taken:
            if not os.path.lexists(path):
                return path, False
            if read_key(path) == key:
                return path, True
        number += 1


def is_complete_png(data: bytes) -> bool:
    """Whether `data` begins and ends as a PNG file does."""
    return data.startswith(_PNG_HEAD) and data.endswith(_PNG_END)


def is_cut_off(data: bytes) -> bool:
    """Whether a PNG or JPEG file lacks its end mark: ComfyUI reads it all the same, with grey where rows are missing."""
    if data.startswith(_PNG_HEAD):
        return _PNG_END not in data
    return data.startswith(b"\xff\xd8\xff") and b"\xff\xd9" not in data[-65536:]


def with_key(png: bytes, key: str) -> bytes:
    """The PNG with the key in a text chunk before its end. Raises ValueError when it is no complete PNG."""
    if not is_complete_png(png):
        raise ValueError("the workflow's result is not a complete PNG file")
    body = b"tEXt" + _KEY_WORD + b"\0" + key.encode("latin-1")
    return png[:-len(_PNG_END)] + struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body)) + _PNG_END


def read_key(path: Path) -> str | None:
    """The key of a complete result file, None for any other file."""
    try:
        with open(path, "rb") as file:
            head = file.read(len(_PNG_HEAD))
            file.seek(-min(512, file.seek(0, os.SEEK_END)), os.SEEK_END)
            tail = file.read()
    except OSError:
        return None
    found = re.search(rb"tEXt" + _KEY_WORD + rb"\0([0-9a-f]{64})....\Z", tail[:-len(_PNG_END)], re.DOTALL)
    return found.group(1).decode() if found and head == _PNG_HEAD and tail.endswith(_PNG_END) else None


def part_key(key: str, number: int) -> str:
    """The key of the further picture `number` (1, 2, ...) of a result whose first picture has `key`."""
    return hashlib.sha256(f"{key} {number}".encode()).hexdigest()


def write_new(path: Path, data: bytes) -> None:
    """Write `data` to `path` at once, so that no half file is ever there under that name.

    Raises FileExistsError, and changes nothing, when something already has that name. Killed in between, it leaves
    nothing where the system knows files without a name (Linux, on most file systems), a `.partial` file elsewhere.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
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
                os.link(f"/proc/self/fd/{file.fileno()}", path.name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=True)
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
