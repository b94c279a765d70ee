"""What a damaged picture looks like as a whole, before any of it is repaired."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from .tone_curve import ToneCurve, appearance


@dataclass(frozen=True, eq=False)
class GlobalStatistics:
    """Of a batch of damaged pictures: `appearance` `B 60` (`tone.appearance`), how likely there is haze by
    that, `hazy` `B`, 0..1, and `clipped` `B`, 0..1 (`is_clipped`). All fp32."""

    appearance: Tensor
    hazy: Tensor
    clipped: Tensor

    @classmethod
    def joined(cls, impressions: Iterable[GlobalStatistics]) -> GlobalStatistics:
        """Those of several batches as that of one."""
        return cls(
            *(
                torch.cat(rows)
                for rows in zip(
                    *((each.appearance, each.hazy, each.clipped) for each in impressions), strict=True
                )
            )
        )

    def rows(self, mine: slice) -> GlobalStatistics:
        """That of some of the pictures."""
        return GlobalStatistics(self.appearance[mine], self.hazy[mine], self.clipped[mine])

    def to(self, device: torch.device) -> GlobalStatistics:
        """The same on another device."""
        return GlobalStatistics(self.appearance.to(device), self.hazy.to(device), self.clipped.to(device))


HALF_A_LEVEL, NEAR = 0.5 / 255, 8 / 255
OVERSHOOT, FEW = 0.1, 1e-4
"""A picture counts as not clipped if the values beyond black and white are more than `OVERSHOOT` times those
within `NEAR` of them, and more than `FEW` times all values.

Measured on the six pictures of tests/clean: unclipped noise of sigma 3 to 50 puts 0.12 to 5 times as many
values beyond as near. A clipped picture that is then made smaller has 0.07 at most, from the filter's
overshoot.
"""


def is_clipped(picture: Tensor) -> Tensor:
    """Whether the values of pictures `B 3 H W` end at black (0) and white (1), as in files: `B`, fp32.

    The number of values beyond decides, not whether there is one: a rounding error, a filter's overshoot or a
    hot pixel says nothing about the whole picture.
    """
    values = picture.flatten(1)
    beyond = ((values < -HALF_A_LEVEL) | (values > 1 + HALF_A_LEVEL)).sum(dim=1)
    near = ((values < NEAR) | (values > 1 - NEAR)).sum(dim=1) - beyond
    return (beyond <= (OVERSHOOT * near).clamp(min=FEW * values.shape[1])).float()


@torch.no_grad()
def global_statistics_of(
    curve: ToneCurve, picture: Tensor, device: torch.device | None = None
) -> GlobalStatistics:
    """Look at whole damaged pictures `B 3 H W`, 0..1 (beyond that where they are not clipped), and judge on `device` (default: theirs)."""
    looks = appearance(picture).to(device)
    return GlobalStatistics(looks, curve.hazy(looks), is_clipped(picture).to(device))
