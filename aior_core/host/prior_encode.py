"""From a damaged picture to its prior: ComfyUI's memory management around `pipeline.encode`."""

from __future__ import annotations

import comfy.model_management as management
import comfy.utils
import torch
from comfy.sd import VAE
from torch import Tensor

from ..models.autoencoder import Autoencoder
from ..picture import pad_to_multiple, require_pixels, split_alpha
from ..picture.tiles import regions
from ..pipeline.encode import (
    Estimate,
    encode_in_tiles,
    encode_latent_in_tiles,
    estimate_degradations,
    kept_dtype,
)
from ..pipeline.prior import FACTOR, Prior
from ..pipeline.receptive_field import KL_HALO, trunk_halo
from ..pipeline.temporal_smoothing import smooth_over_time
from .compatibility import require_vae
from .memory import Need, choose_tile, with_smaller_tiles
from .restorer import Restorer, picture_dtype

SMALLEST = 16
"""Pixels of a picture's shortest side that the networks can use."""


def encode_prior(restorer: Restorer, vae: VAE, image: Tensor, *, tile: int = 0, smooth: int = 0) -> Prior:
    """Encode an IMAGE `B H W C`, 0..1, of any size from 16x16 up. Deterministic. Alpha is kept in the prior.

    tile: side in pixels of the tiles in which large pictures are encoded; 0 takes the whole picture if memory
    allows it, and otherwise the largest tile that fits. Tiles make no difference with the compact restorer,
    and a small one with KL encoders.
    smooth: for frames of a video, over how many frames on either side estimates of whole pictures are
    averaged.

    Raises ValueError for something that is no IMAGE, an empty batch, sides below 16 pixels, NaN or infinite
    values, or a VAE of another kind; RuntimeError if memory does not suffice, or if a network gives NaN or
    infinite values.
    """
    require_vae(restorer, vae)
    color, alpha = split_alpha(image)
    require_pixels(color)
    if min(color.shape[1:3]) < SMALLEST:
        raise ValueError(
            f"the picture is {color.shape[2]}x{color.shape[1]} pixels; at least {SMALLEST}x{SMALLEST} are "
            "needed. "
            "Enlarge it first (Upscale Image)."
        )
    padded, geometry = pad_to_multiple(color.float().movedim(-1, 1), FACTOR)
    picture = padded.movedim(1, -1).to(management.intermediate_device())
    encoder = restorer.encoder
    need = encoding_need(restorer, *padded.shape)
    chosen = choose_tile(tile, need, encoder.load_device, "encoding the prior")
    features = with_smaller_tiles(
        lambda side: encode_features(restorer, picture, tile=side), chosen, "encoding the prior"
    )
    estimate, maps = _estimate(restorer, features[-1], color)
    prior = Prior(
        features=features[-1],
        skips=tuple(features[:-1]) if restorer.daem is not None and len(features) > 1 else None,
        image=picture,
        latent=_encode_latent(restorer, vae, picture, tile),
        severities=estimate.severities,
        probabilities=estimate.probabilities,
        maps=maps,
        geometry=geometry,
        alpha=alpha,
        estimated=encoder.model.head is not None,
        global_statistics=estimate.global_statistics,
        kinds=restorer.config.kinds,
        calibration=restorer.config.calibration,
    )
    for name in ("features", "latent", "severities"):
        if not torch.isfinite(getattr(prior, name)).all():
            raise RuntimeError(
                f"NaN or infinite {name} in {picture_dtype(encoder.load_device)}. Start ComfyUI with "
                "--fp32-vae."
            )
    return smooth_over_time(prior, smooth)


