"""Reads a file's metadata, which anybody can have written, and checks every value."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from ..models.calibration import Calibration, Ramp
from ..models.config import FIRST_KINDS
from ..models.family import FAMILIES, Family
from .shards import listed

KIND = re.compile(r"[a-z][a-z0-9_]{0,39}")
"""A degradation's name."""
MODES = ("paper", "official")
LARGEST = 4096
"""The largest whole number that a setting may have."""


def read_json(text: str, what: str) -> object:
    """Parse JSON. Raises ValueError that names `what` was read."""
    try:
        return json.loads(text)
    # Deeply nested JSON exceeds Python's recursion limit.
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"The metadata {what!r} of these weights is no JSON ({str(error)[:80]}). The file is damaged; "
            "get it again."
        ) from error


def read_settings(metadata: Mapping[str, str]) -> dict[str, object]:
    """The settings that `describe` wrote, or none. Raises ValueError for anything but a JSON object."""
    settings = read_json(metadata.get("settings", "{}"), "settings")
    if not isinstance(settings, dict):
        raise ValueError(
            f"The metadata 'settings' of these weights is a {type(settings).__name__}; expected a JSON "
            "object as save_weights writes it."
        )
    return settings


def whole(settings: Mapping[str, object], key: str, default: int, *, largest: int = LARGEST) -> int:
    """The setting `key`, a whole number in 1..`largest`. Raises ValueError for anything else."""
    return _whole(settings.get(key, default), key, largest)


def wholes(
    settings: Mapping[str, object], key: str, default: tuple[int, ...], *, largest: int
) -> tuple[int, ...]:
    """The setting `key`, as many whole numbers in 1..`largest` as `default` has. Raises ValueError for
    anything else.
    """
    values = settings.get(key, list(default))
    if not isinstance(values, list) or len(values) != len(default):
        raise ValueError(
            f"The setting {key} of these weights is {_shown(values)}; expected {len(default)} whole numbers."
        )
    return tuple(_whole(value, key, largest) for value in values)


def word(value: object, key: str, options: tuple[str, ...]) -> str:
    """One of `options`. Raises ValueError for anything else."""
    if not isinstance(value, str) or value not in options:
        raise ValueError(
            f"The setting {key} of these weights is {_shown(value)}; expected {' or '.join(options)}."
        )
    return value


def read_family(metadata: Mapping[str, str], default: Family) -> Family:
    """The family of weights, or `default` where they do not say. Weights up to the eleventh call it `scale`.

    Raises ValueError for an unknown family.
    """
    key = "family" if "family" in metadata else "scale"
    return FAMILIES[word(metadata.get(key, default.name), key, tuple(FAMILIES))]


def read_calibration(metadata: Mapping[str, str]) -> Calibration:
    """The calibration of weights. Values that they lack are those of the eleventh weights.

    Raises ValueError for anything but a JSON object of known names with values in range.
    """
    values = read_json(metadata.get("calibration", "{}"), "calibration")
    if not isinstance(values, dict):
        raise ValueError(
            f"The metadata 'calibration' of these weights is a {type(values).__name__}; expected a JSON "
            "object of numbers. "
            "The file is damaged; get it again."
        )
    known = {each.name: each.default for each in fields(Calibration)}
    unknown = values.keys() - known.keys()
    if unknown:
        raise ValueError(
            f"The calibration of these weights has names that this pack does not know: {listed(unknown)}. "
            "They were made for a newer version: update the pack, or get weights for this version."
        )
    pairs: dict[str, Any] = {
        key: Ramp(*value) if isinstance(known[key], Ramp) and _is_pair(value) else value
        for key, value in values.items()
    }
    try:
        return Calibration(**pairs)
    except ValueError as error:
        raise ValueError(
            f"The metadata of these weights is wrong: {error}. The file is damaged; get it again."
        ) from error


def _is_pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2


def read_kinds(metadata: Mapping[str, str], count: int) -> tuple[str, ...]:
    """The names of the `count` degradations that weights know, in the order of their rows.

    Weights of eight degradations may leave them out; they are `FIRST_KINDS` then. Raises ValueError for
    anything but a JSON list of `count` different names.
    """
    if "kinds" not in metadata and count == len(FIRST_KINDS):
        return FIRST_KINDS
    names = read_json(metadata.get("kinds", "[]"), "kinds")
    if (
        not isinstance(names, list)
        or not all(isinstance(name, str) and KIND.fullmatch(name) for name in names)
        or len(names) != count
        or len(set(names)) != count
    ):
        raise ValueError(
            f"The metadata 'kinds' of these weights is {_shown(names)}; expected the names of {count} kinds "
            "of damage."
        )
    return tuple(names)


def _whole(value: object, key: str, largest: int) -> int:
    # True and False are ints in Python.
    if type(value) is not int or not 1 <= value <= largest:
        raise ValueError(
            f"The setting {key} of these weights is {_shown(value)}; expected a whole number in 1..{largest}."
        )
    return value


def _shown(value: object) -> str:
    if isinstance(value, int) and value.bit_length() > 128:
        return f"a number of {value.bit_length()} bits"
    if isinstance(value, (list, dict)):
        return f"a {type(value).__name__} of {len(value)}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
