"""DAEM in the decoder: every level's feature meets the LQ feature of its size.

Large pictures go in tiles. What looks at the whole picture (router, channel attention, pooled gates) is then judged by
sums over all tiles, made level by level from the deepest, before the tiles are decoded: with a halo as wide as the networks
reach, a tiled picture equals the whole one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import comfy.model_management as management
import comfy.utils
import torch
from comfy.model_patcher import ModelPatcher
from comfy.sd import VAE
from torch import Tensor

from ..architecture.autoencoder import Autoencoder
from ..architecture.daem import DAEM, LevelStatistics, PictureContext, Routing, tone_curve
from ..architecture.tone import shift
from ..picture import from_unit, join_alpha, match_color, to_unit
from .frames import over_time
from .inputs import require_numbers, samples_of
from .kl_walk import walk_of
from .memory import Need, choose_tile, give_back_freed, with_smaller_tiles
from .prior import Prior, require_prior, require_same_size
from .prior_encode import FACTOR, require_vae
from .reach import LEVELS, decoder_halos, trunk_halo
from .restorer import Restorer
from .steer import require_steerable
from .tiling import Region, regions, seen

NODE = "DAEM Decode"
Watch = Callable[[int, int, Region, Routing, Tensor], None]
"""Shown how experts were chosen: picture, level, tile, the router's decision, and its votes `1 E h w` for every latent pixel that the tile sees there."""
COLOR_FIXES = ("none", "wavelet", "adain")
ROWS = 256
DAEM_MEMORY = 0.5
"""DAEM and its skips beside the plain decoder, as a multiple of its memory: a third measured, and a margin."""


def decode_daem(
    latent: dict[str, Any],
    vae: VAE,
    restorer: Restorer,
    prior: Prior,
    *,
    strength: float = 1.0,
    tile: int = 0,
    color_fix: str = "none",
    watch: Watch | None = None,
) -> Tensor:
    """LATENT -> IMAGE `B H W 3` (4 with the alpha that came in), exactly the size of the picture that the prior is of.

    strength 0, or a restorer without DAEM, is the plain decoder. tile: side in pixels of the decoder's tiles; 0 is the whole picture
    where memory allows it, and the largest tile that fits where not. Tiles make no difference to the compact autoencoder, a small one
    to the KL one. color_fix takes colours from the damaged picture. watch is called for every picture, level and tile, where there is a
    DAEM at work. fp32, on the CPU, contiguous, 0..1.
    Raises ValueError if latent, prior, restorer and VAE do not fit together or the latent holds NaN, RuntimeError naming stage and dtype if NaN turns up, or if
    memory does not suffice.
    """
    require_numbers(NODE, strength=strength)
    samples = samples_of(latent, NODE)
    require_prior(restorer, prior, NODE)
    require_steerable(restorer, prior, NODE)
    require_vae(restorer, vae, NODE)
    require_same_size(samples, prior, NODE)
    if samples.shape[1] != prior.latent.shape[1] or len(prior.latent) not in (1, len(samples)):
        raise ValueError(
            f"{NODE}: the latent is {tuple(samples.shape)}, the prior's {tuple(prior.latent.shape)} (batch, channels, height, width). "
            "Connect the LATENT that was sampled with this prior."
        )
    if not torch.isfinite(samples).all():
        raise ValueError(
            f"{NODE}: the sampled latent holds NaN or infinite values, so they come from the sampler: some schedulers make them of few steps (kl_optimal "
            "of one). Take more steps, or another scheduler; with a MODEL in fp16, start ComfyUI with --fp32-unet."
        )
    daem = restorer.daem if strength != 0 else None
    need = decoding_need(vae, restorer, daem is not None, samples.shape)
    chosen = choose_tile(tile, need, vae.device, NODE)
    if daem is None and chosen >= need.whole:
        image = _plain(samples, vae, prior)
    else:
        image = with_smaller_tiles(lambda side: _decode(samples, vae, restorer, daem, prior, strength, side, need, watch), chosen, NODE)
    if color_fix != "none":
        image = from_unit(match_color(to_unit(image), to_unit(prior.unpadded), color_fix)).cpu()
    alpha = prior.alpha
    if alpha is not None:
        image = join_alpha(image, alpha.cpu().expand(len(image), -1, -1, -1))
    return image.contiguous()


def _plain(samples: Tensor, vae: VAE, prior: Prior) -> Tensor:
    """The host's own decoding, of whatever kind of VAE, without the padding."""
    image = vae.decode(samples)[:, : prior.geometry.height, : prior.geometry.width, :3]
    _require_finite(image, "the decoder", vae.vae_dtype)
    return image.float().cpu().clamp(0.0, 1.0)


