"""DAEM in the decoder: every level's feature meets the LQ feature of its size.

Large pictures go in tiles. What looks at the whole picture (router, channel attention, pooled gates) is then judged by
sums over all tiles, made level by level from the deepest, before the tiles are decoded: with a halo as wide as the networks
reach, a tiled picture equals the whole one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import comfy.model_management as management
import comfy.utils
import torch
from comfy.sd import VAE
from torch import Tensor

from ..models.daem_level import Routing
from ..models.tone_curve import shift
from ..picture import feathered, from_unit, join_alpha, match_color, to_unit
from ..picture.tiles import Region, regions
from ..pipeline.prior import Prior, require_prior, require_same_size
from ..pipeline.steer import require_steerable
from ..pipeline.temporal_smoothing import over_time
from ..pipeline.tiled_decoder import Work, contexts, halos_of, picture_walk, require_finite
from ..pipeline.validate import mask_of, require_numbers, samples_of
from .memory import Need, choose_tile, with_smaller_tiles
from .prior_encode import FACTOR, require_vae
from .restorer import Restorer

Watch = Callable[[int, int, Region, Routing, Tensor], None]
"""Shown how experts were chosen: picture, level, tile, the router's decision, and its votes `1 E h w` for every latent pixel that the tile sees there."""
COLOR_FIXES = ("none", "wavelet", "adain")
ROWS = 256
MIRRORED = ((), (1, 2), (2,), (1,))
"""An ensemble's copies of a picture, by the dimensions of an IMAGE that are turned round: as it is, by half a turn, left to right, upside down."""


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
    watch: Watch | None = None,
) -> Tensor:
    """LATENT -> IMAGE `B H W 3` (4 with the alpha that came in), exactly the size of the picture that the prior is of.

    strength 0, or a restorer without DAEM, is the plain decoder. tile: side in pixels of the decoder's tiles;
    0 is the whole picture where memory allows it, and the largest tile that fits where not. Tiles make no
    difference to the compact autoencoder, a small one to the KL one. color_fix takes colours from the damaged
    picture. ensemble: so many mirrored copies, 1 to 4, are decoded and their mean is taken, in so many times
    the time: what the networks make of a place depends a little on which way it is turned. watch is called
    for every picture, level and tile, where there is a DAEM at work, of the copy that is not mirrored. fp32,
    on the CPU, contiguous, 0..1. With a noise mask in the LATENT, the result outside of the mask is exactly
    the damaged picture. Inside, the decoded picture fades in from the mask's border (`feathered`). As in the
    host's samplers, a mask of another size is stretched, and masks are repeated for a larger batch.
    Raises ValueError if ensemble is out of range, if latent, prior, restorer and VAE do not fit together or
    the latent holds NaN, RuntimeError naming stage and dtype if NaN turns up, or if memory does not suffice.
    """
    require_numbers(strength=strength)
    if ensemble not in range(1, len(MIRRORED) + 1):
        raise ValueError(f"ensemble is {ensemble}; expected 1 (off) to {len(MIRRORED)} mirrored copies.")
    samples, mask = samples_of(latent), mask_of(latent)
    require_prior(restorer, prior)
    require_steerable(restorer, prior)
    require_vae(restorer, vae)
    require_same_size(samples, prior)
    if samples.shape[1] != prior.latent.shape[1] or len(prior.latent) not in (1, len(samples)):
        raise ValueError(
            f"the latent is {tuple(samples.shape)}, the prior's {tuple(prior.latent.shape)} (batch, channels, height, width). "
            "Connect the LATENT that was sampled with this prior."
        )
    if not torch.isfinite(samples).all():
        raise ValueError(
            "the sampled latent holds NaN or infinite values, so they come from the sampler: some schedulers make them of few steps (kl_optimal "
            "of one). Take more steps, or another scheduler; with a MODEL in fp16, start ComfyUI with --fp32-unet."
        )
    daem = restorer.daem if strength != 0 else None
    need = decoding_need(vae, restorer, daem is not None, samples.shape, ensemble)
    chosen = choose_tile(tile, need, vae.device, "decoding")
    if daem is None and chosen >= need.whole and ensemble == 1:
        image = _plain(samples, vae, prior)
    else:
        work = Work(samples, vae, restorer, daem, prior, strength)
        image = with_smaller_tiles(lambda side: _mean(work, side, need, watch, ensemble), chosen, "decoding")
    if daem is not None and prior.estimated and restorer.family.keeps_undamaged:
        _leave_sound(image, prior, daem.model.picture_change(prior.probabilities))
    if color_fix != "none":
        image = from_unit(match_color(to_unit(image), to_unit(prior.unpadded), color_fix)).cpu()
    if mask is not None:
        _keep_unmasked(image, mask, prior)
    alpha = prior.alpha
    if alpha is not None:
        image = join_alpha(image, alpha.cpu().expand(len(image), -1, -1, -1))
    return image.contiguous()


def _damaged(prior: Prior, index: int, like: Tensor) -> Tensor:
    """The damaged picture `H W 3`, 0..1, that picture `index` of a result was made of: one may serve for all."""
    return prior.unpadded[index if len(prior.latent) > 1 else 0].to(like).clamp(0.0, 1.0)


def _leave_sound(image: Tensor, prior: Prior, shares: Tensor) -> None:
    """Put the damaged picture back into IMAGE `B H W 3`, in place, but for the share of the repair `shares` `B` that it gets."""
    for index, (picture, share) in enumerate(zip(image, shares.expand(len(image)).tolist())):
        if share < 1:
            picture.copy_(torch.lerp(_damaged(prior, index, picture), picture, share))


