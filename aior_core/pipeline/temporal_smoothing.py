"""The frames of a video: what is judged of whole pictures, averaged over neighbouring frames, so that it does not flicker."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from .prior import Prior

LEAST = 1e-12
"""What is divided by where no frame counts."""


def over_time(x: Tensor, radius: int, share: Tensor | None = None) -> Tensor:
    """`B ...`, a row per frame -> the same, each row a mean of those up to `radius` frames away, nearer ones counting more (a triangle).

    At the ends only the frames that exist count. share: `B`, 0 or more, an extra weight per frame (default:
    1). Differences to the row itself are averaged, in fp32 at least: constant rows stay bit for bit, in every
    dtype.
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
    """The prior with its estimate averaged over frames: severities, probabilities, haze and clipping.

    DAEM averages its statistics of the features and its tone curves by `prior.smooth`. So everything is
    averaged once, and steering never. Features and maps stay as they are: they hold places, which move.
    Raises ValueError for a radius below 0.
    """
    if radius < 0:
        raise ValueError(
            f"Encode Degradation Prior: smooth is {radius}; expected a number of frames, 0 for none."
        )
    if radius == 0:
        return prior
    global_statistics = prior.global_statistics
    if global_statistics is not None:
        hazy, clipped = (
            over_time(rows, radius) for rows in (global_statistics.hazy, global_statistics.clipped)
        )
        global_statistics = replace(global_statistics, hazy=hazy, clipped=clipped)
    severities, probabilities = (over_time(rows, radius) for rows in (prior.severities, prior.probabilities))
    averaged = {
        "severities": severities,
        "probabilities": probabilities,
        "global_statistics": global_statistics,
    }
    return replace(prior, **averaged, smooth=radius)