def encoding_need(restorer: Restorer, batch: int, channels: int, height: int, width: int) -> Need:
    """Memory of the LQ encoder on padded pictures: the finest level's features while it runs, and the deepest
    features of all that stay."""
    config, calibration = restorer.config.prior, restorer.config.calibration
    size = management.dtype_size(picture_dtype(restorer.encoder.load_device))
    cells = batch * (height // FACTOR) * (width // FACTOR)
    held = kept_dtype(config, height, width).itemsize * cells * config.widths[-1]
    per_pixel = calibration.values_per_channel * config.widths[0] * size
    halo = trunk_halo(config, share=calibration.receptive_field_share)
    return Need(height, width, per_pixel, FACTOR * halo, held)


def encode_features(restorer: Restorer, image: Tensor, *, tile: int, shown: bool = True) -> list[Tensor]:
    """LQ features of a padded IMAGE `B H W 3`, 0..1, finest first, on the intermediate device; see
    `encode_in_tiles`.

    tile: side in pixels. shown: show a progress bar.
    """
    encoder, (batch, height, width, channels) = restorer.encoder, image.shape
    need = encoding_need(restorer, batch, channels, height, width)
    management.load_models_gpu([encoder], memory_required=need.bytes(tile) - need.held)
    tiles = regions(height // FACTOR, width // FACTOR, tile // FACTOR, need.halo // FACTOR)
    count = batch * len(tiles)
    progress = comfy.utils.ProgressBar(count) if shown and count > 1 else None
    return encode_in_tiles(
        encoder.model.trunk,
        image,
        tiles,
        device=encoder.load_device,
        dtype=picture_dtype(encoder.load_device),
        kept=kept_dtype(restorer.config.prior, height, width),
        kept_device=management.intermediate_device(),
        tick=progress and (lambda: progress.update(1)),
    )


def _estimate(restorer: Restorer, features: Tensor, color: Tensor) -> tuple[Estimate, Tensor]:
    """The estimate and the maps `B K h w`, from the deepest features `B C h w` and the IMAGE `B H W 3`, one
    picture at a time.

    DAEM is not loaded for its tone curve: that sees sixty numbers per picture, on the CPU, and its layers
    cast their weights to it.
    """
    encoder, out = restorer.encoder, management.intermediate_device()
    at = {"device": encoder.load_device, "dtype": picture_dtype(encoder.load_device)}
    made = [encoder.model.estimate(features[index : index + 1].to(**at)) for index in range(len(features))]
    probabilities, severities, maps = (torch.cat(each).to(out) for each in zip(*made))
    pictures = (picture.movedim(-1, 1) for picture in color.split(1))
    daem = restorer.daem and restorer.daem.model
    estimate = estimate_degradations(daem, severities, probabilities, pictures, device=torch.device("cpu"))
    return estimate, maps


def _encode_latent(restorer: Restorer, vae: VAE, image: Tensor, tile: int) -> Tensor:
    """The VAE's latent of a padded IMAGE, in tiles if asked for or where the whole does not fit."""
    model = vae.first_stage_model
    ours = isinstance(model, Autoencoder)
    share = restorer.config.calibration.receptive_field_share
    halo = trunk_halo(model.config, share=share) if ours else KL_HALO
    height, width = image.shape[1:3]
    need = Need(height, width, vae.memory_used_encode((1, 3, 1, 1), vae.vae_dtype), FACTOR * halo)
    encode = _latent_in_tiles if ours else _latent_by_host
    chosen = choose_tile(tile, need, vae.device, "encoding the latent")
    return with_smaller_tiles(lambda side: encode(vae, image, side, need), chosen, "encoding the latent")


def _latent_by_host(vae: VAE, image: Tensor, tile: int, need: Need) -> Tensor:
    if tile >= need.whole:
        return vae.encode(image).float()
    return vae.encode_tiled(image, tile_x=tile, tile_y=tile, overlap=tile // 4).float()


def _latent_in_tiles(vae: VAE, image: Tensor, tile: int, need: Need) -> Tensor:
    management.load_models_gpu([vae.patcher], memory_required=need.bytes(tile))
    height, width = (side // FACTOR for side in image.shape[1:3])
    tiles = regions(height, width, tile // FACTOR, need.halo // FACTOR)
    return encode_latent_in_tiles(vae.encode_unit, image, tiles, vae.latent_channels, vae.output_device)
