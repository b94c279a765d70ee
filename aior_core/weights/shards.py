"""File names of a set of weights: `STEM.safetensors`, or `STEM-00001-of-00003.safetensors` and so on."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

SUFFIX = ".safetensors"
LISTED = 8
"""The most keys that a message lists."""
MOST_SHARDS = 1000
LONGEST = 100
"""The most characters of a key in a message."""
_SHARD = re.compile(r"^(?P<stem>.+)-(?P<index>\d{5})-of-(?P<count>\d{5})\.safetensors$")


def listed(keys: Iterable[str]) -> str:
    """Keys for a message, sorted: "a, b and 3 more". Keys that cannot be printed are escaped, and long ones
    cut.
    """
    keys = sorted(keys)
    more = f" and {len(keys) - LISTED} more" if len(keys) > LISTED else ""
    return f"{', '.join(map(_printable, keys[:LISTED]))}{more}"


def _printable(key: str) -> str:
    shown = key if len(key) <= LONGEST else f"{key[:LONGEST]}..."
    return shown if shown.isprintable() else ascii(shown)


def shard_name(stem: str, index: int, count: int) -> str:
    """The file name of shard `index`, from 1, of `count`. A set of one file has no number."""
    return f"{stem}{SUFFIX}" if count == 1 else f"{stem}-{index:05d}-of-{count:05d}{SUFFIX}"


def siblings(path: Path) -> list[Path]:
    """All files of the set that `path` belongs to, in order, whether they exist or not.

    Empty for a shard number beyond the count, or a count above `MOST_SHARDS`.
    """
    match = _SHARD.match(path.name)
    if match is None:
        return [path]
    count = int(match["count"])
    if not 1 <= int(match["index"]) <= count <= MOST_SHARDS:
        return []
    return [path.with_name(shard_name(match["stem"], index, count)) for index in range(1, count + 1)]


def is_first(name: str) -> bool:
    """Whether a file name represents its set in lists: a single file, or the first shard."""
    match = _SHARD.match(name)
    return match is None or int(match["index"]) == 1


def stem_of(name: str) -> str:
    """The stem of a set from the name of one of its files."""
    match = _SHARD.match(name)
    return match["stem"] if match else name.removesuffix(SUFFIX)
