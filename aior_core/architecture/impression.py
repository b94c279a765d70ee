"""What a damaged picture looks like as a whole, before any of it is repaired."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from .tone import ToneCurve, appearance


@dataclass(frozen=True, eq=False)
class Impression:
    """Of a batch of damaged pictures: `appearance` `B 60` (`tone.appearance`), how likely there is haze by that, `hazy` `B`, 0..1, and `clipped` `B`: 1 where
    no value lies beyond black and white, as in files, else 0. All fp32."""

    appearance: Tensor
    hazy: Tensor
    clipped: Tensor

    @classmethod
    def joined(cls, impressions: Iterable[Impression]) -> Impression:
        """Those of several batches as that of one."""
        return cls(*(torch.cat(rows) for rows in zip(*((each.appearance, each.hazy, each.clipped) for each in impressions), strict=True)))

    def rows(self, mine: slice) -> Impression:
        """That of some of the pictures."""
        return Impression(self.appearance[mine], self.hazy[mine], self.clipped[mine])

    def to(self, device: torch.device) -> Impression:
        """The same on another device."""
        return Impression(self.appearance.to(device), self.hazy.to(device), self.clipped.to(device))


@torch.no_grad()
def impression_of(curve: ToneCurve, picture: Tensor, device: torch.device | None = None) -> Impression:
    """Look at whole damaged pictures `B 3 H W`, 0..1 (beyond that where they are not clipped), and judge on `device` (default: theirs)."""
    looks = appearance(picture).to(device)
    clipped = ((picture >= 0) & (picture <= 1)).flatten(1).all(dim=1).float().to(device)
    return Impression(looks, curve.hazy(looks), clipped)
