"""The degradation head and the degradation tokens (ours; docs/method.md, sections 2.2 to 2.4).

The head estimates from the LQ feature which degradations a picture has, how severe they are, and where. The
tokens give severities to the denoiser as context.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .layers import ChannelNorm, scaled_init, sinusoid

PLACE_DILATIONS = (1, 1, 2, 4, 8)
"""Dilations of the 3x3 convolutions of `SeverityMapHead`: together they see 16 cells, 128 pixels, to either
side."""


class DegradationHead(nn.Module):
    """LQ feature `B C h w` -> (presence logits `B K`, severity logits `B K`, map logits `B K h w`).

    channels: of the LQ feature, C. degradations: K. width: hidden channels. place_width: hidden channels of
    the severity maps' own network; with 0 there is none, and the maps are nearly flat.
    """

    def __init__(
        self,
        channels: int,
        degradations: int,
        width: int,
        place_width: int = 0,
        *,
        operations=nn,
        device=None,
        dtype=None,
    ):
        super().__init__()
        at = {"device": device, "dtype": dtype}
        self.norm = ChannelNorm(channels, operations=operations, **at)
        self.conv1 = operations.Conv2d(channels, width, 3, padding=1, **at)
        self.conv2 = operations.Conv2d(width, width, 3, padding=1, **at)
        self.local = operations.Conv2d(width, degradations, 1, **at)
        self.pool1 = operations.Linear(2 * width + 2 * channels, 2 * width, **at)
        self.pool2 = operations.Linear(2 * width, 2 * degradations, **at)
        self.places = (
            SeverityMapHead(channels, degradations, place_width, operations=operations, **at)
            if place_width
            else None
        )

    def forward(self, feature: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        presence, severity, local, narrow = self._look(feature)
        if self.places is None or narrow is None:
            # The whole picture sets the level; each place adds its difference.
            return presence, severity, local + severity[:, :, None, None]
        shares, worst = self.places(narrow, local, severity)
        return presence, severity, torch.logit(shares.sigmoid() * worst.sigmoid()[:, :, None, None], eps=1e-4)

    def places_of(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        """The two factors of the maps; see `SeverityMapHead`. Raises ValueError without `place_width`."""
        _, severity, local, narrow = self._look(feature)
        if self.places is None or narrow is None:
            raise ValueError(
                "this degradation head has no network for severity maps; build it with place_width"
            )
        return self.places(narrow, local, severity)

    def _look(self, feature: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        normed = self.norm(feature)
        # Narrowed first: for the largest pictures the feature takes 250 MB, and no second copy may stay
        # alive.
        narrow = None if self.places is None else self.places.enter(normed)
        h = F.gelu(self.conv1(normed))
        del normed
        h = F.gelu(self.conv2(h))
        pooled = torch.cat([pooled_statistics(h), pooled_statistics(feature)], dim=1).to(h.dtype)
        presence, severity = self.pool2(F.gelu(self.pool1(pooled))).chunk(2, dim=1)
        return presence, severity, self.local(h), narrow


class SeverityMapHead(nn.Module):
    """Severity maps as the product of two factors that are learnt separately.

    The first is the share of a degradation at each place. It learns only from degradations that are present,
    so that uncertainty about haze does not flatten its map. The second is the severity at the worst place. No
    other network uses the maps. The receptive field is wide, and statistics of the whole picture are an
    input, because a place is blurred in comparison with others.
    """

    def __init__(
        self, channels: int, degradations: int, width: int, *, operations=nn, device=None, dtype=None
    ):
        super().__init__()
        at = {"device": device, "dtype": dtype}
        self.enter = operations.Conv2d(channels, width, 1, **at)
        self.whole = operations.Linear(2 * width, width, **at)
        self.norms = nn.ModuleList(ChannelNorm(width, operations=operations, **at) for _ in PLACE_DILATIONS)
        self.convs = nn.ModuleList(
            operations.Conv2d(width, width, 3, padding=d, dilation=d, **at) for d in PLACE_DILATIONS
        )
        # At the start the maps are the head's own: its local logits, with the whole picture's severity as the
        # worst.
        self.out = scaled_init(0.0, operations.Conv2d(width, 2 * degradations, 1, **at))

    def forward(self, x: Tensor, local: Tensor, severity: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the shares `B K h w` and of the worst severities `B K`, fp32.

        x: the output of `enter` for the normalised LQ feature, `B width h w`. local, severity: the head's own
        logits, `B K h w` and `B K`.
        """
        x = x + self.whole(pooled_statistics(x).to(x.dtype))[:, :, None, None]
        for norm, conv in zip(self.norms, self.convs):
            x = x + F.gelu(conv(norm(x)))
        shares, levels = self.out(x).float().chunk(2, dim=1)
        shares = shares + local.float()
        held = shares.detach().sigmoid()
        return shares, severity.float() + (held * levels).mean(dim=(2, 3)) / held.mean(dim=(2, 3)).clamp_min(
            1e-3
        )


def pooled_statistics(feature: Tensor) -> Tensor:
    """Mean and standard deviation over the picture, `B C h w` -> `B 2C`, fp32."""
    flat = feature.float().flatten(2)
    mean = flat.mean(dim=2)
    return torch.cat([mean, (flat.square().mean(dim=2) - mean.square()).clamp_min(1e-6).sqrt()], dim=1)


class DegradationTokens(nn.Module):
    """Severities `B K` in 0..1 -> context tokens `B K context_width`; and the null tokens, which mean
    "unknown".
    """

    def __init__(self, degradations: int, context_width: int, *, operations=nn, device=None, dtype=None):
        super().__init__()
        at = {"device": device, "dtype": dtype}
        self.names = operations.Embedding(degradations, context_width, **at)
        self.null = operations.Embedding(degradations, context_width, **at)
        self.level1 = operations.Linear(64, context_width, **at)
        self.level2 = operations.Linear(context_width, context_width, **at)

    def forward(self, severities: Tensor) -> Tensor:
        batch, count = severities.shape
        waves = sinusoid(severities.reshape(-1), 64, time_factor=20.0).to(severities.dtype)
        level = self.level2(F.silu(self.level1(waves))).reshape(batch, count, -1)
        return level + self._rows(self.names, severities)[None]

    def unknown(self, severities: Tensor) -> Tensor:
        """The null tokens for as many pictures as `severities` `B K` has, `B K context_width`."""
        return self._rows(self.null, severities)[None].expand(severities.shape[0], -1, -1)

    @staticmethod
    def _rows(table: nn.Module, like: Tensor) -> Tensor:
        return table(torch.arange(like.shape[1], device=like.device)).to(like.dtype)
