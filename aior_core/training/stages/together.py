"""The stage `together`: `detail` on sampled latents, and `fusion` on LQ features that are still being
trained."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..networks import Networks
from ..restoration import damage, encode_prior, repair, start_latent
from ..run_log import Logs
from .base import ANCHOR, growing_crops
from .fusion import fusion_loss
from .repairing import SampledStage, perceptual_loss, plain_decoder_loss, repair_loss


@dataclass(frozen=True)
class TogetherStage(SampledStage):
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
        choice = choice or self.choose(generator)
        encoded = encode_prior(networks, made.lq)
        flow_logs: Logs = {}
        if choice.isdigit():
            # Before sampling: autocast of PyTorch before 2.11 caches the weights that sampling casts without
            # gradients, and would use them here too.
            with torch.no_grad():
                target = networks.vae.encode(made.target)
            feature = encoded.features[-1].detach().float()
            flow, flow_logs = fusion_loss(
                networks, target, generator, feature=feature, severities=encoded.severities * made.remove
            )
        latent = start_latent(networks, made, encoded, choice, generator)
        repaired, routings = repair(networks, encoded, made.lq, latent, made.remove)
        loss, logs = repair_loss(repaired, routings, encoded, made, networks.daem.config.top_k)
        if choice == "target":
            loss = loss + plain_decoder_loss(networks, clean)
        elif choice.isdigit():
            loss = loss + flow
        return loss + perceptual_loss(repaired, made.target, choice, self.perceptual), logs | flow_logs


TOGETHER = TogetherStage(
    "together",
    trains=("prior.trunk", "prior.head", "prior.tokens", "vae.decoder", "daem", "daff", "unet"),
    learning_rate=1.0e-3,
    crops=growing_crops,
    exports=("vae", "prior", "daem", "daff", "unet"),
    fixed=ANCHOR,
    damages=True,
    pairs=True,
)
