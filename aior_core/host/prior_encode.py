"""From a damaged picture to its prior."""

from __future__ import annotations

import comfy.model_management as management
import comfy.utils
import torch
from comfy.sd import VAE
from torch import Tensor

from ..architecture.autoencoder import Autoencoder
from ..picture import pad_to_multiple, split_alpha, to_unit
from .inputs import require_kind
from .prior import Prior
from .reach import trunk_halo
from .restorer import Restorer, picture_dtype, require_restorer
from .tiling import regions
from .vae import BYTES_PER_PIXEL

FACTOR = 8
SMALLEST = 16
NODE = "Encode Degradation Prior"
KEPT_SKIPS_PIXELS = 2**20
"""Fine features of larger batches are not kept but made again per tile: they take about 240 MB per megapixel."""


def encode_prior(restorer: Restorer, vae: VAE, image: Tensor, *, tile: int = 0) -> Prior:
    """IMAGE `B H W C` in 0..1, any size from 16x16 up -> Prior.

    tile: side in pixels of the tiles that large pictures are encoded in; 0 is the whole picture at once. Equal for the
    compact restorer, close for KL encoders. Alpha is set aside in the prior. Deterministic.
    Raises ValueError for something that is no IMAGE, sides below 16 pixels, NaN or infinite values, or a VAE of another kind.
    """
    require_vae(restorer, vae, NODE)
    try:
        color, alpha = split_alpha(image)
        picture = to_unit(color)
    except ValueError as error:
        raise ValueError(f"{NODE}: {error}") from error
    if min(picture.shape[-2:]) < SMALLEST:
        raise ValueError(
            f"{NODE}: the picture is {picture.shape[3]}x{picture.shape[2]} pixels; at least {SMALLEST}x{SMALLEST} are needed. "
            "Enlarge it first (Upscale Image)."
        )
    picture, geometry = pad_to_multiple(picture, FACTOR)
    out = management.intermediate_device()
    picture = picture.to(out)
    features = encode_features(restorer, picture, tile=tile)
    encoder = restorer.encoder
    probabilities, severities, maps = encoder.model.estimate(features[-1].to(encoder.load_device, picture_dtype(encoder.load_device)))
    batch, _, height, width = picture.shape
    keep = restorer.daem is not None and len(features) > 1 and batch * height * width <= KEPT_SKIPS_PIXELS
    prior = Prior(
        features=features[-1],
        skips=tuple(features[:-1]) if keep else None,
        picture=picture,
        latent=_encode_latent(vae, picture, tile),
        severities=severities.to(out),
        probabilities=probabilities.to(out),
        maps=maps.to(out),
        geometry=geometry,
        alpha=alpha,
        estimated=encoder.model.head is not None,
    )
    for name in ("features", "latent", "severities"):
        if not torch.isfinite(getattr(prior, name)).all():
            raise RuntimeError(f"{NODE}: NaN or infinite {name} in {picture_dtype(encoder.load_device)}. Start ComfyUI with --fp32-vae.")
    return prior


def require_vae(restorer: Restorer, vae: VAE, node: str) -> None:
    """Raise ValueError unless `vae` is of the kind that the restorer goes with."""
    require_restorer(restorer, node)
    require_kind(node, "vae", vae, VAE, "the VAE that goes with the restorer")
    vae.throw_exception_if_invalid()
    ours = isinstance(vae.first_stage_model, Autoencoder)
    if ours != (restorer.config.scale == "compact"):
        wanted = "the VAE of Load AIOR Compact" if restorer.config.scale == "compact" else "the VAE of an SDXL checkpoint"
        raise ValueError(f"{node}: this restorer ({restorer.source}) is of scale {restorer.config.scale} and needs {wanted}.")


def encode_features(restorer: Restorer, picture: Tensor, *, tile: int = 0) -> list[Tensor]:
    """LQ features of a padded picture `B 3 H W` (-1..1), finest first, fp32 on the intermediate device.

    With `tile` only the coarsest level is made: the finer ones would be as large as the picture times their channels.
    """
    encoder = restorer.encoder
    batch, _, height, width = picture.shape
    dtype = picture_dtype(encoder.load_device)
    config = restorer.config.prior
    seen = height * width if tile <= 0 else (tile + 2 * FACTOR * trunk_halo(config)) ** 2
    needed = BYTES_PER_PIXEL * config.widths[0] * seen * management.dtype_size(dtype)
    management.load_models_gpu([encoder], memory_required=needed)
    tiles = regions(height // FACTOR, width // FACTOR, tile // FACTOR, trunk_halo(config))
    progress = comfy.utils.ProgressBar(batch * len(tiles)) if len(tiles) > 1 else None
    out = management.intermediate_device()
    rows = []
    for index in range(batch):
        levels: list[Tensor] = []
        for region in tiles:
            seen_picture = region.see(picture[index : index + 1], FACTOR).to(encoder.load_device, dtype)
            made = [feature.to(out, torch.float32) for feature in encoder.model.trunk(seen_picture)]
            if len(tiles) == 1:
                levels = made
                break
            deepest = made[-1]
            if not levels:
                levels = [torch.empty(1, deepest.shape[1], height // FACTOR, width // FACTOR, device=out)]
            region.place(levels[0], region.inner(deepest))
            progress.update(1)
        rows.append(levels)
    return [torch.cat(level) for level in zip(*rows)]


def _encode_latent(vae: VAE, picture: Tensor, tile: int) -> Tensor:
    """The VAE's latent of a padded picture, in tiles if asked for."""
    height, width = picture.shape[-2:]
    image = picture.movedim(1, -1).add(1.0).mul_(0.5)
    if tile <= 0 or max(height, width) <= tile:
        return vae.encode(image).float()
    model = vae.first_stage_model
    if not isinstance(model, Autoencoder):
        return vae.encode_tiled(image, tile_x=tile, tile_y=tile, overlap=tile // 4).float()
    halo = trunk_halo(model.config)
    shape = (len(picture), 3, tile + 2 * FACTOR * halo, tile + 2 * FACTOR * halo)
    management.load_models_gpu([vae.patcher], memory_required=vae.memory_used_encode(shape, vae.vae_dtype))
    latent = torch.empty(len(picture), vae.latent_channels, height // FACTOR, width // FACTOR, device=vae.output_device)
    for region in regions(height // FACTOR, width // FACTOR, tile // FACTOR, halo):
        region.place(latent, region.inner(vae.encode_unit(region.see(picture, FACTOR))))
    return latent
