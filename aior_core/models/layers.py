"""Blocks shared by the autoencoder, the encoders and the detail experts."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of each pixel, `B C H W` -> `B C H W`.

    Nothing in it depends on the size of the crop, so tiles and whole pictures agree.
    """

    def __init__(self, channels: int, *, operations=nn, device=None, dtype=None):
        super().__init__()
        self.norm = operations.LayerNorm(channels, eps=1e-6, device=device, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def scaled_init(scale: float, layer: nn.Module) -> nn.Module:
    """Mark a layer whose starting weights are `scale` times the usual ones; 0 makes what it feeds start as the identity.

    Zeros in series are a trap: measured on noise 25, DAEM's output, its experts and its head all starting at zero had
    gained 2.7 dB after 90 steps, starting small 6.2 dB.
    """
    layer.start_scale = scale
    return layer


class NAFBlock(nn.Module):
    """Nonlinear-activation-free block (Chen et al., ECCV 2022), `B C H W` -> `B C H W`, same size.

    The channel attention of the original, a global pooling, is replaced by an optional `gate` (`B C`) that the caller
    computes once for the whole picture: a pooled value would differ from tile to tile.
    """

    def __init__(
        self, channels: int, *, kernel: int = 3, dilation: int = 1, operations=nn, device=None, dtype=None
    ):
        super().__init__()
        at = {"device": device, "dtype": dtype}
        self.norm1 = ChannelNorm(channels, operations=operations, **at)
        self.expand = operations.Conv2d(channels, 2 * channels, 1, **at)
        self.depthwise = operations.Conv2d(
            2 * channels,
            2 * channels,
            kernel,
            padding=dilation * (kernel // 2),
            dilation=dilation,
            groups=2 * channels,
            **at,
        )
        self.project = scaled_init(0.5, operations.Conv2d(channels, channels, 1, **at))
        self.norm2 = ChannelNorm(channels, operations=operations, **at)
        self.feed = operations.Conv2d(channels, 2 * channels, 1, **at)
        self.out = scaled_init(0.5, operations.Conv2d(channels, channels, 1, **at))

    def forward(self, x: Tensor, gate: Tensor | None = None) -> Tensor:
        y = self.gated(self.depthwise(self.expand(self.norm1(x))))
        if gate is not None:
            y = y * gate[:, :, None, None]
        x = x + self.project(y)
        return x + self.out(self.gated(self.feed(self.norm2(x))))

    def gated(self, x: Tensor) -> Tensor:
        """One half of the channels times the other."""
        left, right = x.chunk(2, dim=1)
        return left * right


class PlainBlock(nn.Module):
    """Residual pair of 3x3 convolutions with a ReLU between, `B C H W` -> `B C H W`, starting as the identity.

    Beside NAF blocks for what processors do fastest: per second it learns more than they do (measured, models/README.md), and
    weights can be grown by it, as it changes nothing at first.
    """

    def __init__(self, channels: int, *, operations=nn, device=None, dtype=None):
        super().__init__()
        at = {"device": device, "dtype": dtype}
        self.conv1 = operations.Conv2d(channels, channels, 3, padding=1, **at)
        self.conv2 = scaled_init(0.0, operations.Conv2d(channels, channels, 3, padding=1, **at))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.conv1(x)))


def sinusoid(t: Tensor, width: int, *, time_factor: float = 1.0, max_period: float = 10_000.0) -> Tensor:
    """Sinusoidal embedding of `t` (`B`): cosines, then sines, fp32, `B width` (unildiff.md 2.2)."""
    half = width // 2
    frequencies = torch.exp(
        -math.log(max_period) * torch.arange(half, dtype=torch.float32, device=t.device) / half
    )
    angles = (time_factor * t.float())[:, None] * frequencies[None]
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def initialise(network: nn.Module, generator: torch.Generator) -> nn.Module:
    """Give a network its starting weights, all drawn from `generator`.

    Convolutions and linears get He-uniform weights with gain 1/sqrt(3) (PyTorch's default scale), times what `scaled_init`
    says, and zero biases; norms the identity, embeddings a normal of 0.02. A module with `reset(generator)` sets its own
    parameters afterwards.
    """
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5), generator=generator)
            with torch.no_grad():
                module.weight.mul_(getattr(module, "start_scale", 1.0))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, (nn.LayerNorm, nn.GroupNorm)) and module.weight is not None:
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.02, generator=generator)
    for module in network.modules():
        if hasattr(module, "reset"):
            module.reset(generator)
    return network
