"""The frames of a video: what is judged of whole pictures, averaged over neighbouring frames, so that it does not flicker."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from .prior import Prior


def over_time(x: Tensor, radius: int) -> Tensor:
    """`B ...`, a row per frame -> the same, each row a mean of those up to `radius` frames away, nearer ones counting more (a triangle).

    At the ends only the frames that there are count.
    """
    if radius <= 0 or len(x) == 1:
        return x
    at = torch.arange(len(x), device=x.device)
    weights = (1 + radius - (at[:, None] - at[None]).abs()).clamp(min=0).to(x)
    return ((weights / weights.sum(dim=1, keepdim=True)) @ x.flatten(1)).reshape(x.shape)


def smooth_over_time(prior: Prior, radius: int) -> Prior:
    """The prior with severities and probabilities of its frames averaged; DAEM averages its picture-wide contexts by `prior.smooth`.

    Features and maps stay as they are: they hold places, which move. Raises ValueError for a radius below 0.
    """
    if radius < 0:
        raise ValueError(f"Encode Degradation Prior: smooth is {radius}; expected a number of frames, 0 for none.")
    if radius == 0:
        return prior
    return replace(prior, severities=over_time(prior.severities, radius), probabilities=over_time(prior.probabilities, radius), smooth=radius)
