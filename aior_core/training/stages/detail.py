"""The stage `detail`: LQ encoder, degradation head, decoder and DAEM learn to repair pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..data import Photographs
from ..networks import Networks
from ..restoration import damage, encode_prior, repair, start_latent
from ..run_log import Logs
from ..validation import restoration_psnr
from .base import Stage, StageRun, Validate, growing_crops
from .repairing import plain_decoder_loss, repair_loss

PLAIN_SHARE = 0.1
"""Share of the batches that train the decoder without the experts as well."""


@dataclass(frozen=True)
class DetailStage(Stage):
    def choose(self, generator: torch.Generator) -> str:
        """Which latent is decoded: the damaged picture's for a quarter of the batches ("lq"), zeros for 60 %
        ("none"), the target's with noise for 15 % ("noised"); and whether the batch trains plain decoding
        too."""
        start, plain = torch.rand(2, generator=generator).tolist()
        latent = "lq" if start < 0.25 else "none" if start < 0.85 else "noised"
        return latent + (" and plain" if plain < PLAIN_SHARE else "")

    def step(
        self,
        networks: Networks,
        clean: Tensor,
        generator: torch.Generator,
        *,
        choice: str | None = None,
        **batch,
    ) -> tuple[Tensor, Logs]:
        made = damage(clean, generator, **self.damage_options, **batch)
        start, *plain = (choice or self.choose(generator)).split(" and ")
        encoded = encode_prior(networks, made.lq)
        latent = start_latent(networks, made, encoded, start, generator)
        repaired, routings = repair(networks, encoded, made.lq, latent, made.remove)
        loss, logs = repair_loss(repaired, routings, encoded, made, networks.daem.config.top_k)
        return (loss + plain_decoder_loss(networks, clean) if plain else loss), logs

    def prepare(self, run: StageRun, given: Mapping[str, Tensor], *, resumed: bool) -> Stage:
        """A new LQ encoder starts as a copy of the autoencoder's. The layers that it has beyond those start
        as the identity."""
        if not resumed and not any(key.startswith("prior.trunk.") for key in given):
            trunk = run.networks.prior.trunk
            trunk.load_state_dict(trunk.state_dict() | run.networks.vae.encoder.trunk.state_dict())
        return self

    def validation(self, held_out: Photographs) -> Validate | None:
        return restoration_psnr(held_out, size=160, count=5)


DETAIL = DetailStage(
    "detail",
    trains=("prior.trunk", "prior.head", "vae.decoder", "daem"),
    learning_rate=1.0e-3,
    crops=growing_crops,
    exports=("vae", "prior", "daem"),
    damages=True,
    pairs=True,
)
