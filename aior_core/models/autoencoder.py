"""The compact autoencoder: latents at 1/8 of the size, with 16 channels, from NAF blocks (docs/method.md,
section 6)."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .config import AutoencoderConfig
from .family import DecoderStages
from .layers import ChannelNorm, NAFBlock, PlainBlock

Walk = Generator[tuple[int, Tensor], Tensor, tuple[Tensor, Tensor]]
"""A decoder that stops at each level. It yields (level, feature), continues with the feature that it is sent,
and returns (last feature, picture)."""


def finish(walk: Walk, visit: Callable[[int, Tensor], Tensor] | None = None) -> tuple[Tensor, Tensor]:
    """Run a decoder's walk to its end. `visit(level, feature)` returns the feature to continue with (default:
    the same).
    """
    try:
        level, feature = next(walk)
        while True:
            level, feature = walk.send(feature if visit is None else visit(level, feature))
    except StopIteration as end:
        return end.value


def stages(
    widths: tuple[int, ...],
    blocks: tuple[int, ...],
    plain: tuple[int, ...],
    *,
    operations=nn,
    device=None,
    dtype=None,
) -> nn.ModuleList:
    """One list of blocks per level: `blocks[i]` NAF blocks, then `plain[i]` plain ones. `plain` may be
    empty.
    """
    at = {"operations": operations, "device": device, "dtype": dtype}
    return nn.ModuleList(
        nn.ModuleList([*(NAFBlock(w, **at) for _ in range(n)), *(PlainBlock(w, **at) for _ in range(p))])
        for w, n, p in zip(widths, blocks, plain or (0,) * len(widths), strict=True)
    )


class Trunk(nn.Module):
    """Picture `B 3 H W` in -1..1, sides multiples of 8 -> one feature per level, `B widths[i] H/2**i W/2**i`.

    Each feature is taken before the step down, so level 0 has every pixel. The LQ encoder of the compact
    model is a trainable copy of this trunk, as UniLDiff's is of the VAE's encoder (section 3.2).
    """

    def __init__(
        self,
        widths: tuple[int, ...],
        blocks: tuple[int, ...],
        plain: tuple[int, ...] = (),
        *,
        operations=nn,
        device=None,
        dtype=None,
    ):
        super().__init__()
        at = {"device": device, "dtype": dtype}
        self.stem = operations.Conv2d(3, widths[0], 3, padding=1, **at)
        self.levels = stages(widths, blocks, plain, operations=operations, **at)
        self.downs = nn.ModuleList(
            operations.Conv2d(a, b, 2, stride=2, **at) for a, b in zip(widths, widths[1:])
        )

    def forward(self, picture: Tensor, count: int | None = None) -> list[Tensor]:
        """The features of the first `count` levels, or of all."""
        features: list[Tensor] = []
        h = self.stem(picture)
        for index, blocks in enumerate(list(self.levels)[:count]):
            if index:
                h = self.downs[index - 1](h)
            for block in cast(nn.ModuleList, blocks):
                h = block(h)
            features.append(h)
        return features


class Encoder(nn.Module):
    """Trunk and latent head: picture `B 3 H W` -> mean and log-variance `B 16 H/8 W/8`, before
    normalisation.
    """

    def __init__(self, config: AutoencoderConfig, *, operations=nn, device=None, dtype=None):
        super().__init__()
        at = {"device": device, "dtype": dtype}
        self.trunk = Trunk(config.widths, config.encoder_blocks, operations=operations, **at)
        self.norm = ChannelNorm(config.widths[-1], operations=operations, **at)
        self.head = operations.Conv2d(config.widths[-1], 2 * config.latent_channels, 1, **at)

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        mean, logvar = self.head(self.norm(self.trunk(picture)[-1])).chunk(2, dim=1)
        return mean, logvar.clamp(-20.0, 2.0)


class Decoder(nn.Module):
    """Latent `B 16 h w`, not normalised -> picture `B 3 8h 8w`, about -1..1."""

    def __init__(self, config: AutoencoderConfig, *, operations=nn, device=None, dtype=None):
        super().__init__()
        at = {"device": device, "dtype": dtype}
        widths = config.widths
        self.stem = operations.Conv2d(config.latent_channels, widths[-1], 3, padding=1, **at)
        self.levels = stages(widths, config.decoder_blocks, config.decoder_plain, operations=operations, **at)
        self.ups = nn.ModuleList(operations.Conv2d(b, 4 * a, 1, **at) for a, b in zip(widths, widths[1:]))
        self.out = operations.Conv2d(widths[0], 3, 3, padding=1, **at)

    def walk(self, latent: Tensor) -> Walk:
        """The walk, deepest level first. It stops before the blocks of a level, which then see what the
        experts added.
        """
        h = self.stem(latent)
        for level in reversed(range(len(self.levels))):
            h = yield level, h
            for block in cast(nn.ModuleList, self.levels[level]):
                h = block(h)
            if level:
                h = F.pixel_shuffle(self.ups[level - 1](h), 2)
        return h, self.out(h)

    def forward(self, latent: Tensor) -> Tensor:
        return finish(self.walk(latent))[1]


class Autoencoder(nn.Module):
    """Encoder and decoder. Each latent channel is normalised to mean 0 and standard deviation 1 over the
    training pictures.
    """

    decoder_stages = DecoderStages.NAF
    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, config: AutoencoderConfig, *, operations=nn, device=None, dtype=None):
        super().__init__()
        at = {"operations": operations, "device": device, "dtype": dtype}
        self.config = config
        self.encoder = Encoder(config, **at)
        self.decoder = Decoder(config, **at)
        self.register_buffer("latent_mean", torch.zeros(config.latent_channels, device=device))
        self.register_buffer("latent_std", torch.ones(config.latent_channels, device=device))

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        return self.latent_mean.to(like)[None, :, None, None], self.latent_std.to(like)[None, :, None, None]

    def encode(self, picture: Tensor) -> Tensor:
        """Picture `B 3 H W` in -1..1, sides multiples of 8 -> normalised latent `B 16 H/8 W/8` (the
        posterior's mean).
        """
        mean, _ = self.encoder(picture)
        centre, scale = self._statistics(mean)
        return (mean - centre) / scale

    def denormalise(self, latent: Tensor) -> Tensor:
        """Normalised latent `B 16 h w` -> the decoder's, of the same shape."""
        centre, scale = self._statistics(latent)
        return latent * scale + centre

    def walk(self, latent: Tensor) -> Walk:
        """The decoder's walk from a normalised latent `B 16 h w`."""
        return self.decoder.walk(self.denormalise(latent))

    def decode(self, latent: Tensor) -> Tensor:
        """Normalised latent `B 16 h w` -> picture `B 3 8h 8w`, about -1..1."""
        return finish(self.walk(latent))[1]
