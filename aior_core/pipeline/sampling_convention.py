"""How a sampler reads a denoiser: the time that it gives it for a noise level, and what it takes the output for.

The functions compare two objects with the methods of ComfyUI's `ModelSampling`: the one in use, `now`, and the one that the denoiser was
trained with, `trained`. Noise levels `sigma` are `1`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

TOLERANCE = 1e-3
"""Relative for times, absolute for predictions: rounding stays far below, every wrong reading far above."""
OTHER_UNITS = 10.0
"""Times that differ by this factor are in other units. No schedule for the same network moves them as far."""


def _times(now: nn.Module, trained: nn.Module, sigma: Tensor) -> tuple[float, float]:
    return float(now.timestep(sigma)), float(trained.timestep(sigma))


def other_units(now: nn.Module, trained: nn.Module, sigma: Tensor) -> bool:
    """Whether the denoiser gets far smaller times than in training."""
    told, wanted = _times(now, trained, sigma)
    return OTHER_UNITS * abs(told) < abs(wanted)


def read_otherwise(now: nn.Module, trained: nn.Module, sigma: Tensor) -> bool:
    """Whether the denoiser gets another time or another input, or its output counts as another prediction.

    The amount of noise that is added is not compared, because that is the user's choice (ModelNoiseScale).
    """
    told, wanted = _times(now, trained, sigma)
    if abs(told - wanted) > TOLERANCE * max(abs(wanted), 1.0):
        return True
    x, output = torch.randn(2, 1, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    pairs = (
        (now.calculate_input(sigma, x.clone()), trained.calculate_input(sigma, x.clone())),
        (now.calculate_denoised(sigma, output, x), trained.calculate_denoised(sigma, output, x)),
    )
    return not all(torch.allclose(a, b, atol=TOLERANCE) for a, b in pairs)
