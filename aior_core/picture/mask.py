"""Masks as blending weights: a soft border inside the mask, nothing outside of it."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

FEATHER = 8
"""Width in pixels of a mask's soft border: one latent pixel, the step in which a sampler sees the mask."""
LEAST = 1e-12
"""Keeps a division finite where there is no mask."""


def feathered(mask: Tensor, width: int = FEATHER) -> Tensor:
    """Mask `B 1 H W`, 0..1 -> weights `B 1 H W`, 0..1, that rise from the mask's border inwards.

    They rise over `width` pixels. A weight is never above the mask. It is exactly 0 where the mask is 0, and
    exactly the mask from `width` pixels inside on. The picture's own border is no border of the mask. An area
    too narrow for the whole ramp reaches the mask's value on its middle line, so that thin strokes count in
    full. A constant mask stays as it is.
    """
    shrunk, depth = mask, mask.clone()
    for _ in range(width - 1):
        shrunk = -_largest(-shrunk, 3)
        depth += shrunk
    depth /= width
    # Relative to the deepest point nearby, which is less than the mask in a narrow area.
    return mask * (depth / _largest(depth, 2 * width - 1).clamp_(min=LEAST))


def _largest(x: Tensor, side: int) -> Tensor:
    """The largest value in a square of `side` (odd) pixels around each pixel, within the picture."""
    reach = side // 2
    return F.max_pool2d(F.max_pool2d(x, (side, 1), 1, (reach, 0)), (1, side), 1, (0, reach))
