"""One picture's way through the decoder, with DAEM's experts at every level, a tile at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from comfy.model_patcher import ModelPatcher
from comfy.sd import VAE
from torch import Tensor

from ..host.memory import give_back_freed
from ..host.prior_encode import FACTOR, encode_features
from ..host.restorer import Restorer
from ..models.autoencoder import Autoencoder
from ..models.daem import DAEM, PictureContext, unsteered_tone_curve
from ..models.daem_level import LevelStatistics, Routing
from ..models.decoder_stages import walk_of
from ..models.degradation_head import pooled_statistics
from ..picture import Geometry
from ..picture.tiles import Region, seen
from .prior import Prior
from .receptive_field import LEVELS, decoder_halos, trunk_halo
from .temporal_smoothing import over_time


def halos_of(vae: VAE, restorer: Restorer, with_daem: bool) -> Callable[[int | None], tuple[int, ...]]:
    """`decoder_halos` of these networks, by where the tile stops."""
    model = vae.first_stage_model
    return partial(
        decoder_halos,
        model.config if isinstance(model, Autoencoder) else None,
        restorer.config.daem if with_daem else None,
    )


@dataclass(frozen=True, eq=False)
class Work:
    """What is to be decoded: latents `B C h w` with these networks and their prior. `daem` None is the plain decoder."""

    samples: Tensor
    vae: VAE
    restorer: Restorer
    daem: ModelPatcher | None
    prior: Prior
    strength: float

    def mirrored(self, turned: tuple[int, ...], tile: int) -> Work:
        """The same with the dimensions `turned` of an IMAGE flipped. The padding is then decoded too.

        The features of every level are made anew from the mirrored picture, in tiles of `tile` pixels: the
        networks are not symmetric, so the picture's own features, flipped, would be wrong. The estimate
        stays.
        """
        prior, inner = self.prior, [dimension + 1 for dimension in turned]
        height, width = prior.geometry.padded
        other = replace(prior, image=prior.image.flip(turned), geometry=Geometry(height, width, 0, 0))
        if self.daem is not None:
            *skips, features = encode_features(self.restorer, other.image, tile=tile, shown=False)
            other = replace(other, features=features, skips=tuple(skips) or None)
        return replace(self, samples=self.samples.flip(inner), prior=other)


@dataclass(eq=False)
class PictureWalk:
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
                    votes = experts.votes(
                        experts.combine(h, skip)[1], self.context.vector, scale // experts.pool
                    )
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
                f"DAEM was made for a decoder with {wanted} channels at level {level}, this VAE has {h.shape[1]}. "
                "Use the VAE that the restorer was trained with."
            )

    def tone_curve(self, canvas: Tensor) -> tuple[Tensor, Tensor]:
        """The tone curve `1 3 3` of the whole repaired picture `1 3 H W`, 0..1, and its share `1 1`."""
        curve, wanted = unsteered_tone_curve(self.daem, canvas, self.context.appearance, self.context)
        require_finite(curve, "the tone curve", self.latent.dtype)
        return curve, wanted


def contexts(work: Work) -> list[PictureContext | None]:
    """What DAEM knows of each picture of the prior as a whole, averaged over the frames of a video if the prior says so."""
    prior, vae = work.prior, work.vae
    if work.daem is None:
        return [None] * len(prior.features)
    features = (feature.to(vae.device, vae.vae_dtype) for feature in prior.features.split(1))
    # The estimate was averaged when the prior was made, and steering is a person's choice: neither is
    # averaged here.
    statistics = over_time(torch.cat([pooled_statistics(feature) for feature in features]), prior.smooth)
    made = []
    for index in range(len(prior.features)):
        mine = slice(index, index + 1)
        estimate = (x[mine].to(vae.device) for x in (prior.severities, prior.steered, prior.probabilities))
        global_statistics = (
            None if prior.global_statistics is None else prior.global_statistics.rows(mine).to(vae.device)
        )
        made.append(
            work.daem.model.context_of(statistics[mine], *estimate, global_statistics, dtype=vae.vae_dtype)
        )
    return made


def picture_walk(work: Work, index: int, known: list[PictureContext | None]) -> PictureWalk:
    """The way of latent `index`; `known` is what `contexts` gave."""
    prior, restorer, vae = work.prior, work.restorer, work.vae
    own = index if len(prior.latent) > 1 else 0
    mine = slice(own, own + 1)
    return PictureWalk(
        vae=vae,
        trunk=restorer.encoder.model.trunk,
        daem=work.daem.model if work.daem else None,
        latent=work.samples[index : index + 1].to(vae.device, vae.vae_dtype),
        image=prior.image[mine],
        feature=prior.features[mine],
        skips=None if prior.skips is None else tuple(skip[mine] for skip in prior.skips),
        trunk_halo=trunk_halo(restorer.config.prior, LEVELS - 1),
        halos=halos_of(vae, restorer, work.daem is not None),
        context=known[own],
        strength=work.strength,
    )


def require_finite(x: Tensor, stage: str, dtype: torch.dtype) -> None:
    """Raise RuntimeError naming the stage and its dtype if `x` holds NaN or infinite values."""
    if not torch.isfinite(x).all():
        raise RuntimeError(
            f"NaN or infinite values in {stage} ({dtype}). Start ComfyUI with --fp32-vae (or --fp32-unet, if it is the latent)."
        )
