"""Low frequencies for DAEM's output, taken from the damaged picture (ours; docs/method.md, section 7.1).

Noise, blur, low resolution and JPEG leave the low frequencies of a picture as they are. DAEM's anchor says
how much of them the result takes from the damaged picture.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .clipping import unclipped

ANCHOR_CELL = 8
"""Sides of the cells, in pixels, whose means are the low frequencies."""
ANCHOR_REACH = 3 * ANCHOR_CELL
"""How many pixels `low_frequency_correction` looks to either side: a cell, the blur's neighbour and the
interpolation's."""
ANCHOR_GAIN = 10.0
"""Factor on the anchor's few weights. It makes them learn ten times as fast as others, because they must
converge within hundreds of steps."""


def low_frequency_correction(lq: Tensor, repaired: Tensor, sigma: Tensor) -> Tensor:
    """What to add to a repaired picture so that it has the low frequencies of the damaged one, `B C H W`.

    Low frequencies vary over about 20 pixels and more. Those of the damaged picture are corrected for clipped
    noise (`clipping.unclipped`).
    lq, repaired: `B C H W` in -1..1, sides multiples of 8. sigma: `B 1 1 1`, that of the noise in a picture
    of 0..1; 0 where there is none. Each pixel depends on `ANCHOR_REACH` pixels to either side.
    """
    tones = (_coarse(lq).float() + 1) / 2
    clipped_away = 2 * torch.where(sigma > 0, unclipped(tones, sigma) - tones, 0.0)
    return F.interpolate(
        _coarse(lq - repaired) + clipped_away.to(lq),
        scale_factor=ANCHOR_CELL,
        mode="bilinear",
        align_corners=False,
    )


def _coarse(x: Tensor) -> Tensor:
    """Means of cells with a 3x3 binomial blur, `B C H W` -> `B C H/8 W/8`."""
    coarse = F.avg_pool2d(x, ANCHOR_CELL)
    taps = torch.tensor([1.0, 2.0, 1.0], dtype=x.dtype, device=x.device) / 4
    # Channels go into the batch, because depth-wise convolutions have slow gradients on some GPUs.
    padded = F.pad(coarse, (1, 1, 1, 1), mode="replicate").flatten(0, 1)[:, None]
    return F.conv2d(padded, torch.outer(taps, taps)[None, None]).reshape(coarse.shape)
