"""The stage `restore`: `detail` with a latent that counts.

In `detail` most batches decode zeros, so the decoder learns to ignore the latent. Here half of the batches
decode the latent of the target, and the encoder learns with them: the latent learns to carry what the damaged
picture has lost. In a share of those batches the damaged picture loses its detail, so that the latent is the
only source of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from .. import distributed, losses
from ..data import Photographs
from ..networks import Networks
from ..restoration import damage, encode_prior, repair, start_latent, with_noise
from ..run_log import Logs
from ..validation import autoencoder_psnr
from .autoencoder import KL_WEIGHT, autoencoder_losses, measured_latents
from .base import StageRun, Validate, growing_crops
from .detail import DetailStage
from .repairing import repair_loss

HIDDEN_SHARE = 0.3
"""Share of the batches with the target's latent in which the damaged picture loses its detail."""
PLAIN_SHARE = 0.25
"""Share of the batches that train the autoencoder without the experts as well."""
PLAIN_WEIGHT = 0.5
SPREAD_WEIGHT = 0.02
"""Holds the latents near mean 0 and deviation 1. Without it the encoder would raise its latents above the
noise that is added to them."""
MOST_NOISE = 0.6
"""Largest sigma of the noise on the target's latent, as sampled latents have errors."""


@dataclass(frozen=True)
class RestoreStage(DetailStage):
    def choose(self, generator: torch.Generator) -> str:
        """Which latent is decoded: zeros for 35 % of the batches ("none"), the damaged picture's for 15 %
        ("lq"), the target's for 25 % ("target") and the same with noise for 25 % ("noised"). Then whether the
        picture's detail is hidden, and whether the batch trains plain decoding too."""
        start, plain, hidden = torch.rand(3, generator=generator).tolist()
        latent = "none" if start < 0.35 else "lq" if start < 0.5 else "target" if start < 0.75 else "noised"
        hide = latent in ("target", "noised") and hidden < HIDDEN_SHARE
        return latent + (" and hidden" if hide else "") + (" and plain" if plain < PLAIN_SHARE else "")

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
        start, *also = (choice or self.choose(generator)).split(" and ")
        if "hidden" in also:
            made = replace(made, lq=without_detail(made.lq, generator), known=torch.zeros_like(made.known))
        encoded = encode_prior(networks, made.lq)
        extra: Tensor | float = 0.0
        if start in ("target", "noised"):
            latent = networks.vae.encode(made.target)
            extra = SPREAD_WEIGHT * losses.latent_spread(latent)
            if start == "noised":
                latent = with_noise(latent, 0.0, MOST_NOISE, generator)
        else:
            latent = start_latent(networks, made, encoded, start, generator)
        repaired, routings = repair(networks, encoded, made.lq, latent, made.remove)
        loss, logs = repair_loss(repaired, routings, encoded, made, networks.daem.config.top_k)
        if "plain" in also:
            fit, kl = autoencoder_losses(networks, clean, generator)
            extra = extra + PLAIN_WEIGHT * fit + PLAIN_WEIGHT * KL_WEIGHT * kl
        return loss + extra, logs

    def validation(self, held_out: Photographs) -> Validate | None:
        repaired = super().validation(held_out)
        assert repaired is not None

        def measure(networks: Networks) -> Logs:
            return repaired(networks) | autoencoder_psnr(networks, photographs=held_out)

        return measure

    def finish(self, run: StageRun) -> dict[str, Tensor]:
        # The encoder has moved, so its latents are measured again.
        return measured_latents(run)


def without_detail(lq: Tensor, generator: torch.Generator) -> Tensor:
    """A picture `B 3 H W`, -1..1, as means of 8x8 pixels with Gaussian noise of a sigma up to 0.4."""
    coarse = F.interpolate(F.avg_pool2d(lq, 8), scale_factor=8, mode="bilinear", align_corners=False)
    sigma = 0.4 * distributed.uniform((len(lq), 1, 1, 1), generator).to(lq)
    return (coarse + sigma * distributed.normal(lq.shape, generator, lq.device).to(lq)).clamp(-1, 1)


RESTORE = RestoreStage(
    "restore",
    trains=("prior.trunk", "prior.head", "vae.encoder", "vae.decoder", "daem"),
    learning_rate=1.0e-3,
    crops=growing_crops,
    exports=("vae", "prior", "daem"),
    # At the full rate the encoder ran away from the decoder: after 640 steps plain decoding had lost 4 dB.
    slow=("vae.encoder.",),
    damages=True,
    pairs=True,
)
