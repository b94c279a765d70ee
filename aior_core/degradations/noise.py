"""Sensor noise: Gaussian, signal-dependent (Poisson-Gauss), and grey (equal in all channels)."""

import torch

from .fields import stream

# Share of a Poisson-Gauss noise's variance that grows with the signal.
_SHOT_SHARE = 0.8


def add_noise(picture: torch.Tensor, params: dict, seed: int) -> torch.Tensor:
    """Add noise of ``params["sigma"]`` / 255 to ``picture`` (``B C H W``, 0..1); the caller clamps.

    "poisson" has the variance ``sigma^2 (0.2 + 0.8 * 2x)``, so that mid-grey carries exactly sigma: the Gaussian
    approximation of the Poisson-Gauss model (Foi et al., IEEE TIP 2008).
    """
    _, channels, height, width = picture.shape
    sigma = params["sigma"] / 255.0
    model = params["model"]
    drawn = 1 if model == "grey" else channels
    noise = torch.randn(drawn, height, width, generator=stream(seed)).to(picture)
    if model == "poisson":
        return picture + noise * sigma * (picture * (2.0 * _SHOT_SHARE) + (1.0 - _SHOT_SHARE)).clamp_min(0.0).sqrt()
    return picture + noise * sigma
