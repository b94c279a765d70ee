"""The LQ encoder: a damaged picture's features at every level, and what is wrong with it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .autoencoder import Trunk
from .config import PriorConfig
from .degradation_head import DegradationHead, DegradationTokens


class KLResBlock(nn.Module):
    """The KL autoencoder's residual block, with the host's key names."""

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
    """Single-head attention over all pixels of the deepest level."""

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
    """The SDXL VAE's encoder without its output head (unildiff.md section 1, step 2).

    Picture `B 3 H W` -> features before each step down, and last the middle block's: at 1, 1/2, 1/4, 1/8.
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
        features = []
        h = self.conv_in(picture)
        for level in self.down[:count]:
            for block in level.block:
                h = block(h)
            features.append(h)
            if hasattr(level, "downsample"):
                h = level.downsample.conv(F.pad(h, (0, 1, 0, 1)))
        if len(features) == len(self.down):
            features[-1] = self.mid.block_2(self.mid.attn_1(self.mid.block_1(h)))
        return features


class PriorEncoder(nn.Module):
    """LQ encoder, degradation head and degradation tokens: all that turns a damaged picture into its prior."""

    def __init__(self, config: PriorConfig = PriorConfig(), *, operations=nn, device=None, dtype=None):
        super().__init__()
        at = {"operations": operations, "device": device, "dtype": dtype}
        self.config = config
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
        """Picture `B 3 H W` in -1..1 -> (features per level, presence logits `B K`, severity logits `B K`, map logits `B K h w`)."""
        features = self.trunk(picture)
        return features, *self.head(features[-1])

    def estimate(self, feature: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """f8 feature `B C h w` -> probabilities `B K`, severities `B K`, severity maps `B K h w`, all 0..1, fp32.

        Without a head there is no estimate, and all are zero.
        """
        if self.head is None:
            batch, _, height, width = feature.shape
            nothing = feature.new_zeros(batch, self.config.degradations, dtype=torch.float32)
            return nothing, nothing.clone(), nothing[:, :, None, None].repeat(1, 1, height, width)
        return tuple(torch.sigmoid(logits.float()) for logits in self.head(feature))
