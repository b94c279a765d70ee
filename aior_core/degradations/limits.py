"""Checks of what a recipe brings: it is text that anybody can have written, and a blur of 10^9 pixels would take all memory."""

from __future__ import annotations

import math

ANGLE = (-3600.0, 3600.0)
SHARE = (0.0, 1.0)
SMALL = (0.0, 10.0)
MOST_STEPS = 64
MOST_NUMBERS = 512
"""In one parameter that is a list."""
LARGEST_SEED = 2**63 - 1


def require_number(kind: str, name: str, value: object, ends: tuple, *, color: bool = False, many: bool = False) -> None:
    """Raise ValueError unless `value` is a number within `ends`; a `color` is three such, and `many` may be a list of them, nested or not."""
    low, high = ends
    numbers = [value]
    if color:
        numbers = value if isinstance(value, (list, tuple)) and len(value) == 3 else []
    elif many:
        numbers = _flat(value)
    if (not numbers and not many) or not all(_number(x) and low <= x <= high for x in numbers):
        expected = f"{'three numbers' if color else 'numbers' if many else 'a number'} in {low:g}..{high:g}"
        raise ValueError(f"degradations: {name} of {kind} is {str(value)[:60]}; expected {expected}")


def require_choice(kind: str, name: str, value: object, options: tuple) -> None:
    """Raise ValueError unless `value` is one of `options`."""
    if not any(type(value) is type(option) and value == option for option in options):
        listed = ", ".join(map(str, options))
        raise ValueError(f"degradations: {name} of {kind} is {str(value)[:60]!r}; expected one of {listed}")


def require_seed(seed: object, what: str) -> None:
    """Raise ValueError unless `seed` is a whole number that a generator takes."""
    if type(seed) is not int or not 0 <= seed <= LARGEST_SEED:
        raise ValueError(f"degradations: the seed of {what} is {str(seed)[:60]}; expected a whole number in 0..{LARGEST_SEED}")


def _flat(value: object, depth: int = 3) -> list:
    """The numbers of a list of lists; the value itself where it is none. Too many, or too deep: one that is no number."""
    if not isinstance(value, (list, tuple)):
        return [value]
    flat = [x for part in value for x in _flat(part, depth - 1)] if depth > 0 and len(value) <= MOST_NUMBERS else [None]
    return flat if len(flat) <= MOST_NUMBERS else [None]


def _number(x: object) -> bool:
    return isinstance(x, (int, float)) and not isinstance(x, bool) and math.isfinite(x)
