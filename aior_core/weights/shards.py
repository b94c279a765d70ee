"""How a set of weights is named on disk: `STEM.safetensors`, or `STEM-00001-of-00003.safetensors` and its
siblings."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

SUFFIX = ".safetensors"
LISTED = 8
MOST_SHARDS = 1000
LONGEST = 100
_SHARD = re.compile(r"^(?P<stem>.+)-(?P<index>\d{5})-of-(?P<count>\d{5})\.safetensors$")


def listed(keys: Iterable[str]) -> str:
    """Keys for a message, sorted, the first few of many: "a, b and 3 more". What cannot be printed is spelt
    out, what is endless cut.
    """
    keys = sorted(keys)
    more = f" and {len(keys) - LISTED} more" if len(keys) > LISTED else ""
    return f"{', '.join(map(_printable, keys[:LISTED]))}{more}"


def _printable(key: str) -> str:
    shown = key if len(key) <= LONGEST else f"{key[:LONGEST]}..."
    return shown if shown.isprintable() else ascii(shown)


def shard_name(stem: str, index: int, count: int) -> str:
    """File name of shard `index` (from 1) of `count`; a set of one has no number."""
    return f"{stem}{SUFFIX}" if count == 1 else f"{stem}-{index:05d}-of-{count:05d}{SUFFIX}"


def siblings(path: Path) -> list[Path]:
    """All files of the set that `path` belongs to, in order, whether they exist or not; none for a number
    beyond the count, or more than there can be.
    """
    match = _SHARD.match(path.name)
    if match is None:
        return [path]
    count = int(match["count"])
    if not 1 <= int(match["index"]) <= count <= MOST_SHARDS:
        return []
    return [path.with_name(shard_name(match["stem"], index, count)) for index in range(1, count + 1)]


def is_first(name: str) -> bool:
    """Whether a file name stands for its set in a list: a single file, or the first shard."""
    match = _SHARD.match(name)
    return match is None or int(match["index"]) == 1


def stem_of(name: str) -> str:
    """The stem that a file name of a set was made from."""
    match = _SHARD.match(name)
    return match["stem"] if match else name.removesuffix(SUFFIX)
