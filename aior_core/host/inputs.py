"""Numbers of a prompt: the host checks their ends, and NaN is neither below the one nor above the other."""

from __future__ import annotations

import math


def require_numbers(node: str, **values: float) -> None:
    """Raise ValueError naming the node and the input unless every value is a finite number."""
    for name, value in values.items():
        if not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ValueError(f"{node}: {name} is {str(value)[:60]}; expected a number.")
