"""The stage `autoencoder`: encoder and decoder learn to reproduce pictures, clean ones and damaged ones."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import data, distributed, losses, validation
from ..networks import Networks
from ..restoration import damage
from ..run_log import Logs
from .base import FixedCrops, Stage, StageRun, Validate

DAMAGED_EVERY = 4
"""Every so many samples one is damaged: the denoiser and the decoder see latents of damaged pictures too."""
KL_WEIGHT = 1e-6


@dataclass(frozen=True)
class AutoencoderStage(Stage):
    def step(
        self, networks: Networks, clean: Tensor, generator: torch.Generator, **batch
    ) -> tuple[Tensor, Logs]:
        # Counted within the rows of this process, wherever they begin in the whole batch.
        damaged = slice(0, len(clean) // DAMAGED_EVERY * DAMAGED_EVERY, DAMAGED_EVERY)
        pictures = clean.clone()
        if len(pictures[damaged]):
            # Only benchmarks have noise beyond black and white; pictures from files do not.
            pictures[damaged] = damage(clean[damaged], generator, selective=0).lq.clamp(-1, 1)
        fit, kl = autoencoder_losses(networks, pictures, generator)
        return fit + KL_WEIGHT * kl, {"fit": fit.detach(), "kl": kl.detach()}

    def validation(self, held_out: data.Photographs) -> Validate | None:
        return functools.partial(validation.autoencoder_psnr, photographs=held_out)

    def finish(self, run: StageRun) -> dict[str, Tensor]:
        return measured_latents(run)


def autoencoder_losses(
    networks: Networks, pictures: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Encode and decode pictures `B 3 H W`, -1..1, without the experts: the loss of reconstruction, and the
    KL divergence of the latents."""
    mean, logvar = networks.vae.encoder(pictures)
    noise = distributed.normal(mean.shape, generator, mean.device).to(mean)
    decoded = networks.vae.decoder(mean + (0.5 * logvar).exp() * noise)
    return losses.reconstruction(decoded, pictures), losses.kullback_leibler(mean, logvar)


def measured_latents(run: StageRun) -> dict[str, Tensor]:
    """Normalise the autoencoder's latents anew. Returns the statistics under their names in a checkpoint."""
    normalise_latents(run.networks, run.photographs, run.device)
    state = run.networks.state_dict()
    return {key: state[key] for key in ("vae.latent_mean", "vae.latent_std")}


@torch.no_grad()
def normalise_latents(networks: Networks, photographs: data.Photographs, device: str) -> None:
    """Set the autoencoder's latent mean and standard deviation per channel, measured on 256 clean crops."""
    generator = torch.Generator().manual_seed(11)
    latents = torch.cat(
        [
            networks.vae.encoder(data.draw_batch(photographs, 16, 128, generator).to(device))[0]
            for _ in range(16)
        ]
    )
    buffers = dict(networks.vae.named_buffers())
    buffers["latent_mean"].copy_(latents.mean(dim=(0, 2, 3)))
    buffers["latent_std"].copy_(latents.std(dim=(0, 2, 3)))


AUTOENCODER = AutoencoderStage(
    "autoencoder",
    trains=("vae.encoder", "vae.decoder"),
    learning_rate=1.5e-3,
    crops=FixedCrops(64, 16),
    exports=("vae",),
)
