"""The mean tones of noisy pictures before clipping (ours; docs/method.md, section 7.1).

A file holds no values below black or above white. Clipping therefore makes the mean of noisy dark tones
lighter, and that of light tones darker: black with noise of sigma 50 (of 255) has a mean of 20. The shift
depends only on the tone and on sigma, so it can be inverted: exactly for Gaussian noise, nearly for noise
that depends on the signal. On the 22 validation pictures, clipped and at 0 steps, that gains 0.07 dB at sigma
15, 0.13 dB at 25 and 0.34 dB at 50. Noise that is not clipped does not move the mean, so pictures with values
beyond black or white are left as they are.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

WORST_SIGMA = 60 / 255
"""Sigma of noise with severity 1 (`degradations.kinds.noise`), for a picture of 0..1."""
SMALLEST_SIGMA = 1e-4
"""Smaller sigmas are raised to this, where clipping shifts nothing."""
NEWTON_STEPS = 5
MIN_SLOPE = 0.3
"""Least slope in Newton's method. The curve to invert has a slope of 0.5 at black and white, and less only
beyond."""


def noise_sigma(severities: Tensor, underestimate: float) -> Tensor:
    """Estimated severities of clipped noise, any shape, 0..1 -> its sigma in a picture of 0..1.

    underestimate: the true sigma over the estimated one (`Calibration.noise_underestimate`).
    """
    return underestimate * WORST_SIGMA * severities


def clipped_mean(tone: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of `clip(tone + sigma * N(0, 1), 0, 1)`, and its derivative by `tone`; any shapes that
    broadcast.
    """
    below, above = -tone / sigma, (1 - tone) / sigma
    slope = _normal(above) - _normal(below)
    return tone * slope + sigma * (_density(below) - _density(above)) + 1 - _normal(above), slope


def unclipped(seen: Tensor, sigma: Tensor) -> Tensor:
    """The tones in 0..1 whose means after noise and clipping are `seen`; any shapes that broadcast, fp32."""
    seen, sigma = seen.float(), sigma.float().clamp_min(SMALLEST_SIGMA)
    tone = seen.clamp(0, 1)
    for _ in range(NEWTON_STEPS):
        mean, slope = clipped_mean(tone, sigma)
        tone = (tone + (seen - mean) / slope.clamp_min(MIN_SLOPE)).clamp(0, 1)
    return tone


def _normal(z: Tensor) -> Tensor:
    return 0.5 * (1 + torch.erf(z / math.sqrt(2)))


def _density(z: Tensor) -> Tensor:
    return torch.exp(-0.5 * z.square()) / math.sqrt(2 * math.pi)
