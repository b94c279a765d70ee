"""The LQ encoder: features of a damaged picture at every level, its degradations, and tokens of them
(docs/method.md, section 2)."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .autoencoder import Trunk
from .config import PriorConfig
from .degradation_head import DegradationHead, DegradationTokens


class KLResBlock(nn.Module):
    """The KL autoencoder's residual block, with ComfyUI's key names. `B width_in H W` -> `B width H W`."""

    def __init__(self, width_in: int, width: int, *, operations=nn, device=None, dtype=None):
        super().__init__()
        at = {"device": device, "dtype": dtype}
        self.norm1 = operations.GroupNorm(32, width_in, eps=1e-6, **at)
        self.conv1 = operations.Conv2d(width_in, width, 3, padding=1, **at)
        self.norm2 = operations.GroupNorm(32, width, eps=1e-6, **at)
        self.conv2 = operations.Conv2d(width, width, 3, padding=1, **at)
        self.nin_shortcut = operations.Conv2d(width_in, width, 1, **at) if width_in != width else None

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (x if self.nin_shortcut is None else self.nin_shortcut(x))


class KLAttention(nn.Module):
    """Single-head attention over all pixels of the deepest level, `B C H W` -> `B C H W`."""

    def __init__(self, width: int, *, operations=nn, device=None, dtype=None):
        super().__init__()
        at = {"device": device, "dtype": dtype}
        self.norm = operations.GroupNorm(32, width, eps=1e-6, **at)
        self.q, self.k, self.v, self.proj_out = (operations.Conv2d(width, width, 1, **at) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = (f(h).flatten(2).transpose(1, 2)[:, None] for f in (self.q, self.k, self.v))
        mixed = F.scaled_dot_product_attention(q, k, v)[:, 0].transpose(1, 2).reshape(x.shape)
        return x + self.proj_out(mixed)


class KLTrunk(nn.Module):
    """The SDXL VAE's encoder without its output head (docs/method.md, section 2.1).

    Picture `B 3 H W` in -1..1, sides multiples of 8 -> one feature per level, at 1, 1/2, 1/4 and 1/8 of the
    size. Each is taken before the step down, and the last one after the middle block.
    """

    def __init__(
        self, widths: tuple[int, ...], blocks: tuple[int, ...], *, operations=nn, device=None, dtype=None
    ):
        super().__init__()
        at = {"operations": operations, "device": device, "dtype": dtype}
        conv = {"device": device, "dtype": dtype}
        self.conv_in = operations.Conv2d(3, widths[0], 3, padding=1, **conv)
        self.down = nn.ModuleList()
        before = widths[0]
        for index, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            level = nn.Module()
            level.block = nn.ModuleList(
                KLResBlock(before if n == 0 else width, width, **at) for n in range(count)
            )
            if index < len(widths) - 1:
                level.downsample = nn.Module()
                level.downsample.conv = operations.Conv2d(width, width, 3, stride=2, **conv)
            self.down.append(level)
            before = width
        self.mid = nn.Module()
        self.mid.block_1 = KLResBlock(before, before, **at)
        self.mid.attn_1 = KLAttention(before, **at)
        self.mid.block_2 = KLResBlock(before, before, **at)

    def forward(self, picture: Tensor, count: int | None = None) -> list[Tensor]:
        """The features of the first `count` levels, or of all."""
        features: list[Tensor] = []
        h = self.conv_in(picture)
        for level in list(self.down)[:count]:
            for block in cast(nn.ModuleList, level.block):
                h = block(h)
            features.append(h)
            if hasattr(level, "downsample"):
                h = cast(Any, level.downsample).conv(F.pad(h, (0, 1, 0, 1)))
        if len(features) == len(self.down):
            middle = cast(Any, self.mid)
            features[-1] = middle.block_2(middle.attn_1(middle.block_1(h)))
        return features


class PriorEncoder(nn.Module):
    """LQ encoder, degradation head and degradation tokens: everything that makes the prior of a damaged
    picture.

    Without a head (`config.head_width` 0), as in published checkpoints, there is no estimate and there are no
    tokens.
    """

    def __init__(self, config: PriorConfig, *, operations=nn, device=None, dtype=None):
        super().__init__()
        at = {"operations": operations, "device": device, "dtype": dtype}
        self.config = config
        self.trunk: Trunk | KLTrunk
        if config.kind == "kl":
            self.trunk = KLTrunk(config.widths, config.blocks, **at)
        else:
            self.trunk = Trunk(config.widths, config.blocks, config.plain, **at)
        self.head = (
            DegradationHead(
                config.widths[-1], config.degradations, config.head_width, config.place_width, **at
            )
            if config.head_width
            else None
        )
        self.tokens = (
            DegradationTokens(config.degradations, config.context_width, **at) if config.head_width else None
        )

    def forward(self, picture: Tensor) -> tuple[list[Tensor], Tensor, Tensor, Tensor]:
        """Picture `B 3 H W` in -1..1 -> features per level, presence logits `B K`, severity logits `B K`, map
        logits `B K h w`.

        Raises ValueError without a head.
        """
        if self.head is None:
            raise ValueError("this restorer has no degradation head; only its trunk can run")
        features = self.trunk(picture)
        return features, *self.head(features[-1])

    def estimate(self, feature: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Deepest feature `B C h w` -> probabilities `B K`, severities `B K` and severity maps `B K h w`,
        0..1, fp32.

        Without a head all are zero.
        """
        if self.head is None:
            batch, _, height, width = feature.shape
            zeros = feature.new_zeros(batch, self.config.degradations, dtype=torch.float32)
            return zeros, zeros.clone(), zeros[:, :, None, None].repeat(1, 1, height, width)
        presence, severity, maps = (logits.float().sigmoid() for logits in self.head(feature))
        return presence, severity, maps
