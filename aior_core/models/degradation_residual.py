"""The part of the picture that each degradation adds, for what users leave in (ours; docs/method.md, section
7.4)."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn

from .layers import scaled_init


class DegradationResidual(nn.Module):
    """A convolution on the decoder's last feature that estimates what each degradation added to the picture.

    DAEM's levels get the steering too, but learn little from the few samples that leave something in: without
    this head, film grain was removed with the rain however *noise* was steered (46 and 47 % of it were left).
    Where everything is to be removed, this head changes nothing.
    """

    def __init__(self, width: int, degradations: int, *, operations=nn, device=None, dtype=None):
        super().__init__()
        self.parts = scaled_init(
            0.0, operations.Conv2d(width, 3 * degradations, 3, padding=1, device=device, dtype=dtype)
        )

    def forward(self, h: Tensor, steering: Tensor) -> Tensor | None:
        """What to add to the repaired pictures, `B 3 H W`, or None where all degradations are to be removed.

        h: `B width H W`. steering: `B K` in 0..1, how much of each degradation to remove.
        """
        return self.of(h, steering) if torch.any(steering < 1) else None

    def of(self, h: Tensor, steering: Tensor) -> Tensor:
        """`forward` without the check, so that it always returns a tensor."""
        share = 1 - steering
        parts = rearrange(self.parts(h), "b (k c) h w -> b k c h w", c=3)
        return (share.to(parts)[:, :, None, None, None] * parts).sum(dim=1)
