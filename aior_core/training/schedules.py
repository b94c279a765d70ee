"""How the learning rate goes, as a factor of the stage's own: functions of the share of the time used, the step and `decay_share`."""

from __future__ import annotations

import math
from collections.abc import Callable

WARM_UP = 100
LONG_WARM_UP = 300
LEAST = 0.02

Schedule = Callable[[float, int, float], float]


def falling(progress: float, step: int, decay_share: float) -> float:
    """Warm-up by steps, then constant, then 1 - sqrt over the last `decay_share` of the time."""
    warm = min(1.0, (step + 1) / WARM_UP)
    if progress <= 1 - decay_share:
        return warm
    return warm * max(LEAST, 1 - math.sqrt((progress - 1 + decay_share) / decay_share))


def cosine(progress: float, step: int, decay_share: float) -> float:
    """UniLDiff's (unildiff.md 5.1): a warm-up of 300 steps, then half a cosine over the whole time; `decay_share` says nothing here."""
    return min(1.0, (step + 1) / LONG_WARM_UP) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
