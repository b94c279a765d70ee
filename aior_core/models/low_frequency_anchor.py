"""What the anchor of DAEM's output is made of: how far a degradation counts, and the low frequencies that it gives back."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .clipping import unclipped

ANCHOR_CELL = 8
ANCHOR_REACH = 3 * ANCHOR_CELL
"""The cell itself, its neighbours in the blur, and theirs in the interpolation."""
ANCHOR_GAIN = 10.0
"""Nine numbers that must find their place within a training of hundreds of steps: they learn ten times as fast as others."""


def low_frequency_correction(lq: Tensor, repaired: Tensor, sigma: Tensor) -> Tensor:
    """What brings the low frequencies of a repaired picture back to those of the damaged one, as they were before its noise was clipped.

    They are what varies over some 20 pixels and more. `B C H W` each, -1..1, sides multiples of 8, and `sigma` `B 1 1 1` of the noise in a picture
    of 0..1, 0 for none. Looks `ANCHOR_REACH` pixels far.
    """
    tones = (_coarse(lq).float() + 1) / 2
    taken = 2 * torch.where(sigma > 0, unclipped(tones, sigma) - tones, 0.0)
    return F.interpolate(
        _coarse(lq - repaired) + taken.to(lq), scale_factor=ANCHOR_CELL, mode="bilinear", align_corners=False
    )


def _coarse(x: Tensor) -> Tensor:
    """Means of cells, blurred, `B C H W` -> `B C H/8 W/8`."""
    coarse = F.avg_pool2d(x, ANCHOR_CELL)
    taps = torch.tensor([1.0, 2.0, 1.0], dtype=x.dtype, device=x.device) / 4
    # Every channel a picture of its own: the gradients of depth-wise convolutions are slow on some GPUs.
    padded = F.pad(coarse, (1, 1, 1, 1), mode="replicate").flatten(0, 1)[:, None]
    return F.conv2d(padded, torch.outer(taps, taps)[None, None]).reshape(coarse.shape)
