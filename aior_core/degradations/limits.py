"""Checks of the numbers in a recipe.

A recipe is text that anybody can have written, and a blur of 10^9 pixels would take all memory.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

ANGLE = (-3600.0, 3600.0)
SHARE = (0.0, 1.0)
SMALL = (0.0, 10.0)
MOST_STEPS = 64
MOST_NUMBERS = 512
"""Largest number of numbers in one parameter that is a list, and in all of a nested parameter."""
MOST_DEPTH, LONGEST_WORD = 6, 40
"""Deepest nesting and longest word in a camera's parameters, which are nested dicts."""
LARGEST_SEED = 2**63 - 1


def require_number(
    kind: str, name: str, value: object, ends: tuple, *, color: bool = False, many: bool = False
) -> None:
    """Raise ValueError unless `value` is a number within `ends`.

    A `color` is three such numbers. With `many` it may also be a list of them, nested or not.
    """
    low, high = ends
    numbers: list = [value]
    if color:
        numbers = list(value) if isinstance(value, (list, tuple)) and len(value) == 3 else []
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
        raise ValueError(
            f"degradations: the seed of {what} is {str(seed)[:60]}; expected a whole number in "
            f"0..{LARGEST_SEED}"
        )


def require_tree(tree: object, limits: Mapping, what: str) -> None:
    """Raise ValueError unless `tree` is made of dicts, lists, short words and finite numbers.

    There may be only so many of them, and not nested too deep. limits: the ends of numbers by the name under
    which the number, or the list that holds it, stands. All other numbers must be within -1e5..1e5.
    """
    count = _require_branch(tree, limits, what, (-1e5, 1e5), what, MOST_DEPTH)
    if count > MOST_NUMBERS:
        raise ValueError(
            f"degradations: {what} has {count} numbers and words; at most {MOST_NUMBERS} are possible"
        )


def _require_branch(tree: object, limits: Mapping, name: str, ends: tuple, what: str, depth: int) -> int:
    """Check one branch, whose numbers must be within `ends`, and return how many leaves it has."""
    if isinstance(tree, (dict, list, tuple)) and (depth == 0 or len(tree) > MOST_NUMBERS):
        raise ValueError(f"degradations: {name} of {what} holds too much, or is nested too deep")
    if isinstance(tree, dict):
        parts = [(str(key)[:40], value, limits.get(key, (-1e5, 1e5))) for key, value in tree.items()]
    elif isinstance(tree, (list, tuple)):
        parts = [(name, value, ends) for value in tree]
    else:
        sound = tree is None or isinstance(tree, bool) or isinstance(tree, str) and len(tree) <= LONGEST_WORD
        if not sound and not (_number(tree) and ends[0] <= tree <= ends[1]):
            raise ValueError(
                f"degradations: {name} of {what} is {str(tree)[:60]}; expected a number in "
                f"{ends[0]:g}..{ends[1]:g}"
            )
        return 1
    return sum(_require_branch(value, limits, key, of_part, what, depth - 1) for key, value, of_part in parts)


def _flat(value: object, depth: int = 3) -> list:
    """Return the numbers of a nested list, or the value itself in a list of one.

    A list that is too long or too deep gives something that is no number, so that the caller refuses it.
    """
    if not isinstance(value, (list, tuple)):
        return [value]
    flat = (
        [x for part in value for x in _flat(part, depth - 1)]
        if depth > 0 and len(value) <= MOST_NUMBERS
        else [None]
    )
    return flat if len(flat) <= MOST_NUMBERS else [None]


def _number(x: object) -> bool:
    return isinstance(x, (int, float)) and not isinstance(x, bool) and math.isfinite(x)
