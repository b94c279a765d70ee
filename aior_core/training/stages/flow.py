"""Rectified flow (Liu et al. 2023, arXiv 2209.03003): what the denoiser learns to predict."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import distributed

PURE_NOISE = 0.2
"""Share of samples at sigma 1, where sampling in one step starts."""


def noised(latent: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Latents `B C h w` at random noise levels -> x = (1 - sigma) x0 + sigma noise, sigma `B` in 0..1, and
    the velocity noise - x0.

    Sigma is logit-normal (Esser et al. 2024, arXiv 2403.03206, section 3.1), or 1 for `PURE_NOISE` of the
    samples.
    """
    noise = distributed.normal(latent.shape, generator, latent.device).to(latent)
    sigma = torch.sigmoid(distributed.normal((len(latent),), generator))
    pure = distributed.uniform((len(latent),), generator) < PURE_NOISE
    sigma = torch.where(pure, torch.ones_like(sigma), sigma).to(latent)
    x = (1 - sigma[:, None, None, None]) * latent + sigma[:, None, None, None] * noise
    return x, sigma, noise - latent
