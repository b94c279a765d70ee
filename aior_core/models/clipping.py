"""What clipping to black and white takes of noisy tones: dark ones look lighter than they are, light ones darker.

Not of the paper. A file holds no value below black, so the mean of a noisy black is none: with noise of sigma 50 (of 255) it lies 20 above.
How much that is follows from the noise alone, and so it can be undone: of Gaussian noise exactly, of noise that depends on the signal nearly.
All 22 validation pictures, clipped, 0 steps, with an anchor that holds the more for it: sigma 15 +0.07 dB, 25 +0.13, 50 +0.34. Noise that is not
clipped moves no mean; a picture with values beyond black or white is left as it is.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

WORST_SIGMA = 60 / 255
"""Of noise with severity 1 (`degradations.kinds`)."""
SMALLEST_SIGMA = 1e-4
"""Below it nothing is to be undone."""
NEWTON_STEPS = 5
FLATTEST = 0.3
"""The curve to be inverted has a slope of 0.5 at black and white, and less only beyond them."""


def noise_sigma(severities: Tensor, underestimate: float) -> Tensor:
    """Estimated severities of clipped noise, any shape, 0..1 -> its sigma in a picture of 0..1.

    underestimate: the true sigma over the estimated one (`Calibration.noise_underestimate`).
    """
    return underestimate * WORST_SIGMA * severities


def clipped_mean(tone: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of `clip(tone + sigma * N(0, 1), 0, 1)`, and its slope by `tone`; any shapes that broadcast."""
    below, above = -tone / sigma, (1 - tone) / sigma
    slope = _normal(above) - _normal(below)
    return tone * slope + sigma * (_density(below) - _density(above)) + 1 - _normal(above), slope


def unclipped(seen: Tensor, sigma: Tensor) -> Tensor:
    """The tones 0..1 whose noisy, clipped means are `seen`, by Newton's method; any shapes that broadcast, fp32."""
    seen, sigma = seen.float(), sigma.float().clamp_min(SMALLEST_SIGMA)
    tone = seen.clamp(0, 1)
    for _ in range(NEWTON_STEPS):
        mean, slope = clipped_mean(tone, sigma)
        tone = (tone + (seen - mean) / slope.clamp_min(FLATTEST)).clamp(0, 1)
    return tone


def _normal(z: Tensor) -> Tensor:
    return 0.5 * (1 + torch.erf(z / math.sqrt(2)))


def _density(z: Tensor) -> Tensor:
    return torch.exp(-0.5 * z.square()) / math.sqrt(2 * math.pi)
