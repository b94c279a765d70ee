"""Learning rate schedules, as factors of a stage's own rate.

Runs are bounded by time, not by steps. So a schedule is a function of the share of the time that is over,
which the step counters of `torch.optim.lr_scheduler` cannot express.
"""

from __future__ import annotations

import math
from collections.abc import Callable

WARM_UP = 100
LONG_WARM_UP = 300
LEAST = 0.02

Schedule = Callable[[float, int, float], float]
"""`schedule(progress, step, decay_share)` -> the factor: `progress` is the share of the time that is over,
0..1, `step` counts from 0, and `decay_share` is the last part of the time, in which the rate falls, 0..1."""


def constant_then_sqrt(progress: float, step: int, decay_share: float) -> float:
    """A linear warm-up over 100 steps, a constant rate, then 1 - sqrt(x) over the last `decay_share` of the
    time (Haegele et al. 2024, arXiv 2405.18392), but at least 0.02."""
    warm = min(1.0, (step + 1) / WARM_UP)
    if progress <= 1 - decay_share:
        return warm
    return warm * max(LEAST, 1 - math.sqrt((progress - 1 + decay_share) / decay_share))


def cosine(progress: float, step: int, decay_share: float) -> float:
    """The schedule of UniLDiff's published scripts: a warm-up over 300 steps, and half a cosine over the
    whole time. `decay_share` is not used."""
    return min(1.0, (step + 1) / LONG_WARM_UP) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
