"""Selective restoration in the picture itself: what there is of each damage, to be given back where it is to be kept (ours, not the paper's)."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn

from .layers import scaled_init


class DegradationResidual(nn.Module):
    """From the decoder's last feature, what each damage put on the picture.

    The levels are told what is to be kept as well, but learn little from the few samples that keep something: film grain went with the rain
    however *noise* was steered (46 and 47 % of it left). With nothing to be kept the picture is untouched, whatever was learnt here.
    """

    def __init__(self, width: int, degradations: int, *, operations=nn, device=None, dtype=None):
        super().__init__()
        self.parts = scaled_init(
            0.0, operations.Conv2d(width, 3 * degradations, 3, padding=1, device=device, dtype=dtype)
        )

    def forward(self, h: Tensor, steering: Tensor) -> Tensor | None:
        """`B width H W` and steering `B K`, 0..1 -> what is to be added, `B 3 H W`; None where all damage is to be removed."""
        return self.of(h, steering) if torch.any(steering < 1) else None

    def of(self, h: Tensor, steering: Tensor) -> Tensor:
        """As `forward`, without asking whether anything is to be kept."""
        share = 1 - steering
        parts = rearrange(self.parts(h), "b (k c) h w -> b k c h w", c=3)
        return (share.to(parts)[:, :, None, None, None] * parts).sum(dim=1)
