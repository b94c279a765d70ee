"""DAEM Decode: ComfyUI's memory management around `pipeline.decode`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import comfy.model_management as management
import comfy.utils
import torch
from comfy.model_patcher import ModelPatcher
from comfy.sd import VAE
from torch import Tensor

from ..picture import from_unit, join_alpha, match_color, to_unit
from ..picture.tiles import regions
from ..pipeline.decode import (
    DecodeJob,
    DecoderNetworks,
    PictureWatch,
    count_passes,
    decode_pictures,
    halos_of,
    mean_of_copies,
    restore_undamaged,
    restore_unmasked,
)
from ..pipeline.prior import FACTOR, Prior, require_sampled
from ..pipeline.validate import mask_of, require_finite, require_numbers, samples_of
from .compatibility import require_prior, require_steerable, require_vae
from .memory import Need, choose_tile, give_back_freed, with_smaller_tiles
from .prior_encode import encode_features
from .restorer import Restorer

COLOR_FIXES = ("none", "wavelet", "adain")
MIRRORED = ((), (1, 2), (2,), (1,))
"""The copies of an ensemble, by the dimensions of an IMAGE that are flipped: none, half a turn, left to
right, upside down."""


def decode_daem(
    latent: dict[str, Any],
    vae: VAE,
    restorer: Restorer,
    prior: Prior,
    *,
    strength: float = 1.0,
    tile: int = 0,
    color_fix: str = "none",
    ensemble: int = 1,
    watch: PictureWatch | None = None,
) -> Tensor:
    """Decode a LATENT with DAEM: IMAGE `B H W 3`, 0..1 (4 channels if the input had alpha), of exactly the
    prior's original size.

    The result is fp32, contiguous and on the CPU. strength 0, or a restorer without DAEM, is the plain
    decoder.
    tile: side in pixels of the decoder's tiles; 0 takes the whole picture if memory allows it, and otherwise
    the largest tile that fits. Tiles make no difference with the compact autoencoder, and a small one with
    the KL one.
    color_fix: matches the colours to the damaged picture's.
    ensemble: the mean of this many mirrored copies, 1 to 4, in as many times the time: the networks are not
    quite symmetric.
    watch: called for every picture, level and tile of the copy that is not mirrored, if DAEM is at work.

    With a noise mask in the LATENT, the result outside the mask is exactly the damaged picture, and the
    decoded picture fades in from the mask's border (`feathered`). A mask of another size is stretched, and
    masks are repeated for a larger batch, as in ComfyUI's samplers.

    Raises ValueError if `ensemble` is out of range, if latent, prior, restorer and VAE do not fit together,
    or if the latent holds NaN; RuntimeError if NaN or infinite values turn up, or if memory does not suffice.
    """
    require_numbers(strength=strength)
    if ensemble not in range(1, len(MIRRORED) + 1):
        raise ValueError(f"ensemble is {ensemble}; expected 1 (off) to {len(MIRRORED)} mirrored copies.")
    samples, mask = samples_of(latent), mask_of(latent)
    require_prior(restorer, prior)
    require_steerable(restorer, prior)
    require_vae(restorer, vae)
    require_sampled(samples, prior)
    daem = restorer.daem if strength != 0 else None
    need = decoding_need(vae, restorer, daem is not None, samples.shape, ensemble)
    chosen = choose_tile(tile, need, vae.device, "decoding")
    if daem is None and chosen >= need.whole and ensemble == 1:
        image = _plain(samples, vae, prior)
    else:
        stage = _Stage(_job(samples, vae, restorer, daem, prior, strength), vae, restorer, daem, need)
        image = with_smaller_tiles(lambda side: stage.ensemble(side, ensemble, watch), chosen, "decoding")
    if daem is not None and prior.estimated and restorer.family.keeps_undamaged:
        restore_undamaged(image, prior, daem.model.picture_change(prior.probabilities))
    if color_fix != "none":
        image = from_unit(match_color(to_unit(image), to_unit(prior.unpadded), color_fix)).cpu()
    if mask is not None:
        # ComfyUI's samplers stretch and repeat masks like this, over the latent instead of the picture.
        size = (1, 1, *image.shape[1:3])
        stretched = (comfy.utils.reshape_mask(mask[i % len(mask), None], size) for i in range(len(image)))
        restore_unmasked(image, stretched, prior)
    alpha = prior.alpha
    if alpha is not None:
        image = join_alpha(image, alpha.cpu().expand(len(image), -1, -1, -1))
    return image.contiguous()


def _plain(samples: Tensor, vae: VAE, prior: Prior) -> Tensor:
    """ComfyUI's own decoding, for any kind of VAE, without the padding."""
    image = vae.decode(samples)[:, : prior.geometry.height, : prior.geometry.width, :3]
    require_finite(image, "the decoder", vae.vae_dtype)
    return image.float().cpu().clamp(0.0, 1.0)


def decoding_need(
    vae: VAE, restorer: Restorer, with_daem: bool, shape: torch.Size, ensemble: int = 1
) -> Need:
    """Memory of the decoder, and of DAEM and its LQ features if `with_daem`, for a latent of `shape`, `B C h
    w`."""
    height, width = (FACTOR * side for side in shape[-2:])
    plain = vae.memory_used_decode((1, shape[1], 1, 1), vae.vae_dtype) / FACTOR**2
    calibration, daem = restorer.config.calibration, restorer.config.daem if with_daem else None
    halos = halos_of(vae.first_stage_model, daem, calibration.receptive_field_share)(None)
    held = 12 * shape[0] * height * width * (3 if ensemble > 1 else 1)
    return Need(height, width, (1.0 + calibration.daem_memory * with_daem) * plain, FACTOR * max(halos), held)


def _job(
    samples: Tensor, vae: VAE, restorer: Restorer, daem: ModelPatcher | None, prior: Prior, strength: float
) -> DecodeJob:
    networks = DecoderNetworks(
        autoencoder=vae.first_stage_model,
        trunk=restorer.encoder.model.trunk,
        prior_config=restorer.config.prior,
        receptive_field_share=restorer.config.calibration.receptive_field_share,
        daem=daem and daem.model,
        device=vae.device,
        dtype=vae.vae_dtype,
    )
    return DecodeJob(samples, networks, prior, strength, partial(give_back_freed, vae.device))


@dataclass(frozen=True, eq=False)
class _Stage:
    """Runs a job with its networks loaded."""

    job: DecodeJob
    vae: VAE
    restorer: Restorer
    daem: ModelPatcher | None
    need: Need

    def ensemble(self, tile: int, copies: int, watch: PictureWatch | None) -> Tensor:
        """The mean of so many mirrored copies, turned back: IMAGE `B H W 3` on the CPU."""
        height, width = self.job.samples.shape[-2:]
        tiles = regions(height, width, tile // FACTOR, 0)
        passes = count_passes(self.daem and self.daem.model, len(tiles))
        progress = comfy.utils.ProgressBar(copies * len(self.job.samples) * len(tiles) * passes)

        def decode(job: DecodeJob) -> Tensor:
            networks = [self.vae.patcher, *([self.restorer.encoder, self.daem] if self.daem else [])]
            management.load_models_gpu(networks, memory_required=self.need.bytes(tile) - self.need.held)
            seen = watch if job is self.job else None
            return decode_pictures(job, tiles, watch=seen, tick=lambda: progress.update(1))

        def encode(image: Tensor) -> list[Tensor]:
            return encode_features(self.restorer, image, tile=tile, shown=False)

        return mean_of_copies(self.job, MIRRORED[:copies], encode, decode)
