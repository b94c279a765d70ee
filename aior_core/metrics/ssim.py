"""Structural similarity."""

from __future__ import annotations

import torch

from .protocol import prepare

WINDOW = 11


def ssim(
    picture: torch.Tensor, reference: torch.Tensor, *, border: int = 0, channel: str = "rgb"
) -> torch.Tensor:
    """SSIM of each picture, shape `[B]`, float64 on the CPU; both `B 3 H W`, -1..1.

    Gaussian window of 11 pixels, sigma 1.5, only where the window fits, mean over pixels and channels: Wang et al. 2004
    as MATLAB and BasicSR compute it. `border` and `channel` as in `protocol.prepare`, which also raises;
    ValueError too if less than 11 pixels are left on a side.
    """
    from kornia.metrics import ssim as ssim_map

    picture, reference = prepare(picture, reference, border=border, channel=channel)
    if min(picture.shape[-2:]) < WINDOW:
        raise ValueError(
            f"ssim: {tuple(picture.shape[-2:])} pixels are left after the border; at least {WINDOW}x{WINDOW} are needed."
        )
    # eps is kornia's own addition to the denominator; without it the numbers are the paper's.
    return ssim_map(picture, reference, WINDOW, max_val=1.0, eps=0.0, padding="valid").mean((1, 2, 3))
