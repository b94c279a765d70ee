"""The stage `keep`: a head of DAEM learns to give back the damages that a user wants to keep."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...degradations import shares
from .. import distributed, losses
from ..networks import Networks
from ..restoration import damage, encode_prior, repair, sample
from ..run_log import Logs
from .base import FixedCrops, Stage

ABSENT_KEPT = 0.3
"""How often a damage that a picture does not have counts as kept: nothing may come back for it."""


@dataclass(frozen=True)
class KeepStage(Stage):
    def choose(self, generator: torch.Generator) -> str:
        """Half of the batches decode a latent sampled in one step, half the damaged picture's own."""
        return "sampled" if torch.rand((), generator=generator).item() < 0.5 else "lq"

    def step(
        self,
        networks: Networks,
        clean: Tensor,
        generator: torch.Generator,
        *,
        choice: str | None = None,
        **batch,
    ) -> tuple[Tensor, Logs]:
        """Every sample keeps some of its damages, by `selective` = 1."""
        made = damage(clean, generator, **self.damage_options, **batch)
        chosen = distributed.uniform(made.remove.shape, generator) < ABSENT_KEPT
        remove = made.remove * (1 - (made.severities == 0).float() * chosen.to(made.remove))
        with torch.no_grad():
            encoded = encode_prior(networks, made.lq)
            sampled = (choice or self.choose(generator)) == "sampled"
            latent = (
                sample(networks, encoded, 1, generator, remove) if sampled else networks.vae.encode(made.lq)
            )
        repaired, _ = repair(networks, encoded, made.lq, latent, remove)
        fit = losses.restoration(repaired, made.target)
        return fit, {"fit": fit.detach()}


KEEP = KeepStage(
    "keep",
    trains=("daem.kept",),
    learning_rate=3.0e-3,
    crops=FixedCrops(128, 8),
    exports=("daem.kept",),
    muon=False,
    damages=True,
    damage_options={"selective": 1.0, "weights": shares("keep")},
)
