"""Videos: estimates of whole frames are averaged over neighbouring frames, so that results do not flicker."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from .prior import Prior

LEAST = 1e-12
"""The divisor where no frame has weight."""


def over_time(x: Tensor, radius: int, share: Tensor | None = None) -> Tensor:
    """A weighted mean over time of `x`, `B ...`, one row per frame: weights fall linearly to 0 at `radius` +
    1 frames. Same shape and dtype.

    At the ends, only existing frames count. share: an extra weight per frame, `B`, 0 or more (default: 1).
    The function averages differences to the row itself, in fp32 or wider, so that constant rows do not change
    in any dtype.
    """
    if radius <= 0 or len(x) == 1:
        return x
    rows = x.reshape(len(x), -1).to(torch.promote_types(x.dtype, torch.float32))
    share = rows.new_ones(len(rows), 1) if share is None else share.to(rows)[:, None]
    total, weights = torch.zeros_like(rows), (1 + radius) * share
    for apart in range(1, min(radius, len(rows) - 1) + 1):
        weight, difference = 1 + radius - apart, rows[apart:] - rows[:-apart]
        total[:-apart] += weight * share[apart:] * difference
        total[apart:] -= weight * share[:-apart] * difference
        weights[:-apart] += weight * share[apart:]
        weights[apart:] += weight * share[:-apart]
    return (rows + total / weights.clamp(min=LEAST)).reshape(x.shape).to(x.dtype)


def smooth_over_time(prior: Prior, radius: int) -> Prior:
    """The prior with its estimate averaged over frames: severities, probabilities, and the statistics for
    haze and clipping.

    The decoder averages its statistics of features and its tone curves by `prior.smooth`, so everything is
    averaged exactly once. Steering is never averaged, nor are features and maps: they belong to places, which
    move.

    Raises ValueError for a radius below 0.
    """
    if radius < 0:
        raise ValueError(f"smooth is {radius}; expected a number of frames, 0 for none.")
    if radius == 0:
        return prior
    global_statistics = prior.global_statistics
    if global_statistics is not None:
        hazy, clipped = (
            over_time(rows, radius) for rows in (global_statistics.hazy, global_statistics.clipped)
        )
        global_statistics = replace(global_statistics, hazy=hazy, clipped=clipped)
    severities, probabilities = (over_time(rows, radius) for rows in (prior.severities, prior.probabilities))
    return replace(
        prior,
        severities=severities,
        probabilities=probabilities,
        global_statistics=global_statistics,
        smooth=radius,
    )
