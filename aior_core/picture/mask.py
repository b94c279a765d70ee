"""Masks as blending weights that rise softly inside the mask."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

FEATHER = 8
"""Width in pixels of a mask's soft border: one latent pixel, which is the finest step of a mask in a
sampler."""
EPSILON = 1e-12
"""Keeps a division by zero finite where there is no mask."""


def feathered(mask: Tensor, width: int = FEATHER) -> Tensor:
    """Blending weights that are 0 outside the mask and rise from its border inwards over `width` pixels.

    A weight is never above the mask. It is exactly 0 where the mask is 0, and exactly the mask's value from
    `width` pixels inside on. The border of the picture is not a border of the mask. In an area too narrow for
    the whole ramp the weight reaches the mask's value on the middle line, so that thin strokes count in full.
    A constant mask stays as it is.

    Takes and returns `B 1 H W`, 0..1.
    """
    # The mean of the mask and of its erosions by 1 .. width - 1 pixels is a ramp inside the mask.
    eroded, ramp = mask, mask.clone()
    for _ in range(width - 1):
        eroded = -_dilated(-eroded, 3)
        ramp += eroded
    ramp /= width
    # Relative to the ramp's highest value nearby, which is below the mask's in a narrow area.
    return mask * (ramp / _dilated(ramp, 2 * width - 1).clamp_(min=EPSILON))


def _dilated(x: Tensor, side: int) -> Tensor:
    """The largest value in a square of `side` (odd) pixels around each pixel, within the picture.

    Two passes of max pooling need one copy of the picture; `kornia.morphology.dilation` unfolds side²
    copies.
    """
    radius = side // 2
    return F.max_pool2d(F.max_pool2d(x, (side, 1), 1, (radius, 0)), (1, side), 1, (0, radius))
