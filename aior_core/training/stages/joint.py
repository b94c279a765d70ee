"""The stage `joint`: head, decoder and DAEM learn on latents as the sampler makes them; the denoiser
stays."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .. import experts, losses
from ..networks import Networks
from ..restoration import damage, encode_prior, repair, start_latent
from ..run_log import Logs
from .base import ANCHOR, growing_crops
from .repairing import HEAD_WEIGHT, SampledStage, head_loss, perceptual_loss, plain_decoder_loss

SOBEL_WEIGHT = 0.02


@dataclass(frozen=True)
class JointStage(SampledStage):
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
        latent = start_latent(networks, made, encoded, choice, generator)
        repaired, routings = repair(networks, encoded, made.lq, latent, made.remove, noise=generator)
        fit = losses.restoration(repaired, made.target)
        head = head_loss(encoded, made)
        logs: Logs = {"fit": fit.detach(), "head": head.detach(), "experts": experts.shares(routings)}
        loss = (
            fit
            + SOBEL_WEIGHT * losses.sobel_l1(repaired, made.target)
            + HEAD_WEIGHT * head
            + perceptual_loss(repaired, made.target, choice, self.perceptual)
        )
        return (loss + plain_decoder_loss(networks, clean) if choice == "target" else loss), logs


JOINT = JointStage(
    "joint",
    trains=("prior.head", "vae.decoder", "daem"),
    learning_rate=3.0e-4,
    crops=growing_crops,
    exports=("vae", "prior.head", "daem"),
    fixed=ANCHOR,
    damages=True,
    pairs=True,
)