def decoding_need(vae: VAE, restorer: Restorer, with_daem: bool, shape: torch.Size) -> Need:
    """Memory of the decoder, with DAEM and its skips beside it, on a latent of `shape` (`B C h w`)."""
    height, width = (FACTOR * side for side in shape[-2:])
    per_pixel = (1.0 + DAEM_MEMORY * with_daem) * vae.memory_used_decode((1, shape[1], 1, 1), vae.vae_dtype) / FACTOR**2
    halos = _halos_of(vae, restorer, with_daem)(None)
    return Need(height, width, per_pixel, FACTOR * max(halos), held=12 * shape[0] * height * width)


def _halos_of(vae: VAE, restorer: Restorer, with_daem: bool) -> Callable[[int | None], tuple[int, ...]]:
    """`decoder_halos` of these networks, by where the tile stops."""
    model = vae.first_stage_model
    return partial(decoder_halos, model.config if isinstance(model, Autoencoder) else None, restorer.config.daem if with_daem else None)


@dataclass(eq=False)
class _Picture:
    """One picture on its way through the decoder, batch of one; `image`, the damaged one `1 H W 3` of 0..1, `feature` and `skips` where
    the prior has them, all else on the decoder's device."""

    vae: VAE
    trunk: Callable[..., list[Tensor]]
    daem: DAEM | None
    latent: Tensor
    image: Tensor
    feature: Tensor
    skips: tuple[Tensor, ...] | None
    trunk_halo: int
    halos: Callable[[int | None], tuple[int, ...]]
    context: PictureContext | None
    strength: float
    watch: Callable[[int, Region, Routing, Tensor], None] | None = None
    statistics: dict[int, LevelStatistics] = field(default_factory=dict)

    def skip(self, level: int, scale: int, sight: Region, made: list[tuple[Region, list[Tensor]]]) -> Tensor:
        """The LQ feature that a tile sees at `level`: kept in the prior, or made from the picture, once per walk, and let go from `made`
        level by level."""
        if scale == 1:
            return sight.see(self.feature).to(self.latent)
        if self.skips is not None:
            return sight.see(self.skips[level], scale).to(self.latent)
        give_back_freed(self.latent.device, self.image[0, ..., 0].numel())
        if not made:
            wide = sight.widened(self.trunk_halo, *self.latent.shape[-2:])
            made.append((wide, self.trunk(seen(self.image, wide, FACTOR).to(self.latent), level + 1)))
        wide, features = made[0]
        return sight.within(wide, features.pop(), scale)

    def walk(self, region: Region, stop: int | None = None) -> LevelStatistics | Tensor:
        """Decode a tile: the statistics of its core at level `stop`, or without it the picture of its core."""
        size, halos = self.latent.shape[-2:], self.halos(stop)
        sight = region.grown(halos[-1], *size)
        walk = walk_of(self.vae, sight.see(self.latent))
        made: list[tuple[Region, list[Tensor]]] = []
        level, h = next(walk)
        while True:
            scale, wider = FACTOR // 2**level, sight
            sight = region.grown(halos[level], *size)
            h = sight.within(wider, h, scale)
            if self.daem is not None:
                experts = self.daem.levels[level]
                self._require_width(h, level)
                skip = self.skip(level, scale, sight, made)
                if level == stop:
                    return experts.statistics(sight.inner(experts.combine(h, skip)[1], scale // experts.pool))
                added, routing = experts(h, skip, self.context.vector, statistics=self.statistics.get(level))
                if self.watch is not None and stop is None:
                    votes = experts.votes(experts.combine(h, skip)[1], self.context.vector, scale // experts.pool)
                    self.watch(level, sight, routing, votes)
                h = h + self.strength * added
                # As large as `h` each, and at the finest level most of what a tile takes.
                del skip, added
            try:
                level, h = walk.send(h)
            except StopIteration as end:
                h, decoded = end.value
                break
        if self.daem is not None:
            # In fp32: the picture is the damaged one plus a little, which eight bits of mantissa would round away.
            lq = seen(self.image, sight, FACTOR).to(self.latent.device)
            decoded = self.daem.output(h.float(), decoded.float(), lq, self.context, self.strength)
        return sight.inner(decoded, FACTOR)

    def _require_width(self, h: Tensor, level: int) -> None:
        wanted = self.daem.config.decoder_widths[level]
        if h.shape[1] != wanted:
            raise ValueError(
                f"{NODE}: DAEM was made for a decoder with {wanted} channels at level {level}, this VAE has {h.shape[1]}. "
                "Use the VAE that the restorer was trained with."
            )


def _decode(
    samples: Tensor,
    vae: VAE,
    restorer: Restorer,
    daem: ModelPatcher | None,
    prior: Prior,
    strength: float,
    tile: int,
    need: Need,
    watch: Watch | None,
) -> Tensor:
    """Latent `B C h w` -> IMAGE `B H W 3` on the CPU without the padding, one picture and one tile after the other."""
    height, width = samples.shape[-2:]
    tiles = regions(height, width, tile // FACTOR, 0)
    networks = [vae.patcher, restorer.encoder, daem] if daem else [vae.patcher]
    management.load_models_gpu(networks, memory_required=need.bytes(tile) - need.held)
    levels = len(restorer.config.daem.widths) if daem and len(tiles) > 1 else 0
    progress = comfy.utils.ProgressBar(len(samples) * len(tiles) * (1 + levels))
    contexts = _contexts(vae, daem, prior) if daem else [None]
    out = torch.empty(len(samples), prior.geometry.height, prior.geometry.width, 3)
    curves = []
    for index in range(len(samples)):
        picture = _picture(samples, vae, restorer, daem, prior, strength, index, contexts)
        picture.watch = watch and partial(watch, index)
        for level in reversed(range(levels)):
            for region in tiles:
                part = picture.walk(region, stop=level)
                picture.statistics[level] = picture.statistics[level] + part if level in picture.statistics else part
                progress.update(1)
        for region in tiles:
            made = picture.walk(region)
            _require_finite(made, "decoder and DAEM" if daem else "the decoder", vae.vae_dtype)
            top, left = region.core[0] * FACTOR, region.core[1] * FACTOR
            # The padding lies below and to the right: the last tiles reach beyond the canvas.
            canvas = out[index : index + 1, top : top + made.shape[-2], left : left + made.shape[-1]]
            canvas.copy_(from_unit(made[..., : canvas.shape[1], : canvas.shape[2]]))
            progress.update(1)
        if daem is not None and daem.model.curve is not None:
            curves.append(_tone_curve(out[index : index + 1].movedim(-1, 1), picture))
    if curves:
        _set_tones(out.movedim(-1, 1), strength * over_time(torch.cat(curves), prior.smooth if len(prior.latent) > 1 else 0))
    return out


def _tone_curve(canvas: Tensor, picture: _Picture) -> Tensor:
    """What a whole repaired picture `1 3 H W`, 0..1, still has of a wrong tone -> curve `1 3 3`."""
    height, width = canvas.shape[-2:]
    damaged = picture.image[:, :height, :width].movedim(-1, 1)
    curve = tone_curve(picture.daem, canvas, damaged.to(picture.latent.device), picture.context)
    _require_finite(curve, "the tone curve", picture.latent.dtype)
    return curve


def _set_tones(canvas: Tensor, curves: Tensor) -> None:
    """Put their curves `B 3 3` on pictures `B 3 H W`, 0..1, in place, some rows at a time."""
    for picture, curve in zip(canvas.split(1), curves.to(canvas).split(1)):
        for rows in picture.split(ROWS, dim=2):
            rows.add_(shift(rows, curve)).clamp_(0, 1)


def _contexts(vae: VAE, daem: ModelPatcher, prior: Prior) -> list[PictureContext]:
    """What DAEM knows of each picture as a whole, averaged over the frames of a video if the prior says so."""
    at = {"device": vae.device}
    made = []
    for index in range(len(prior.features)):
        mine = slice(index, index + 1)
        feature = prior.features[mine].to(dtype=vae.vae_dtype, **at)
        estimate = (x[mine].to(**at) for x in (prior.severities, prior.steered, prior.probabilities))
        made.append(daem.model.context(feature, *estimate))
    whole = [over_time(torch.cat(rows), prior.smooth) for rows in zip(*((c.vector, c.anchor, c.probabilities, c.steering) for c in made))]
    return [PictureContext(*(row[None] for row in each)) for each in zip(*whole)]


def _picture(
    samples: Tensor,
    vae: VAE,
    restorer: Restorer,
    daem: ModelPatcher | None,
    prior: Prior,
    strength: float,
    index: int,
    contexts: list[PictureContext | None],
) -> _Picture:
    at = {"device": vae.device, "dtype": vae.vae_dtype}
    own = index if len(prior.latent) > 1 else 0
    mine = slice(own, own + 1)
    return _Picture(
        vae=vae,
        trunk=restorer.encoder.model.trunk,
        daem=daem.model if daem else None,
        latent=samples[index : index + 1].to(**at),
        image=prior.image[mine],
        feature=prior.features[mine],
        skips=None if prior.skips is None else tuple(skip[mine] for skip in prior.skips),
        trunk_halo=trunk_halo(restorer.config.prior, LEVELS - 1),
        halos=_halos_of(vae, restorer, daem is not None),
        context=contexts[own if daem else 0],
        strength=strength,
    )


def _require_finite(x: Tensor, stage: str, dtype: torch.dtype) -> None:
    if not torch.isfinite(x).all():
        raise RuntimeError(
            f"{NODE}: NaN or infinite values in {stage} ({dtype}). Start ComfyUI with --fp32-vae (or --fp32-unet, if it is the latent)."
        )
