"""The decoder's walk with DAEM: at every level the experts add what they find in the damaged picture's
features.

`DecoderPass` is one batch of latents on its way through the decoder. Training takes whole pictures with
gradients (`decode_with_detail`). The host decodes large pictures in tiles (`decode_pictures`): what depends
on the whole picture (router, channel attention, pooled gates) is first summed over all tiles, level by level
from the deepest, and then used by every tile. With a halo as wide as the networks' receptive field, a tiled
picture equals the whole one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn

from ..models.autoencoder import Autoencoder
from ..models.calibration import Calibration
from ..models.config import DAEMConfig, PriorConfig
from ..models.daem import DAEM, PictureContext
from ..models.daem_level import DAEMLevel, LevelStatistics, Routing
from ..models.decoder_stages import walk_of
from ..models.degradation_head import pooled_statistics
from ..models.tone_curve import appearance, cells, shift, tones
from ..picture import Geometry, feathered, from_unit
from ..picture.tiles import Region, seen
from .encode import Encoded, Trunk
from .prior import FACTOR, Prior
from .receptive_field import LEVELS, decoder_halos, trunk_halo
from .temporal_smoothing import over_time
from .validate import require_finite

Halos = Callable[[int | None], tuple[int, ...]]
"""`halos(stop)`: the halos of a tile at each level and of its latent, as `decoder_halos` gives them."""
Watch = Callable[[int, "Region | None", Routing, Callable[[], Tensor]], None]
"""`watch(level, region, routing, votes)` is called after each level. `votes()` computes the router's logits
by place, `B E h w`."""
PictureWatch = Callable[[int, int, Region, Routing, Tensor], None]
"""`watch(picture, level, region, routing, votes)` is called after each level of each tile. votes: `1 E h w`,
for what the tile sees there."""
ROWS = 256
"""Rows of a picture to which the tone curve is applied at a time."""


class Reader(Protocol):
    """Gives the LQ feature of a level for the region that a tile sees there; None is the whole picture."""

    def __call__(self, level: int, sight: Region | None) -> Tensor: ...


class DamagedPictures(Protocol):
    """What the decoder reads of the damaged pictures."""

    def reader(self) -> Reader:
        """A reader for one pass through the decoder, which asks for each level once, deepest first."""
        ...

    def picture(self, sight: Region | None) -> Tensor:
        """The damaged pictures themselves, `B 3 H W`, -1..1."""
        ...


@dataclass(frozen=True, eq=False)
class WholePictures:
    """Damaged pictures whose LQ features exist at every level: `features` finest first, `lq` `B 3 H W`,
    -1..1."""

    features: Sequence[Tensor]
    lq: Tensor

    def reader(self) -> Reader:
        return lambda level, sight: self.features[level]

    def picture(self, sight: Region | None) -> Tensor:
        return self.lq


@dataclass(frozen=True, eq=False)
class PriorPicture:
    """One picture of a prior. Fine LQ features that the prior does not hold are computed for each tile.

    image: `1 H W 3`, 0..1. feature and skips: as in `Prior`. trunk: computes what is missing, and sees
    `trunk_halo` latent pixels more than the tile. device, dtype: those of the decoder. between_levels: called
    before a level whose feature is computed (the host releases memory there).
    """

    image: Tensor
    feature: Tensor
    skips: tuple[Tensor, ...] | None
    trunk: Trunk
    trunk_halo: int
    device: torch.device
    dtype: torch.dtype
    between_levels: Callable[[], None] | None = None

    def reader(self) -> Reader:
        computed: list[tuple[Region, list[Tensor]]] = []

        def read(level: int, sight: Region | None) -> Tensor:
            assert sight is not None, "pictures of a prior are decoded by region"
            scale = FACTOR // 2**level
            if scale == 1:
                return sight.see(self.feature).to(self.device, self.dtype)
            if self.skips is not None:
                return sight.see(self.skips[level], scale).to(self.device, self.dtype)
            if self.between_levels is not None:
                self.between_levels()
            if not computed:
                wide = sight.widened(self.trunk_halo, *self.feature.shape[-2:])
                part = seen(self.image, wide, FACTOR).to(self.device, self.dtype)
                computed.append((wide, self.trunk(part, level + 1)))
            wide, features = computed[0]
            # Each level is released when it has been read: the finest takes most of the memory, and comes
            # last.
            return sight.within(wide, features.pop(), scale)

        return read

    def picture(self, sight: Region | None) -> Tensor:
        assert sight is not None, "pictures of a prior are decoded by region"
        # In fp32: the result is the damaged picture plus a small change, which bfloat16's 8 bits of mantissa
        # would round away.
        return seen(self.image, sight, FACTOR).to(self.device)


@dataclass(eq=False)
class DecoderPass:
    """A batch of latents on its way through a decoder, whole or one region at a time.

    autoencoder: ours or a KL one. daem: None is the plain decoder. latent: `B C h w`, on the decoder's device
    and in its dtype.
    strength: of DAEM. halos: needed for regions only. output_dtype: the dtype of DAEM's output stage
    (default: the decoder's).
    noise: perturbs the router's logits, in training. statistics: of the whole picture, by level, where tiles
    share them.
    """

    autoencoder: nn.Module
    daem: DAEM | None
    latent: Tensor
    damaged: DamagedPictures
    context: PictureContext | None
    strength: float = 1.0
    halos: Halos | None = None
    output_dtype: torch.dtype | None = None
    noise: torch.Generator | None = None
    watch: Watch | None = None
    statistics: dict[int, LevelStatistics] = field(default_factory=dict)

    def decode(self, region: Region | None = None) -> Tensor:
        """The pictures, or the core of a region of them, `B 3 H W`, -1..1 before clamping, before the tone
        curve."""
        made = self._walk(region, None)
        assert isinstance(made, Tensor)
        return made

    def level_statistics(self, region: Region, level: int) -> LevelStatistics:
        """The sums over the core of a region by which the whole picture is judged at `level`."""
        made = self._walk(region, level)
        assert isinstance(made, LevelStatistics)
        return made

    def pool_statistics(self, tiles: Sequence[Region], tick: Callable[[], None]) -> None:
        """Fill `statistics` with sums over all tiles, deepest level first: each level builds on the ones
        below. tick: called after each tile."""
        assert self.daem is not None
        for level in reversed(range(len(self.daem.levels))):
            for region in tiles:
                part = self.level_statistics(region, level)
                self.statistics[level] = self.statistics[level] + part if level in self.statistics else part
                tick()

    def _walk(self, region: Region | None, stop: int | None) -> Tensor | LevelStatistics:
        """Decode up to the statistics of level `stop`, or without it to the picture. A region shrinks from
        level to level."""
        sights = self._sights(region, stop)
        sight = sights[-1]
        walk = walk_of(self.autoencoder, _cut(sight, self.latent))
        read = self.damaged.reader()
        level, h = next(walk)
        while True:
            wider, sight = sight, sights[level]
            h = _narrow(sight, wider, h, FACTOR // 2**level)
            if self.daem is not None:
                if level == stop:
                    assert sight is not None
                    return self._statistics(level, h, read(level, sight), sight)
                h = self._with_experts(level, h, read, sight, final=stop is None)
            try:
                level, h = walk.send(h)
            except StopIteration as end:
                h, decoded = end.value
                break
        if self.daem is not None:
            if self.output_dtype is not None:
                h, decoded = h.to(self.output_dtype), decoded.to(self.output_dtype)
            assert self.context is not None
            decoded = self.daem.output(h, decoded, self.damaged.picture(sight), self.context, self.strength)
        return decoded if sight is None else sight.inner(decoded, FACTOR)

    def _sights(self, region: Region | None, stop: int | None) -> tuple[Region | None, ...]:
        """What a tile sees at each level, and last of the latent; None is everything."""
        if region is None:
            return (None,) * (LEVELS + 1)
        assert self.halos is not None, "regions need halos"
        return tuple(region.grown(halo, *self.latent.shape[-2:]) for halo in self.halos(stop))

    def _statistics(self, level: int, h: Tensor, skip: Tensor, sight: Region) -> LevelStatistics:
        experts = self._experts(level, h)
        small = experts.combine(h, skip)[1]
        return experts.statistics(sight.inner(small, FACTOR // 2**level // experts.pool))

    def _with_experts(
        self, level: int, h: Tensor, read: Reader, sight: Region | None, *, final: bool
    ) -> Tensor:
        """`h` plus what the experts of `level` add. `skip` and `added`, each as large as `h`, are released on
        return."""
        assert self.context is not None
        experts = self._experts(level, h)
        skip, vector = read(level, sight), self.context.vector
        added, routing = experts(h, skip, vector, statistics=self.statistics.get(level), noise=self.noise)
        if self.watch is not None and final:
            cell = FACTOR // 2**level // experts.pool
            self.watch(
                level, sight, routing, lambda: experts.votes(experts.combine(h, skip)[1], vector, cell)
            )
        return h + self.strength * added

    def _experts(self, level: int, h: Tensor) -> DAEMLevel:
        """The experts of a level. Raises ValueError if they were built for a decoder of another width."""
        assert self.daem is not None
        wanted = self.daem.config.decoder_widths[level]
        if h.shape[1] != wanted:
            raise ValueError(
                f"DAEM was made for a decoder with {wanted} channels at level {level}, this VAE has "
                f"{h.shape[1]}. "
                "Use the VAE that the restorer was trained with."
            )
        experts = self.daem.levels[level]
        assert isinstance(experts, DAEMLevel)
        return experts


def _cut(sight: Region | None, x: Tensor) -> Tensor:
    return x if sight is None else sight.see(x)


def _narrow(sight: Region | None, wider: Region | None, x: Tensor, scale: int) -> Tensor:
    return x if sight is None or wider is None else sight.within(wider, x, scale)


def decode_with_detail(
    autoencoder: nn.Module,
    daem: DAEM,
    latent: Tensor,
    features: Sequence[Tensor],
    lq: Tensor,
    context: PictureContext,
    *,
    strength: float = 1.0,
    noise: torch.Generator | None = None,
) -> tuple[Tensor, list[Routing]]:
    """Decode whole pictures with gradients, tone curve included: pictures `B 3 H W`, -1..1 before clamping,
    and each level's routing, deepest first.

    latent: `B C h w`. features: LQ features, finest first. lq: the damaged pictures `B 3 H W`, -1..1. noise:
    perturbs the routers' logits.
    """
    routings: list[Routing] = []
    whole = DecoderPass(
        autoencoder,
        daem,
        latent,
        WholePictures(features, lq),
        context,
        strength=strength,
        noise=noise,
        watch=lambda level, sight, routing, votes: routings.append(routing),
    )
    return correct_tones(daem, whole.decode(), lq, context, strength), routings


def decode_encoded(
    autoencoder: nn.Module,
    daem: DAEM,
    latent: Tensor,
    encoded: Encoded,
    lq: Tensor,
    remove: Tensor | None = None,
    *,
    noise: torch.Generator | None = None,
) -> tuple[Tensor, list[Routing]]:
    """`decode_with_detail` for a batch that `encode_batch` encoded. remove: `B K`, 0..1, how much of each
    degradation to remove (default: all)."""
    estimate = encoded.estimate
    context = daem.context(
        encoded.features[-1],
        estimate.severities,
        remove,
        estimate.probabilities,
        estimate.global_statistics,
    )
    return decode_with_detail(autoencoder, daem, latent, encoded.features, lq, context, noise=noise)


def tone_curves(
    daem: DAEM, repaired: Tensor, looks: Tensor, context: PictureContext
) -> tuple[Tensor, Tensor]:
    """The tone curves `B 3 3` of whole repaired pictures `B 3 H W`, 0..1, and the share of each that is
    wanted, `B 1`, 0..1.

    looks: `appearance` of the damaged pictures, `B 60`.
    """
    assert daem.curve is not None
    now = tones(cells(repaired)).to(looks.device)
    return daem.curve.unsteered(context.probabilities, context.steering, looks, now)


def correct_tones(
    daem: DAEM, picture: Tensor, lq: Tensor, context: PictureContext, strength: float = 1.0
) -> Tensor:
    """Apply the tone curve to whole repaired pictures `B 3 H W`, -1..1; with gradients, and not clamped at
    the end."""
    if daem.curve is None:
        return picture
    unit = (picture + 1) / 2
    repaired = unit.clamp(0, 1)
    # The curve takes clamped pictures, as the host stores them. Values beyond 0..1 keep their gradients.
    within = picture + 2 * (repaired - unit).detach()
    looks = appearance((lq + 1) / 2) if context.appearance is None else context.appearance
    curves, wanted = tone_curves(daem, repaired.detach(), looks, context)
    return within + 2 * shift(repaired, strength * curves * wanted[..., None])


def apply_tone_curves(canvas: Tensor, curves: Tensor) -> None:
    """Apply tone curves `B 3 3` to pictures `B 3 H W`, 0..1, in place and clamped, `ROWS` rows at a time."""
    for picture, curve in zip(canvas.split(1), curves.to(canvas).split(1)):
        for rows in picture.split(ROWS, dim=2):
            rows.add_(shift(rows, curve)).clamp_(0, 1)


@dataclass(frozen=True, eq=False)
class DecoderNetworks:
    """The networks that decode, on `device` and in `dtype`. daem None is the plain decoder. trunk: of the LQ
    encoder, with its `prior_config`.

    receptive_field_share: `Calibration.receptive_field_share` of their weights.
    """

    autoencoder: nn.Module
    trunk: Trunk
    prior_config: PriorConfig
    daem: DAEM | None
    device: torch.device
    dtype: torch.dtype
    receptive_field_share: float = Calibration.receptive_field_share


def halos_of(autoencoder: nn.Module, daem: DAEMConfig | None, share: float) -> Halos:
    """`decoder_halos` of a decoder with DAEM, or without it, by where the tile stops. share:
    `Calibration.receptive_field_share`."""
    config = autoencoder.config if isinstance(autoencoder, Autoencoder) else None
    return partial(decoder_halos, config, daem, share=share)


@dataclass(frozen=True, eq=False)
class DecodeJob:
    """What to decode: latents `B C h w` with their prior, of as many pictures or of one. strength: of DAEM.

    between_levels: see `PriorPicture`; it gets the number of the picture's pixels.
    """

    samples: Tensor
    networks: DecoderNetworks
    prior: Prior
    strength: float = 1.0
    between_levels: Callable[[int], None] | None = None

    def mirrored(self, dimensions: tuple[int, ...], encode: Callable[[Tensor], list[Tensor]]) -> DecodeJob:
        """The same job with `dimensions` of the IMAGE flipped, and its padding decoded too.

        encode: gives the LQ features of an IMAGE, finest first. They are computed anew from the mirrored
        picture, because the networks are not symmetric. The degradation estimate stays.
        """
        height, width = self.prior.geometry.padded
        image = self.prior.image.flip(dimensions)
        prior = replace(self.prior, image=image, geometry=Geometry(height, width, 0, 0))
        if self.networks.daem is not None:
            *skips, features = encode(image)
            prior = replace(prior, features=features, skips=tuple(skips) or None)
        latent_dimensions = [dimension + 1 for dimension in dimensions]
        return replace(self, samples=self.samples.flip(latent_dimensions), prior=prior)

    def contexts(self) -> list[PictureContext | None]:
        """What DAEM knows of each picture of the prior as a whole. Statistics of features are averaged over
        `prior.smooth` frames."""
        prior, networks = self.prior, self.networks
        if networks.daem is None:
            return [None] * len(prior.features)
        features = (feature.to(networks.device, networks.dtype) for feature in prior.features.split(1))
        # The estimate was averaged when the prior was made. Steering is the user's choice for each frame, and
        # is not averaged.
        statistics = over_time(torch.cat([pooled_statistics(feature) for feature in features]), prior.smooth)
        return [self._context(networks.daem, statistics, index) for index in range(len(prior.features))]

    def _context(self, daem: DAEM, statistics: Tensor, index: int) -> PictureContext:
        prior, networks, mine = self.prior, self.networks, slice(index, index + 1)
        of_whole = prior.global_statistics
        if of_whole is not None:
            of_whole = of_whole.rows(mine).to(networks.device)
        return daem.context_of(
            statistics[mine],
            prior.severities[mine].to(networks.device),
            prior.steered[mine].to(networks.device),
            prior.probabilities[mine].to(networks.device),
            of_whole,
            dtype=networks.dtype,
        )

    def passes(self) -> Iterator[DecoderPass]:
        """One pass through the decoder for each latent. Each latent is moved to the decoder's device when its
        turn comes."""
        contexts = self.contexts()
        return (self._pass(index, contexts) for index in range(len(self.samples)))

    def _pass(self, index: int, contexts: Sequence[PictureContext | None]) -> DecoderPass:
        prior, networks = self.prior, self.networks
        own = index if len(prior.latent) > 1 else 0
        mine = slice(own, own + 1)
        height, width = prior.image.shape[1:3]
        daem_config = None if networks.daem is None else networks.daem.config
        damaged = PriorPicture(
            image=prior.image[mine],
            feature=prior.features[mine],
            skips=None if prior.skips is None else tuple(skip[mine] for skip in prior.skips),
            trunk=networks.trunk,
            trunk_halo=trunk_halo(networks.prior_config, LEVELS - 1, share=networks.receptive_field_share),
            device=networks.device,
            dtype=networks.dtype,
            between_levels=self.between_levels and partial(self.between_levels, height * width),
        )
        return DecoderPass(
            networks.autoencoder,
            networks.daem,
            self.samples[index : index + 1].to(networks.device, networks.dtype),
            damaged,
            contexts[own],
            strength=self.strength,
            halos=halos_of(networks.autoencoder, daem_config, networks.receptive_field_share),
            output_dtype=torch.float32,
        )


def count_passes(daem: DAEM | None, tiles: int) -> int:
    """How often each tile of a picture passes through the decoder: once, and before that once per level if
    there are several tiles with DAEM."""
    return 1 + (len(daem.levels) if daem is not None and tiles > 1 else 0)


def decode_pictures(
    job: DecodeJob,
    tiles: Sequence[Region],
    *,
    watch: PictureWatch | None = None,
    tick: Callable[[], None] = lambda: None,
) -> Tensor:
    """IMAGE `B H W 3`, 0..1, on the CPU, of the original size: one picture and one tile after the other, tone
    curve included.

    tiles: their cores cover the latent. tick: called after each tile,
    `count_passes` times. Raises RuntimeError if NaN or infinite values turn up, ValueError if DAEM was made
    for another decoder.
    """
    prior, daem, dtype = job.prior, job.networks.daem, job.networks.dtype
    out = torch.empty(len(job.samples), prior.geometry.height, prior.geometry.width, 3)
    curves, shares = [], []
    for index, picture in enumerate(job.passes()):
        picture.watch = watch and _watch_of(index, watch)
        if count_passes(daem, len(tiles)) > 1:
            picture.pool_statistics(tiles, tick)
        for region in tiles:
            made = picture.decode(region)
            require_finite(made, "the decoder" if daem is None else "decoder and DAEM", dtype)
            top, left = region.core[0] * FACTOR, region.core[1] * FACTOR
            # The padding lies below and to the right, so the last tiles reach beyond the canvas.
            canvas = out[index : index + 1, top : top + made.shape[-2], left : left + made.shape[-1]]
            canvas.copy_(from_unit(made[..., : canvas.shape[1], : canvas.shape[2]]))
            tick()
        if daem is not None and daem.curve is not None:
            assert picture.context is not None
            looks = picture.context.appearance
            if looks is None:
                # The prior comes from a restorer without a tone curve.
                looks = appearance(damaged_picture(prior, index, out)[None].movedim(-1, 1))
            curve, share = tone_curves(daem, out[index : index + 1].movedim(-1, 1), looks, picture.context)
            require_finite(curve, "the tone curve", dtype)
            curves.append(curve)
            shares.append(share)
    if curves:
        share = torch.cat(shares)
        # A frame counts by its share: one whose tones are to stay does not influence its neighbours.
        curve = over_time(torch.cat(curves), prior.smooth if len(prior.latent) > 1 else 0, share[:, 0])
        apply_tone_curves(out.movedim(-1, 1), job.strength * curve * share[..., None])
    return out


def _watch_of(picture: int, watch: PictureWatch) -> Watch:
    """`watch` for one picture, with the votes computed."""

    def seen(level: int, region: Region | None, routing: Routing, votes: Callable[[], Tensor]) -> None:
        assert region is not None, "pictures of a prior are decoded by region"
        watch(picture, level, region, routing, votes())

    return seen


def damaged_picture(prior: Prior, index: int, like: Tensor) -> Tensor:
    """The damaged picture `H W 3`, 0..1, of picture `index` of a result; one damaged picture may serve for
    all."""
    return prior.unpadded[index if len(prior.latent) > 1 else 0].to(like).clamp(0.0, 1.0)


def restore_undamaged(image: Tensor, prior: Prior, shares: Tensor) -> None:
    """Blend the damaged picture back into IMAGE `B H W 3`, in place. shares: `B` or 1, how much of the repair
    each picture keeps."""
    for index, (picture, share) in enumerate(zip(image, shares.expand(len(image)).tolist())):
        if share < 1:
            picture.copy_(torch.lerp(damaged_picture(prior, index, picture), picture, share))


def restore_unmasked(image: Tensor, masks: Iterable[Tensor], prior: Prior) -> None:
    """Put the damaged picture back into IMAGE `B H W 3`, in place, outside of the pictures' masks `1 1 H W`,
    0..1.

    The masks' borders are feathered.
    """
    for index, (picture, mask) in enumerate(zip(image, masks)):
        weight = feathered(mask)[0].movedim(0, -1).to(picture)
        picture.copy_(torch.lerp(damaged_picture(prior, index, picture), picture, weight))


def mean_of_copies(
    job: DecodeJob,
    flips: Sequence[tuple[int, ...]],
    encode: Callable[[Tensor], list[Tensor]],
    decode: Callable[[DecodeJob], Tensor],
) -> Tensor:
    """The mean of `decode` for mirrored copies of a job, flipped back: IMAGE `B H W 3`.

    flips: the dimensions of the IMAGE that each copy flips; the first copy flips none. encode: see
    `DecodeJob.mirrored`.
    """
    out = decode(job)
    for flipped in flips[1:]:
        copy = decode(job.mirrored(flipped, encode)).flip(flipped)
        out += copy[:, : out.shape[1], : out.shape[2]]
    return out.div_(len(flips))
