"""The stage `fusion`: DAFF, the degradation tokens and the denoiser learn to sample the target's latent."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .. import batches, distributed
from ..data import Photographs
from ..networks import Networks
from ..replay_buffer import LatentBuffer
from ..restoration import encode_for_fusion, fused_velocity
from ..run_log import Logs
from ..validation import restoration_psnr
from .base import FixedCrops, Stage, StageRun, Validate
from .flow import noised

TOKEN_DROPOUT = 0.15
BUFFERED, REUSED = 1536, 6
"""Encoded crops in the replay buffer, and how often each is trained on, on average."""


def fusion_loss(
    networks: Networks, latent: Tensor, generator: torch.Generator, *, feature: Tensor, severities: Tensor
) -> tuple[Tensor, Logs]:
    """The loss of predicting the target's latent from noise: velocity MSE plus the Charbonnier error of the
    clean latent that the prediction implies, weighted by 1 - sigma.

    latent: of the target, `B 16 h w`. feature: the damaged picture's coarsest LQ feature, `B C h w`.
    severities: of the damages to remove, `B K` in 0..1; dropped for `TOKEN_DROPOUT` of the samples.
    """
    dropped = (distributed.uniform((len(latent), 1, 1), generator) < TOKEN_DROPOUT).to(latent.device)
    tokens = torch.where(dropped, networks.tokens.unknown(severities), networks.tokens(severities))
    condition = networks.daff.embed(feature)
    x, sigma, velocity = noised(latent, generator)
    predicted = fused_velocity(networks, x, sigma, tokens, condition).float()
    fit = (predicted - velocity).square().mean()
    level = sigma[:, None, None, None]
    clean_error = ((x - level * predicted - latent).square() + 1e-6).sqrt()
    loss = fit + ((1 - level) * clean_error).mean()
    return loss, {"v": fit.detach()}


@dataclass(frozen=True)
class FusionStage(Stage):
    def step(
        self,
        networks: Networks,
        clean: Tensor,
        generator: torch.Generator,
        *,
        feature: Tensor | None = None,
        severities: Tensor | None = None,
        **batch,
    ) -> tuple[Tensor, Logs]:
        """With `feature` and `severities`, `clean` is the target's latent, as a `LatentBuffer` gives it.
        Without them `clean` are pictures, which are damaged and encoded here."""
        if feature is None or severities is None:
            clean, feature, severities = encode_for_fusion(
                networks, clean, generator, **self.damage_options, **batch
            )
        return fusion_loss(networks, clean, generator, feature=feature.float(), severities=severities)

    def batches(self, run: StageRun) -> batches.Draw | None:
        """Crops are encoded once and trained on several times: encoding costs more than a step."""
        fresh = super().batches(run) or batches.fresh_crops(
            run.photographs, run.pairs, run.pair_share, run.device
        )
        return LatentBuffer(
            run.networks,
            fresh,
            run.device,
            capacity=BUFFERED * run.batch_scale,
            reused=REUSED,
            **self.damage_options,
        )

    def validation(self, held_out: Photographs) -> Validate | None:
        return restoration_psnr(held_out, count=4, steps=(1, 4))


FUSION = FusionStage(
    "fusion",
    trains=("daff", "unet", "prior.tokens"),
    learning_rate=6.0e-4,
    crops=FixedCrops(128, 8),
    exports=("daff", "unet", "prior.tokens"),
    damages=True,
    pairs=True,
)