def _keep_unmasked(image: Tensor, masks: Tensor, prior: Prior) -> None:
    """Put the damaged picture back into IMAGE `B H W 3` outside of the masks `M 1 h w`, 0..1, in place."""
    for index, picture in enumerate(image):
        # The host stretches and repeats masks like this for its samplers, over the latent instead of the
        # picture.
        mask = comfy.utils.reshape_mask(masks[index % len(masks), None], (1, 1, *picture.shape[:2]))
        picture.copy_(
            torch.lerp(
                _damaged(prior, index, picture), picture, feathered(mask)[0].movedim(0, -1).to(picture)
            )
        )


def _plain(samples: Tensor, vae: VAE, prior: Prior) -> Tensor:
    """The host's own decoding, of whatever kind of VAE, without the padding."""
    image = vae.decode(samples)[:, : prior.geometry.height, : prior.geometry.width, :3]
    require_finite(image, "the decoder", vae.vae_dtype)
    return image.float().cpu().clamp(0.0, 1.0)


def decoding_need(
    vae: VAE, restorer: Restorer, with_daem: bool, shape: torch.Size, ensemble: int = 1
) -> Need:
    """Memory of the decoder, with DAEM and its skips beside it, on a latent of `shape` (`B C h w`)."""
    height, width = (FACTOR * side for side in shape[-2:])
    per_pixel = (
        (1.0 + restorer.config.calibration.daem_memory * with_daem)
        * vae.memory_used_decode((1, shape[1], 1, 1), vae.vae_dtype)
        / FACTOR**2
    )
    halos = halos_of(vae, restorer, with_daem)(None)
    return Need(
        height,
        width,
        per_pixel,
        FACTOR * max(halos),
        held=12 * shape[0] * height * width * (3 if ensemble > 1 else 1),
    )


def _mean(work: Work, tile: int, need: Need, watch: Watch | None, ensemble: int) -> Tensor:
    """`_decode` of so many mirrored copies, turned back, and their mean."""
    tiles, levels = _passes(work, tile)
    progress = comfy.utils.ProgressBar(ensemble * len(work.samples) * len(tiles) * (1 + levels))
    out = _decode(work, tile, need, watch, progress)
    for turned in MIRRORED[1:ensemble]:
        copy = _decode(work.mirrored(turned, tile), tile, need, None, progress).flip(turned)
        out += copy[:, : out.shape[1], : out.shape[2]]
    return out.div_(ensemble)


def _passes(work: Work, tile: int) -> tuple[list[Region], int]:
    """The tiles of a picture, and how many levels are gone through before for what is judged of all of them."""
    tiles = regions(*work.samples.shape[-2:], tile // FACTOR, 0)
    return tiles, len(work.daem.model.levels) if work.daem and len(tiles) > 1 else 0


def _decode(
    work: Work, tile: int, need: Need, watch: Watch | None, progress: comfy.utils.ProgressBar
) -> Tensor:
    """Latent `B C h w` -> IMAGE `B H W 3` on the CPU without the padding, one picture and one tile after the other."""
    samples, daem, prior, vae = work.samples, work.daem, work.prior, work.vae
    tiles, levels = _passes(work, tile)
    networks = [vae.patcher, work.restorer.encoder, daem] if daem else [vae.patcher]
    management.load_models_gpu(networks, memory_required=need.bytes(tile) - need.held)
    known = contexts(work)
    out = torch.empty(len(samples), prior.geometry.height, prior.geometry.width, 3)
    curves = []
    for index in range(len(samples)):
        picture = picture_walk(work, index, known)
        picture.watch = watch and partial(watch, index)
        for level in reversed(range(levels)):
            for region in tiles:
                part = picture.walk(region, stop=level)
                picture.statistics[level] = (
                    picture.statistics[level] + part if level in picture.statistics else part
                )
                progress.update(1)
        for region in tiles:
            made = picture.walk(region)
            require_finite(made, "decoder and DAEM" if daem else "the decoder", vae.vae_dtype)
            top, left = region.core[0] * FACTOR, region.core[1] * FACTOR
            # The padding lies below and to the right: the last tiles reach beyond the canvas.
            canvas = out[index : index + 1, top : top + made.shape[-2], left : left + made.shape[-1]]
            canvas.copy_(from_unit(made[..., : canvas.shape[1], : canvas.shape[2]]))
            progress.update(1)
        if daem is not None and daem.model.curve is not None:
            curves.append(picture.tone_curve(out[index : index + 1].movedim(-1, 1)))
    if curves:
        made, wanted = (torch.cat(rows) for rows in zip(*curves))
        # A frame counts by its share: one whose tones are to stay says nothing about its neighbours' tones.
        made = over_time(made, prior.smooth if len(prior.latent) > 1 else 0, wanted[:, 0])
        _set_tones(out.movedim(-1, 1), work.strength * made * wanted[..., None])
    return out


def _set_tones(canvas: Tensor, curves: Tensor) -> None:
    """Put their curves `B 3 3` on pictures `B 3 H W`, 0..1, in place, some rows at a time."""
    for picture, curve in zip(canvas.split(1), curves.to(canvas).split(1)):
        for rows in picture.split(ROWS, dim=2):
            rows.add_(shift(rows, curve)).clamp_(0, 1)
