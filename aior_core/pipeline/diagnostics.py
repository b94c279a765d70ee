"""What happens inside a restoration: DAFF's influence on the denoiser, and the decoder's routing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..models.daem_level import Routing
from ..picture.tiles import Region


@dataclass(frozen=True, eq=False)
class Level:
    """The router of one level of DAEM, fp32, on the CPU.

    weights: its softmax for the whole picture, `B E`. votes: its logits by place, `B E H/8 W/8`, whose mean
    over the places are the logits of the whole picture.
    """

    weights: Tensor
    votes: Tensor

    @classmethod
    def empty(cls, batch: int, experts: int, height: int, width: int) -> Level:
        """A level of which nothing is known yet, for latents of `height` by `width`."""
        return cls(torch.zeros(batch, experts), torch.zeros(batch, experts, height, width))

    def record(self, picture: int, region: Region, routing: Routing, votes: Tensor) -> None:
        """Store the decision on one picture, and its logits by place in the core of `region`."""
        self.weights[picture] = routing.logits[0].softmax(dim=0).cpu()
        region.place(self.votes[picture : picture + 1], region.inner(votes))


@dataclass(frozen=True, eq=False)
class Inside:
    """What a restoration did.

    influence: DAFF's per picture and step, as `Influence.steps` gives it. levels: DAEM's, finest first; empty
    without DAEM.
    image: the result, `B H W C`, 0..1.
    """

    influence: list[list[float]]
    levels: list[Level]
    image: Tensor


@dataclass(eq=False)
class Influence:
    """How much a residual adds to a feature, by the noise level of the step. Calls with the same noise level
    are summed."""

    _energies: dict[float, Tensor] = field(default_factory=dict)

    def record(self, sigma: float, feature: Tensor, fused: Tensor) -> None:
        """Count a feature before and after the residual was added, at noise level `sigma`; tensors of any
        equal shape."""
        added = (fused - feature).square().sum()
        energies = torch.stack([added, feature.square().sum()])
        self._energies[sigma] = self._energies[sigma] + energies if sigma in self._energies else energies

    @property
    def steps(self) -> list[float]:
        """The L2 norm of what was added over that of the feature, 0 for none, in the order of the steps."""
        return [
            float((added / feature).sqrt()) if feature > 0 else 0.0
            for added, feature in self._energies.values()
        ]


class FusionMeter:
    """Two patches for ComfyUI's denoiser, one before and one after DAFF's, that measure DAFF's influence on
    positive's prediction.

    site: the block that DAFF joins. Windows are summed, and pixels that they share count more than once.
    """

    def __init__(self, site: tuple[str, int]) -> None:
        self.site = site
        self.influence = Influence()
        self._feature: Tensor | None = None

    def before(self, h: Tensor, transformer_options: dict[str, Any]) -> Tensor:
        """input_block_patch, the last one before DAFF's."""
        if transformer_options["block"] == self.site:
            self._feature = h
        return h

    def after(self, h: Tensor, transformer_options: dict[str, Any]) -> Tensor:
        """input_block_patch_after_skip, the first one."""
        if transformer_options["block"] != self.site:
            return h
        chunks = transformer_options["cond_or_uncond"]
        positive = [index for index, which in enumerate(chunks) if which == 0]
        if positive and self._feature is not None:
            feature, fused = (x.unflatten(0, (len(chunks), -1))[positive].float() for x in (self._feature, h))
            self.influence.record(float(transformer_options["sigmas"].flatten()[0]), feature, fused)
        self._feature = None
        return h
