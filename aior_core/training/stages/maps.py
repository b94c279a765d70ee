"""The stage `maps`: the degradation head's map network learns where each damage is, from LQ features that
stay fixed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...degradations import sample_world, shares
from .. import data, distributed, losses
from ..batches import Draw
from ..networks import Networks
from ..precision import autocast, fast_dtype
from ..replay_buffer import ReplayBuffer
from ..restoration import Plan, damaged
from ..run_log import Logs
from .base import FixedCrops, Stage, StageRun
from .tone import as_filed

MIX = shares("maps")
COUNTS = (0.05, 0.65, 0.25, 0.05)
"""Shares of pictures with 0, 1, 2 and 3 damages."""
SPATIAL = 0.8
"""Share of pictures in which one damage is confined to a part of the picture."""


class FeatureBuffer(ReplayBuffer):
    """LQ features of damaged crops, `C h w`, and their true `maps`, `K h w` in 0..1."""

    names = ("maps",)

    def __init__(
        self,
        networks: Networks,
        photographs: data.Photographs,
        device: str,
        *,
        capacity: int = 1024,
        reused: int = 8,
    ):
        super().__init__(capacity, reused, device)
        self.networks, self.photographs = networks, photographs

    @torch.no_grad()
    def encode(self, count: int, side: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        rows = distributed.rows(count)
        clean = data.draw_batch(self.photographs, count, side, generator, rows=rows).to(self.device)
        recipes = [
            sample_world(generator, weights=MIX, spatial=SPATIAL, count_weights=COUNTS) for _ in range(count)
        ]
        batch = damaged(clean, [Plan(recipe) for recipe in recipes[rows]])
        lq = as_filed(batch.lq, generator)
        with autocast(self.device):
            features = self.networks.prior.trunk(lq)[-1]
        return features.to(fast_dtype(self.device)), batch.maps


@dataclass(frozen=True)
class MapsStage(Stage):
    def step(
        self, networks: Networks, clean: Tensor, generator: torch.Generator, **batch
    ) -> tuple[Tensor, Logs]:
        """`clean` are LQ features `B C h w`, and `batch` has their true `maps` `B K h w`, from a
        `FeatureBuffer`."""
        maps = batch["maps"]
        shares_of_worst, worst = networks.head.places_of(clean)
        where, how_bad = losses.shares(shares_of_worst, maps), losses.worst(worst, maps)
        return where + how_bad, {"where": where.detach(), "worst": how_bad.detach()}

    def batches(self, run: StageRun) -> Draw | None:
        return FeatureBuffer(run.networks, run.photographs, run.device)


MAPS = MapsStage(
    "maps",
    trains=("prior.head.places",),
    learning_rate=1.0e-3,
    crops=FixedCrops(192, 16),
    exports=("prior.head.places",),
)
