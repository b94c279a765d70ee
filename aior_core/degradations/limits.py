"""Ends of every parameter: a recipe is text that anybody can have written, and a blur of 10^9 pixels would take all memory."""

from __future__ import annotations

import math

ANGLE = (-3600.0, 3600.0)
SHARE = (0.0, 1.0)
SMALL = (0.0, 10.0)
LIMITS = {
    "noise": {"sigma": (0.0, 1000.0)},
    "blur": {"sigma": (0.0, 32.0), "angle": ANGLE, "bend": SMALL},
    "low_resolution": {"scale": (1.0, 64.0)},
    "rain": {"amount": (0.0, 4.0), "length": (4.0, 200.0), "width": (0.05, 10.0), "angle": ANGLE, "veil": SHARE, "light": SMALL},
    "snow": {"amount": (0.0, 4.0), "size": (0.25, 4.0), "wind": ANGLE, "veil": SHARE, "light": SMALL},
    "haze": {"beta": (0.0, 50.0), "light": SMALL, "angle": ANGLE, "slope": SMALL, "rough": SMALL, "cue": SMALL},
    "low_light": {"stops": (0.0, 50.0), "contrast": SMALL, "tint": SMALL, "shot": SMALL, "read": SMALL},
    "jpeg": {"quality": (1.0, 100.0)},
}
COLORS = {("haze", "light"), ("low_light", "tint")}
MOST_STEPS = 64
LARGEST_SEED = 2**63 - 1


def require_values(kind: str, params: dict, choices: dict[str, tuple]) -> None:
    """Raise ValueError unless every parameter of `LIMITS` is a number within them (a colour three), and what can be chosen is one of `choices`."""
    for name, (low, high) in LIMITS[kind].items():
        value = params[name]
        numbers = value if (kind, name) in COLORS and isinstance(value, (list, tuple)) and len(value) == 3 else [value]
        if (kind, name) in COLORS and len(numbers) != 3 or not all(_number(x) and low <= x <= high for x in numbers):
            expected = f"{'three numbers' if (kind, name) in COLORS else 'a number'} in {low:g}..{high:g}"
            raise ValueError(f"degradations: {name} of {kind} is {str(value)[:60]}; expected {expected}")
    for name, options in choices.items():
        if name in params and params[name] not in options:
            raise ValueError(f"degradations: {name} of {kind} is {str(params[name])[:60]!r}; expected one of {', '.join(options)}")


def require_seed(seed: object, what: str) -> None:
    """Raise ValueError unless `seed` is a whole number that a generator takes."""
    if type(seed) is not int or not 0 <= seed <= LARGEST_SEED:
        raise ValueError(f"degradations: the seed of {what} is {str(seed)[:60]}; expected a whole number in 0..{LARGEST_SEED}")


def _number(x: object) -> bool:
    return isinstance(x, (int, float)) and not isinstance(x, bool) and math.isfinite(x)
