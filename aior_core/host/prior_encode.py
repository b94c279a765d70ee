"""From a damaged picture to its prior."""

from __future__ import annotations

import comfy.model_management as management
import comfy.utils
import torch
from comfy.sd import VAE
from torch import Tensor

from ..models.autoencoder import Autoencoder
from ..models.config import PriorConfig
from ..models.global_statistics import GlobalStatistics
from ..picture import pad_to_multiple, require_pixels, split_alpha
from ..picture.tiles import regions, seen
from ..pipeline.prior import Prior
from ..pipeline.receptive_field import KL_HALO, trunk_halo
from ..pipeline.temporal_smoothing import smooth_over_time
from ..pipeline.validate import require_kind
from .memory import Need, choose_tile, with_smaller_tiles
from .restorer import Restorer, picture_dtype, require_restorer
from .vae import LIVE_NUMBERS

FACTOR = 8
SMALLEST = 16
KEPT_SKIPS_PIXELS = 2**20
"""Fine features of larger batches are not kept but made again per tile: they take about 240 MB per megapixel."""
FULL_FEATURES_PIXELS = 2**20
"""The compact restorer's coarsest features of larger pictures are kept in fp16: they take 12 MB per megapixel in fp32."""


def encode_prior(restorer: Restorer, vae: VAE, image: Tensor, *, tile: int = 0, smooth: int = 0) -> Prior:
    """IMAGE `B H W C` in 0..1, any size from 16x16 up -> Prior.

    tile: side in pixels of the tiles that large pictures are encoded in; 0 is the whole picture where memory allows it, and the
    largest tile that fits where not. Tiles make no difference to the compact restorer, a small one to KL encoders. smooth: for the
    frames of a video, over how many frames on either side the estimate and what DAEM makes of whole pictures are averaged.
    Alpha is set aside in the prior. Deterministic.
    Raises ValueError for something that is no IMAGE, an empty batch, sides below 16 pixels, NaN or infinite values, or a VAE of another
    kind; RuntimeError if memory does not suffice.
    """
    require_vae(restorer, vae)
    color, alpha = split_alpha(image)
    require_pixels(color)
    if min(color.shape[1:3]) < SMALLEST:
        raise ValueError(
            f"the picture is {color.shape[2]}x{color.shape[1]} pixels; at least {SMALLEST}x{SMALLEST} are needed. "
            "Enlarge it first (Upscale Image)."
        )
    padded, geometry = pad_to_multiple(color.float().movedim(-1, 1), FACTOR)
    out = management.intermediate_device()
    picture = padded.movedim(1, -1).to(out)
    encoder = restorer.encoder
    chosen = choose_tile(
        tile, encoding_need(restorer, *padded.shape), encoder.load_device, "encoding the prior"
    )
    features = with_smaller_tiles(
        lambda side: encode_features(restorer, picture, tile=side), chosen, "encoding the prior"
    )
    severities, probabilities, maps = (x.to(out) for x in _estimate(restorer, features[-1]))
    global_statistics = _impression(restorer, color)
    if restorer.daem is not None:
        severities = restorer.daem.model.gate_severity(severities, probabilities, global_statistics)
    prior = Prior(
        features=features[-1],
        skips=tuple(features[:-1]) if restorer.daem is not None and len(features) > 1 else None,
        image=picture,
        latent=_encode_latent(vae, picture, tile),
        severities=severities,
        probabilities=probabilities,
        maps=maps,
        geometry=geometry,
        alpha=alpha,
        estimated=encoder.model.head is not None,
        global_statistics=global_statistics,
    )
    for name in ("features", "latent", "severities"):
        if not torch.isfinite(getattr(prior, name)).all():
            raise RuntimeError(
                f"NaN or infinite {name} in {picture_dtype(encoder.load_device)}. Start ComfyUI with --fp32-vae."
            )
    return smooth_over_time(prior, smooth)


def require_vae(restorer: Restorer, vae: VAE) -> None:
    """Raise ValueError unless `vae` is of the kind that the restorer goes with."""
    require_restorer(restorer)
    require_kind("vae", vae, VAE, "the VAE that goes with the restorer")
    vae.throw_exception_if_invalid()
    if not restorer.family.fits_autoencoder(vae.first_stage_model):
        raise ValueError(
            f"this restorer ({restorer.source}) is of family {restorer.family.name} and needs {restorer.family.vae_source}."
        )


