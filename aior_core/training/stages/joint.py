"""The stage `joint`: head, decoder and DAEM learn on latents as the sampler makes them; the denoiser
stays."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .. import experts, losses
from ..data import Photographs
from ..networks import Networks
from ..restoration import damage, encode_prior, repair, start_latent
from ..run_log import Logs
from ..validation import restoration_psnr
from .base import ANCHOR, Stage, Validate, growing_crops
from .repairing import HEAD_WEIGHT, choose_sampled_latent, head_loss, perceptual_loss, plain_decoder_loss

SOBEL_WEIGHT = 0.02


@dataclass(frozen=True)
class JointStage(Stage):
    """perceptual: the weight of ST-LPIPS on pictures that were sampled in four steps."""

    perceptual: float = 0.0

    def choose(self, generator: torch.Generator) -> str:
        return choose_sampled_latent(generator)

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

    def with_perceptual(self, weight: float) -> Stage:
        return replace(self, perceptual=weight)

    def validation(self, held_out: Photographs) -> Validate | None:
        return restoration_psnr(held_out, count=4, steps=(0, 1, 4))


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
