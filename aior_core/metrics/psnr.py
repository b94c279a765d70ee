"""Peak signal-to-noise ratio."""

from __future__ import annotations

import torch

from .protocol import prepare

CEILING_DB = 100.0


def psnr(
    picture: torch.Tensor, reference: torch.Tensor, *, border: int = 0, channel: str = "rgb"
) -> torch.Tensor:
    """PSNR in dB of each picture, shape `[B]`, float64 on the CPU; both `B 3 H W`, -1..1; the peak is the full range.

    -10 log10 of the mean squared error over all pixels and channels on the 0..1 scale. Equal pictures score 100 dB,
    not infinity, so that means stay finite. `border` and `channel` as in `protocol.prepare`, which also raises.
    """
    picture, reference = prepare(picture, reference, border=border, channel=channel)
    error = (picture - reference).square().mean((1, 2, 3))
    return -10.0 * torch.log10(error.clamp_min(10.0 ** (-CEILING_DB / 10.0)))