def encoding_need(restorer: Restorer, batch: int, channels: int, height: int, width: int) -> Need:
    """Memory of the LQ encoder on a padded picture: at work, the features of the finest level; held, those of the coarsest."""
    config = restorer.config.prior
    size = management.dtype_size(picture_dtype(restorer.encoder.load_device))
    held = (
        kept_dtype(config, height, width).itemsize
        * batch
        * config.widths[-1]
        * (height // FACTOR)
        * (width // FACTOR)
    )
    return Need(height, width, LIVE_NUMBERS * config.widths[0] * size, FACTOR * trunk_halo(config), held)


def kept_dtype(config: PriorConfig, height: int, width: int) -> torch.dtype:
    """What the coarsest features of a picture are kept in. KL encoders' always in fp32, as their range is not ours to know."""
    return torch.float16 if config.kind == "naf" and height * width > FULL_FEATURES_PIXELS else torch.float32


def encode_features(restorer: Restorer, image: Tensor, *, tile: int, shown: bool = True) -> list[Tensor]:
    """LQ features of a padded IMAGE `B H W 3` (0..1), finest first, on the intermediate device, in fp32 or as `kept_dtype` says.

    Of large batches, and with tiles, only the coarsest level is kept: the finer ones are as large as the picture times their channels.
    shown: with a progress bar of its own.
    """
    encoder = restorer.encoder
    batch, height, width, channels = image.shape
    dtype = picture_dtype(encoder.load_device)
    need = encoding_need(restorer, batch, channels, height, width)
    management.load_models_gpu([encoder], memory_required=need.bytes(tile) - need.held)
    tiles = regions(height // FACTOR, width // FACTOR, tile // FACTOR, need.halo // FACTOR)
    progress = comfy.utils.ProgressBar(batch * len(tiles)) if shown and batch * len(tiles) > 1 else None
    out = management.intermediate_device()
    fine = len(tiles) == 1 and batch * height * width <= KEPT_SKIPS_PIXELS
    levels: list[Tensor] = []
    for index in range(batch):
        for region in tiles:
            made = encoder.model.trunk(
                seen(image[index : index + 1], region, FACTOR).to(encoder.load_device, dtype)
            )
            made = made if fine else made[-1:]
            if not levels:
                scales = [2 ** (len(made) - 1 - level) for level in range(len(made))]
                sizes = [(height // FACTOR * scale, width // FACTOR * scale) for scale in scales]
                kept = kept_dtype(restorer.config.prior, height, width)
                levels = [
                    torch.empty(batch, m.shape[1], *size, device=out, dtype=kept)
                    for m, size in zip(made, sizes)
                ]
            for level, feature in zip(levels, made):
                scale = level.shape[-2] // (height // FACTOR)
                region.place(level[index : index + 1], region.inner(feature, scale), scale)
            if progress:
                progress.update(1)
    return levels


def _estimate(restorer: Restorer, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Severities, probabilities `B K` and maps `B K h w` of the coarsest features, one picture after the other."""
    encoder = restorer.encoder
    at = {"device": encoder.load_device, "dtype": picture_dtype(encoder.load_device)}
    made = [encoder.model.estimate(features[index : index + 1].to(**at)) for index in range(len(features))]
    probabilities, severities, maps = (torch.cat(each) for each in zip(*made))
    return severities, probabilities, maps


def _impression(restorer: Restorer, color: Tensor) -> GlobalStatistics | None:
    """What IMAGE `B H W 3` looks like as a whole, by DAEM's tone curve; None without one.

    DAEM is not loaded for it. The curve judges sixty numbers on the processor, and its layers cast their
    weights to where their input is.
    """
    if restorer.daem is None or restorer.daem.model.curve is None:
        return None
    look, processor = restorer.daem.model.global_statistics, torch.device("cpu")
    pictures = (picture.movedim(-1, 1) for picture in color.split(1))
    joined = GlobalStatistics.joined(look(picture, processor) for picture in pictures)
    return joined.to(management.intermediate_device())


def _encode_latent(vae: VAE, image: Tensor, tile: int) -> Tensor:
    """The VAE's latent of a padded IMAGE, in tiles if asked for or where the whole does not fit."""
    model = vae.first_stage_model
    ours = isinstance(model, Autoencoder)
    halo = trunk_halo(model.config) if ours else KL_HALO
    height, width = image.shape[1:3]
    need = Need(height, width, vae.memory_used_encode((1, 3, 1, 1), vae.vae_dtype), FACTOR * halo)
    encode = _latent_in_regions if ours else _latent_by_host
    chosen = choose_tile(tile, need, vae.device, "encoding the latent")
    return with_smaller_tiles(lambda side: encode(vae, image, side, need), chosen, "encoding the latent")


def _latent_by_host(vae: VAE, image: Tensor, tile: int, need: Need) -> Tensor:
    if tile >= need.whole:
        return vae.encode(image).float()
    return vae.encode_tiled(image, tile_x=tile, tile_y=tile, overlap=tile // 4).float()


def _latent_in_regions(vae: VAE, image: Tensor, tile: int, need: Need) -> Tensor:
    """One picture and one tile after the other: what is at work at a time does not grow with the batch."""
    batch, height, width, _ = image.shape
    management.load_models_gpu([vae.patcher], memory_required=need.bytes(tile))
    latent = torch.empty(
        batch, vae.latent_channels, height // FACTOR, width // FACTOR, device=vae.output_device
    )
    for index in range(batch):
        for region in regions(height // FACTOR, width // FACTOR, tile // FACTOR, need.halo // FACTOR):
            part = vae.encode_unit(seen(image[index : index + 1], region, FACTOR))
            region.place(latent[index : index + 1], region.inner(part))
    return latent
