"""Recognises results of earlier calls by a key in the file, and chooses names for new results.

The key is a hash of the picture, the workflow and the options.
"""

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
"""Suffix of the results by format."""

_KEY_WORD = b"aior_key"
# The writer of a result puts this where the key goes.
_PLACEHOLDER = _KEY_WORD + b"=" + b"0" * 64


def request_key(source_name: str, source: bytes, workflow: bytes, options: dict) -> str:
    """The key of a result: a hash of the picture's name and bytes, the workflow file and the options."""
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
    """`(path, done)` for a result. `done` tells that the file at `path` is the complete result with this key.

    `path` is the first of NAME_restored.png, NAME_restored_2.png, ... that is free or done. Paths in `taken`
    belong to other pictures of this call. Under `former` only a result that is done is looked for.
    """
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
    """Whether `data` has the beginning and the end of a PNG file."""
    return data.startswith(PNG_HEAD) and data.endswith(PNG_END)


def with_key(data: bytes, key: str) -> bytes:
    """The result file `data` with its key.

    In a PNG the key is a text chunk before the end. In other formats it replaces the placeholder that the
    writer left. Raises ValueError for a file that is no complete PNG and has no placeholder.
    """
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
    """The key of a complete result file; None for any other file."""
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
    """The key of a JPEG, WebP or TIFF; None for any other file, and for a JPEG that is cut off."""
    found = re.search(_KEY_WORD + rb"=([0-9a-f]{64})", data)
    return found.group(1).decode() if found and not is_cut_off(data) else None


def part_key(key: str, number: int) -> str:
    """The key of picture `number` (1, 2, ...) after the first of a result. The first one has `key`."""
    return hashlib.sha256(f"{key} {number}".encode()).hexdigest()
