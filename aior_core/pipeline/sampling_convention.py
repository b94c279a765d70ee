"""How a sampler reads a denoiser: the time that it gives it for a noise level, and what it takes the output
for.

The functions compare two objects with the methods of ComfyUI's `ModelSampling`: the one in use, `now`, and
the one that the denoiser was trained with, `trained`. Noise levels `sigma` are `1`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

TOLERANCE = 1e-3
"""Relative for times, absolute for predictions. Rounding stays far below it, and every wrong reading is far
above it."""
OTHER_UNITS = 10.0
"""Times that differ by this factor have other units. No schedule for the same network moves them as far."""


def _times(now: Any, trained: Any, sigma: Tensor) -> tuple[float, float]:
    return float(now.timestep(sigma)), float(trained.timestep(sigma))


def other_units(now: Any, trained: Any, sigma: Tensor) -> bool:
    """Whether the denoiser gets far smaller times than in training."""
    found, wanted = _times(now, trained, sigma)
    return OTHER_UNITS * abs(found) < abs(wanted)


def read_otherwise(now: Any, trained: Any, sigma: Tensor) -> bool:
    """Whether the denoiser gets another time or another input, or its output counts as another prediction.

    The amount of noise that is added is not compared, because that is the user's choice (ModelNoiseScale).
    """
    found, wanted = _times(now, trained, sigma)
    if abs(found - wanted) > TOLERANCE * max(abs(wanted), 1.0):
        return True
    x, output = torch.randn(2, 1, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    pairs = (
        (now.calculate_input(sigma, x.clone()), trained.calculate_input(sigma, x.clone())),
        (now.calculate_denoised(sigma, output, x), trained.calculate_denoised(sigma, output, x)),
    )
    return not all(torch.allclose(a, b, atol=TOLERANCE) for a, b in pairs)
