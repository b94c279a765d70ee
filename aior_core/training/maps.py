"""The stage `maps`: where each damage is, learnt by the degradation head's own network for that.

The LQ encoder stays as it is, so its feature of a damaged picture is computed once and learnt from several times: it costs ten times what
a step of the head does.
"""

from __future__ import annotations

from collections import deque

import torch
from torch import Tensor

from ..degradations import sample_recipe
from . import data, distributed
from .networks import Networks
from .precision import autocast, fast_dtype
from .restoration import Plan, damaged
from .tone import as_filed

REUSED = 8
"""How often a picture is learnt from, on average."""
KEPT = 1024
MIX = {"noise": 0.13, "blur": 0.20, "low_resolution": 0.12, "rain": 0.11, "snow": 0.10, "haze": 0.20, "low_light": 0.07, "jpeg": 0.07}
COUNTS = (0.05, 0.65, 0.25, 0.05)
SPATIAL = 0.8


class Memory:
    """Damaged crops that were looked at: their LQ features `C h w` and true maps `K h w`, the newest `KEPT`. A `loop.Draw`."""

    def __init__(self, networks: Networks, photographs: data.Photographs, device: str):
        self.networks, self.photographs, self.device = networks, photographs, device
        self.seen: deque[tuple[Tensor, Tensor]] = deque(maxlen=KEPT)

    def __call__(self, count: int, side: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Look at some new crops, then draw from all: this process's features of a batch of `count`, `B C h w`, and their `maps` `B K h w`."""
        world = distributed.world()
        self._look(-(-count // (REUSED * world)) * world if self.seen else count, side, generator)
        rows = torch.randint(len(self.seen), (count // world,), generator=generator).tolist()
        features, maps = (torch.stack(each) for each in zip(*(self.seen[row] for row in rows)))
        return features.float(), {"maps": maps}

    @torch.no_grad()
    def _look(self, count: int, side: int, generator: torch.Generator) -> None:
        rows = distributed.rows(count)
        clean = data.draw_batch(self.photographs, count, side, generator, rows=rows).to(self.device)
        recipes = [sample_recipe(generator, weights=MIX, spatial=SPATIAL, count_weights=COUNTS) for _ in range(count)]
        batch = damaged(clean, [Plan(recipe) for recipe in recipes[rows]])
        lq = as_filed(batch.lq, generator)
        with autocast(self.device):
            features = self.networks.prior.trunk(lq)[-1]
        self.seen.extend(zip(features.to(fast_dtype(self.device)).contiguous(), batch.maps))
