"""What tells a result from other files: the key of what was asked for, in the file; and under which name it goes."""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
import zlib
from pathlib import Path

from .pictures import PNG_END, PNG_HEAD, Picture, find_pictures, is_cut_off

__all__ = [
    "Picture",
    "choose_target",
    "find_pictures",
    "is_complete_png",
    "is_cut_off",
    "part_key",
    "read_key",
    "request_key",
    "with_key",
]

RESULT_SUFFIXES = {"png": ".png", "jpg": ".jpg", "webp": ".webp", "tiff": ".tif"}
"""What the name of a result ends with, by the format."""

_KEY_WORD = b"aior_key"
_PLACEHOLDER = _KEY_WORD + b"=" + b"0" * 64  # what the writer of a result puts where its key goes


def request_key(source_name: str, source: bytes, workflow: bytes, options: dict) -> str:
    """What identifies a result: the picture's name and bytes, the workflow file and the options it was asked with."""
    digest = hashlib.sha256()
    for part in (
        source_name.encode("utf-8", "surrogateescape"),
        source,
        workflow,
        json.dumps(options, sort_keys=True).encode(),
    ):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def choose_target(
    target: Path, key: str, taken: set[Path], suffix: str = ".png", former: Path | None = None
) -> tuple[Path, bool]:
    """`(path, done)` for a result: the first of NAME_restored.png, NAME_restored_2.png, ... that is free, or that
    already holds the complete result with this key (`done`). Paths in `taken` belong to other pictures of this call.
    Under `former` a result is only looked for."""
    if former is not None:
        path, done = choose_target(former, key, taken, suffix)
        if done:
            return path, True
    number = 1
    while True:
        tail = f"_restored{suffix}" if number == 1 else f"_restored_{number}{suffix}"
        path = target.with_name(target.name + tail)
        if path not in taken:
            if not os.path.lexists(path):
                return path, False
            if read_key(path) == key:
                return path, True
        number += 1


def is_complete_png(data: bytes) -> bool:
    """Whether `data` begins and ends as a PNG file does."""
    return data.startswith(PNG_HEAD) and data.endswith(PNG_END)


def with_key(data: bytes, key: str) -> bytes:
    """A result with its key: in a text chunk before a PNG's end, in other files in the place that their writer left for it.
    Raises ValueError when it is no complete PNG and has no such place."""
    if is_complete_png(data):
        body = b"tEXt" + _KEY_WORD + b"\0" + key.encode("latin-1")
        return (
            data[: -len(PNG_END)]
            + struct.pack(">I", len(body) - 4)
            + body
            + struct.pack(">I", zlib.crc32(body))
            + PNG_END
        )
    if data.startswith(PNG_HEAD) or _PLACEHOLDER not in data:
        raise ValueError("the workflow's result is not a complete PNG file")
    return data.replace(_PLACEHOLDER, _KEY_WORD + b"=" + key.encode("latin-1"), 1)


def read_key(path: Path) -> str | None:
    """The key of a complete result file, None for any other file."""
    try:
        if not path.is_file():
            return None
        with open(path, "rb") as file:
            head = file.read(len(PNG_HEAD))
            if head != PNG_HEAD:
                return _key_of_others(head + file.read())
            file.seek(-min(512, file.seek(0, os.SEEK_END)), os.SEEK_END)
            tail = file.read()
    except OSError:
        return None
    found = re.search(rb"tEXt" + _KEY_WORD + rb"\0([0-9a-f]{64})....\Z", tail[: -len(PNG_END)], re.DOTALL)
    return found.group(1).decode() if found and tail.endswith(PNG_END) else None


def _key_of_others(data: bytes) -> str | None:
    """The key of a JPEG, WebP or TIFF. All three are written at once and whole."""
    found = re.search(_KEY_WORD + rb"=([0-9a-f]{64})", data)
    return found.group(1).decode() if found and not is_cut_off(data) else None


def part_key(key: str, number: int) -> str:
    """The key of the further picture `number` (1, 2, ...) of a result whose first picture has `key`."""
    return hashlib.sha256(f"{key} {number}".encode()).hexdigest()
