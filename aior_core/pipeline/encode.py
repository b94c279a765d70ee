"""From damaged pictures to what the networks know about them: LQ features and the degradation estimate.

`encode_batch` is for training: whole pictures, with gradients. `encode_in_tiles` and `estimate_degradations`
are for the host, which encodes large pictures in tiles and stores the results in a `Prior`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..models.config import PriorConfig
from ..models.daem import DAEM
from ..models.global_statistics import GlobalStatistics, global_statistics_of
from ..models.lq_encoder import PriorEncoder
from ..picture.tiles import Region, seen
from .prior import FACTOR

KEPT_SKIPS_PIXELS = 2**20
"""Batches with more pixels than this keep no fine features, which take about 240 MB per megapixel. The
decoder recomputes them for each tile."""
FULL_FEATURES_PIXELS = 2**20
"""Pictures with more pixels than this keep the compact restorer's deepest features in fp16: in fp32 they take
12 MB per megapixel."""

Trunk = Callable[..., list[Tensor]]
"""The LQ encoder's trunk: `trunk(picture, count=None)` takes `B 3 H W`, -1..1, and gives the features of the
first `count` levels (default: all), finest first."""


@dataclass(frozen=True, eq=False)
class Estimate:
    """The degradations of a batch of pictures, as numbers for whole pictures. Carries no gradients.

    severities: `B K`, 0..1, with the severity of haze gated by how likely haze is (`gate_severity`).
    probabilities: `B K`, 0..1, that each degradation is present.
    global_statistics: statistics of the damaged pictures, or None where the restorer has no tone curve.
    """

    severities: Tensor
    probabilities: Tensor
    global_statistics: GlobalStatistics | None


@dataclass(frozen=True, eq=False)
class Encoded:
    """A batch of damaged pictures after the LQ encoder, with gradients.

    features: one per level, finest first, `B C_i H/2^i W/2^i`.
    presence_logits, severity_logits: `B K`. map_logits: `B K H/8 W/8`.
    estimate: the same as numbers, without gradients.
    """

    features: list[Tensor]
    presence_logits: Tensor
    severity_logits: Tensor
    map_logits: Tensor
    estimate: Estimate

    @property
    def severities(self) -> Tensor:
        """The gated severities, `B K`, 0..1, without gradients."""
        return self.estimate.severities


def encode_batch(encoder: PriorEncoder, daem: DAEM, lq: Tensor, *, frozen_trunk: bool = False) -> Encoded:
    """Encode damaged pictures `B 3 H W`, -1..1. With `frozen_trunk`, no gradients flow through the LQ
    encoder's trunk."""
    with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen_trunk):
        features = encoder.trunk(lq)
    assert encoder.head is not None, "training needs a degradation head"
    presence, severity, maps = encoder.head(features[-1])
    with torch.no_grad():
        numbers = severity.float().sigmoid(), presence.float().sigmoid()
        estimate = estimate_degradations(daem, *numbers, [(lq + 1) / 2])
    return Encoded(features, presence, severity, maps, estimate)


def estimate_degradations(
    daem: DAEM | None,
    severities: Tensor,
    probabilities: Tensor,
    pictures: Iterable[Tensor],
    *,
    device: torch.device | None = None,
) -> Estimate:
    """Gate the head's severities `B K` by its probabilities `B K` and by the tone curve's opinion of the
    whole pictures.

    pictures: the damaged pictures without padding, in batches of any size, `b 3 h w`, 0..1. They are not read
    if there is no tone curve.
    device: where the tone curve is evaluated (default: where the pictures are).
    """
    if daem is None or daem.curve is None:
        return Estimate(severities, probabilities, None)
    found = [global_statistics_of(daem.curve, picture, device) for picture in pictures]
    statistics = found[0] if len(found) == 1 else GlobalStatistics.joined(found)
    statistics = statistics.to(severities.device)
    gated = daem.gate_severity(severities, probabilities, statistics)
    return Estimate(gated, probabilities, statistics)


def kept_dtype(config: PriorConfig, height: int, width: int) -> torch.dtype:
    """The dtype in which a prior keeps the deepest features of a picture. KL encoders keep fp32, because
    their range is unknown."""
    return torch.float16 if config.kind == "naf" and height * width > FULL_FEATURES_PIXELS else torch.float32


def encode_in_tiles(
    trunk: Trunk,
    image: Tensor,
    tiles: Sequence[Region],
    *,
    device: torch.device,
    dtype: torch.dtype,
    kept: torch.dtype,
    kept_device: torch.device,
    tick: Callable[[], None] | None = None,
) -> list[Tensor]:
    """LQ features of an IMAGE `B H W 3`, 0..1, sides multiples of 8: finest first, in `kept` on
    `kept_device`.

    One picture and one tile pass through the trunk at a time, in `dtype` on `device`. A large batch, or a
    picture in several tiles, gives only the deepest level: the finer features are as large as the picture
    times their channels. tick: called after each tile.
    """
    batch, height, width, _ = image.shape
    every_level = len(tiles) == 1 and batch * height * width <= KEPT_SKIPS_PIXELS
    levels: list[Tensor] = []
    for index in range(batch):
        for region in tiles:
            made = trunk(seen(image[index : index + 1], region, FACTOR).to(device, dtype))
            made = made if every_level else made[-1:]
            scales = [2 ** (len(made) - 1 - level) for level in range(len(made))]
            if not levels:
                levels = [
                    torch.empty(
                        (batch, feature.shape[1], height // FACTOR * scale, width // FACTOR * scale),
                        device=kept_device,
                        dtype=kept,
                    )
                    for feature, scale in zip(made, scales)
                ]
            for level, feature, scale in zip(levels, made, scales):
                region.place(level[index : index + 1], region.inner(feature, scale), scale)
            if tick is not None:
                tick()
    return levels


def encode_latent_in_tiles(
    encode: Callable[[Tensor], Tensor],
    image: Tensor,
    tiles: Sequence[Region],
    channels: int,
    device: torch.device,
) -> Tensor:
    """The latent `B channels H/8 W/8` of an IMAGE `B H W 3`, 0..1, sides multiples of 8, in fp32 on `device`.

    encode: the autoencoder's encoder, for pictures `1 3 h w`, -1..1. It gets one tile of one picture at a
    time, so that memory does not grow with the batch.
    """
    batch, height, width, _ = image.shape
    latent = torch.empty(batch, channels, height // FACTOR, width // FACTOR, device=device)
    for index in range(batch):
        for region in tiles:
            part = encode(seen(image[index : index + 1], region, FACTOR))
            region.place(latent[index : index + 1], region.inner(part))
    return latent
