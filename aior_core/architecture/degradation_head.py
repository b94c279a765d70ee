"""What is wrong with the picture, how badly and where; and the same as context tokens for the denoiser."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .layers import ChannelNorm, sinusoid


class DegradationHead(nn.Module):
    """LQ feature `B C h w` -> (presence logits `B K`, severity logits `B K`, map logits `B K h w`)."""

    def __init__(self, channels: int, degradations: int, width: int, *, operations=nn, device=None, dtype=None):
        super().__init__()
        at = {"device": device, "dtype": dtype}
        self.norm = ChannelNorm(channels, operations=operations, **at)
        self.conv1 = operations.Conv2d(channels, width, 3, padding=1, **at)
        self.conv2 = operations.Conv2d(width, width, 3, padding=1, **at)
        self.local = operations.Conv2d(width, degradations, 1, **at)
        self.pool1 = operations.Linear(2 * width + 2 * channels, 2 * width, **at)
        self.pool2 = operations.Linear(2 * width, 2 * degradations, **at)

    def forward(self, feature: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = F.gelu(self.conv1(self.norm(feature)))
        h = F.gelu(self.conv2(h))
        pooled = torch.cat([pooled_statistics(h), pooled_statistics(feature)], dim=1).to(h.dtype)
        presence, severity = self.pool2(F.gelu(self.pool1(pooled))).chunk(2, dim=1)
        # The whole picture decides what there is; each place only how its share differs from that.
        maps = self.local(h) + severity[:, :, None, None]
        return presence, severity, maps


def pooled_statistics(feature: Tensor) -> Tensor:
    """Mean and standard deviation over the picture, `B C h w` -> `B 2C`, fp32."""
    flat = feature.float().flatten(2)
    mean = flat.mean(dim=2)
    return torch.cat([mean, (flat.square().mean(dim=2) - mean.square()).clamp_min(1e-6).sqrt()], dim=1)


class DegradationTokens(nn.Module):
    """Severities `B K` in 0..1 (NaN-free) -> context tokens `B K context_width`; and the null tokens that stand for "unknown"."""

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
        """The null tokens for a batch as large as `severities`, `B K context_width`."""
        return self._rows(self.null, severities)[None].expand(severities.shape[0], -1, -1)

    @staticmethod
    def _rows(table: nn.Module, like: Tensor) -> Tensor:
        return table(torch.arange(like.shape[1], device=like.device)).to(like.dtype)
