"""The stage `maps`: where each damage is, learnt by the degradation head's own network for that, from LQ features that stay as they are."""

from __future__ import annotations

import torch
from torch import Tensor

from ..degradations import sample_world, shares
from . import data, distributed
from .networks import Networks
from .precision import autocast, fast_dtype
from .replay_buffer import ReplayBuffer
from .restoration import Plan, damaged
from .tone import as_filed

MIX = shares("maps")
COUNTS = (0.05, 0.65, 0.25, 0.05)
SPATIAL = 0.8


class Memory(ReplayBuffer):
    """Damaged crops' LQ features `C h w`, and their true `maps` `K h w`."""

    names = ("maps",)

    def __init__(
        self,
        networks: Networks,
        photographs: data.Photographs,
        device: str,
        *,
        kept: int = 1024,
        reused: int = 8,
    ):
        super().__init__(kept, reused, device)
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
