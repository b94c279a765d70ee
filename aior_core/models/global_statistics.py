"""Statistics of whole damaged pictures, which tiles and decoder levels share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from .tone_curve import ToneCurve, appearance


@dataclass(frozen=True, eq=False)
class GlobalStatistics:
    """Statistics of a batch of damaged pictures, fp32.

    appearance: `B 60` (`tone_curve.appearance`). hazy: the tone curve's probability of haze, `B` in 0..1.
    clipped: 1 for pictures whose values end at black and white (`is_clipped`), `B` in 0..1.
    """

    appearance: Tensor
    hazy: Tensor
    clipped: Tensor

    @classmethod
    def joined(cls, batches: Iterable[GlobalStatistics]) -> GlobalStatistics:
        """Several batches as one."""
        rows = [(each.appearance, each.hazy, each.clipped) for each in batches]
        return cls(*(torch.cat(column) for column in zip(*rows, strict=True)))

    def rows(self, mine: slice) -> GlobalStatistics:
        """The statistics of some of the pictures."""
        return GlobalStatistics(self.appearance[mine], self.hazy[mine], self.clipped[mine])

    def to(self, device: torch.device) -> GlobalStatistics:
        """The same on `device`."""
        return GlobalStatistics(self.appearance.to(device), self.hazy.to(device), self.clipped.to(device))


HALF_A_LEVEL, NEAR = 0.5 / 255, 8 / 255
OVERSHOOT, FEW = 0.1, 1e-4
"""A picture counts as not clipped if the values beyond black and white are more than `OVERSHOOT` times those
within `NEAR` of them, and more than `FEW` times all values.

Measured on the six pictures of tests/clean: unclipped noise of sigma 3 to 50 puts 0.12 to 5 times as many
values beyond as near. In a clipped picture that was then reduced the ratio is at most 0.07, from the
overshoot of the filter.
"""


def is_clipped(picture: Tensor) -> Tensor:
    """Whether the values of pictures `B 3 H W` end at black (0) and white (1), as in files: `B`, fp32, 0 or
    1.

    The number of values beyond decides, not whether there is one: rounding errors, a filter's overshoot and
    hot pixels do not count.
    """
    values = picture.flatten(1)
    beyond = ((values < -HALF_A_LEVEL) | (values > 1 + HALF_A_LEVEL)).sum(dim=1)
    near = ((values < NEAR) | (values > 1 - NEAR)).sum(dim=1) - beyond
    return (beyond <= (OVERSHOOT * near).clamp(min=FEW * values.shape[1])).float()


@torch.no_grad()
def global_statistics_of(
    curve: ToneCurve, picture: Tensor, device: torch.device | None = None
) -> GlobalStatistics:
    """The statistics of whole damaged pictures `B 3 H W`, 0..1, or beyond where they are not clipped.

    curve: judges haze, on `device` (default: the pictures').
    """
    seen = appearance(picture).to(device)
    return GlobalStatistics(seen, curve.hazy(seen), is_clipped(picture).to(device))
