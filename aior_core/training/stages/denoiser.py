"""The stage `prior`: the denoiser learns what clean pictures look like, without any condition."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..networks import Networks
from ..restoration import fused_velocity
from ..run_log import Logs
from .base import FixedCrops, Stage
from .flow import noised


@dataclass(frozen=True)
class DenoiserStage(Stage):
    def step(
        self, networks: Networks, clean: Tensor, generator: torch.Generator, **batch
    ) -> tuple[Tensor, Logs]:
        with torch.no_grad():
            latent = networks.vae.encode(clean)
        x, sigma, velocity = noised(latent, generator)
        unknown = torch.zeros(len(clean), networks.prior.config.degradations).to(clean)
        tokens = networks.tokens.unknown(unknown)
        loss = (fused_velocity(networks, x, sigma, tokens, None).float() - velocity).square().mean()
        return loss, {"v": loss.detach()}


DENOISER = DenoiserStage(
    "prior",
    trains=("unet", "prior.tokens"),
    learning_rate=1.0e-3,
    crops=FixedCrops(128, 8),
    exports=("unet", "prior.tokens"),
)
