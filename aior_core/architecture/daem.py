"""Detail-Aware Expert Module: a mixture of experts in the decoder, fed by the LQ encoder's skips (UniLDiff section 3.3).

At each level of the decoder: y = sum over the chosen experts of gate_e * E_e(x), times a shared transposed-attention
branch S(x); x joins the decoder's feature and the LQ feature of the same size. Everything that looks at the whole picture
(router, channel attention, pooled gates) is made from `LevelStatistics`, plain sums that tiles can pool.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from .autoencoder import Walk, finish
from .config import DAEMConfig
from .degradation_head import pooled_statistics
from .layers import ChannelNorm, NAFBlock, starting_at


@dataclass(frozen=True)
class LevelStatistics:
    """Sums over the pixels of a region: `total` `B d`, `gram` `B heads c c` of q with k, `q2` and `k2` `B heads c`, `pixels`."""

    total: Tensor
    gram: Tensor
    q2: Tensor
    k2: Tensor
    pixels: int

    def __add__(self, other: LevelStatistics) -> LevelStatistics:
        return LevelStatistics(
            self.total + other.total, self.gram + other.gram, self.q2 + other.q2, self.k2 + other.k2, self.pixels + other.pixels
        )


def _tokens(x: Tensor) -> Tensor:
    """`B C H W` -> `B HW C`; a view where the channels lie last in memory."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


@dataclass(frozen=True)
class Routing:
    """One router's decision: `logits` `B E` without noise, `noisy` `B E`, `gates` `B E` (zero where not chosen)."""

    logits: Tensor
    noisy: Tensor
    gates: Tensor


class DAEMLevel(nn.Module):
    """The experts of one decoder level."""

    def __init__(self, decoder: int, skip: int, width: int, config: DAEMConfig, *, operations=nn, device=None, dtype=None):
        super().__init__()
        at = {"device": device, "dtype": dtype}
        ops = {"operations": operations, **at}
        self.top_k, self.heads = config.top_k, max(1, width // config.head_channels)
        self.norm = ChannelNorm(decoder, **ops)
        self.skip_norm = ChannelNorm(skip, **ops)
        self.join = operations.Conv2d(decoder + skip, width, 1, **at)
        self.attention_norm = ChannelNorm(width, **ops)
        self.qkv = operations.Conv2d(width, 3 * width, 1, **at)
        self.qkv_depthwise = operations.Conv2d(3 * width, 3 * width, 3, padding=1, groups=3 * width, **at)
        self.temperature = nn.Parameter(torch.empty(self.heads, 1, 1, **at))
        self.shared_out = operations.Conv2d(width, width, 1, **at)
        self.router = starting_at(0.0, operations.Linear(width + config.context_width, len(config.kernels), **at))
        self.gate = operations.Linear(width + config.context_width, width, **at)
        self.experts = nn.ModuleList(
            NAFBlock(width, kernel=k, dilation=d, **ops) for k, d in zip(config.kernels, config.dilations, strict=True)
        )
        self.out = operations.Conv2d(width, decoder, 1, **at)

    def reset(self, generator: torch.Generator) -> None:
        nn.init.ones_(self.temperature)
        # S(x) multiplies the experts: starting around 1 lets their gradients through.
        nn.init.ones_(self.shared_out.bias)

    def combine(self, h: Tensor, skip: Tensor) -> tuple[Tensor, Tensor]:
        """Decoder feature and LQ feature, same size -> x `B width H W` and its qkv `B 3*width H W`."""
        x = self.join(torch.cat([self.norm(h), self.skip_norm(skip.to(h))], dim=1))
        return x, self.qkv_depthwise(self.qkv(self.attention_norm(x)))

    def statistics(self, x: Tensor, qkv: Tensor) -> LevelStatistics:
        """The sums that the whole picture is judged by, fp32."""
        q, k, _ = (_tokens(t).float() for t in qkv.chunk(3, dim=1))
        # All channels with all, of which only each head's own block is kept: the layout stays as it is, nothing is copied.
        blocks = rearrange(q.transpose(1, 2) @ k, "b (n c) (m d) -> b n c m d", n=self.heads, m=self.heads)
        gram = rearrange(blocks.diagonal(dim1=1, dim2=3), "b c d n -> b n c d")
        q2, k2 = (rearrange(t.square().sum(dim=1), "b (n c) -> b n c", n=self.heads) for t in (q, k))
        return LevelStatistics(_tokens(x).float().sum(dim=1), gram, q2, k2, x.shape[2] * x.shape[3])

    def route(self, statistics: LevelStatistics, context: Tensor, noise: torch.Generator | None) -> tuple[Routing, Tensor]:
        """Router and pooled gate: noise N(0, 1/E^2) only in training (`noise` given), top-k of the softmax, not renormalised."""
        pooled = torch.cat([statistics.total / statistics.pixels, context.float()], dim=1).to(context.dtype)
        logits = self.router(pooled).float()
        noisy = logits
        if noise is not None:
            noisy = logits + torch.randn(logits.shape, generator=noise, device=noise.device).to(logits) / logits.shape[1]
        probabilities = noisy.softmax(dim=1)
        kept = probabilities.topk(self.top_k, dim=1).indices
        gates = torch.zeros_like(probabilities).scatter(1, kept, probabilities.gather(1, kept))
        return Routing(logits, noisy, gates), 2 * torch.sigmoid(self.gate(pooled))

    def shared(self, qkv: Tensor, statistics: LevelStatistics) -> Tensor:
        """Transposed attention (Restormer's MDTA): channels attend to channels with the picture's own Gram matrix."""
        norms = statistics.q2.clamp_min(1e-12).sqrt()[..., :, None] * statistics.k2.clamp_min(1e-12).sqrt()[..., None, :]
        weights = (statistics.gram / norms * self.temperature.float()).softmax(dim=-1)
        weights = rearrange(torch.diag_embed(rearrange(weights, "b n c d -> b c d n")), "b c d n m -> b (m d) (n c)")
        v = _tokens(qkv.chunk(3, dim=1)[2])
        return self.shared_out(rearrange(v @ weights.to(v.dtype), "b (h w) c -> b h w c", h=qkv.shape[2]).permute(0, 3, 1, 2))

    def forward(
        self, h: Tensor, skip: Tensor, context: Tensor, *, statistics: LevelStatistics | None = None, noise: torch.Generator | None = None
    ) -> tuple[Tensor, Routing]:
        """What to add to the decoder's feature `h` (`B decoder H W`), and how it was routed."""
        x, qkv = self.combine(h, skip)
        statistics = self.statistics(x, qkv) if statistics is None else statistics
        routing, gate = self.route(statistics, context, noise)
        mixed = torch.zeros_like(x)
        for index, expert in enumerate(self.experts):
            chosen = routing.gates[:, index].nonzero()[:, 0]
            if len(chosen) == len(x):
                mixed = mixed + routing.gates[:, index, None, None, None].to(x) * expert(x, gate)
            elif len(chosen):
                part = routing.gates[chosen, index, None, None, None].to(x) * expert(x[chosen], gate[chosen])
                mixed.index_add_(0, chosen, part)
        return self.out(mixed * self.shared(qkv, statistics)), routing


class DAEM(nn.Module):
    """All levels, the picture-wide context, and the output head."""

    def __init__(self, config: DAEMConfig = DAEMConfig(), *, operations=nn, device=None, dtype=None):
        super().__init__()
        at = {"device": device, "dtype": dtype}
        ops = {"operations": operations, **at}
        self.config = config
        self.levels = nn.ModuleList(
            DAEMLevel(d, s, w, config, **ops) for d, s, w in zip(config.decoder_widths, config.skip_widths, config.widths, strict=True)
        )
        self.context1 = operations.Linear(2 * config.prior_width + config.degradations, 2 * config.context_width, **at)
        self.context2 = operations.Linear(2 * config.context_width, config.context_width, **at)
        self.head = starting_at(0.3, operations.Conv2d(config.decoder_widths[0], 9, 3, padding=1, **at))

    def reset(self, generator: torch.Generator) -> None:
        """Start from the LQ picture plus a residual: the first three outputs weigh the LQ picture against the decoded one."""
        nn.init.ones_(self.head.bias[:3])

    def silence(self) -> None:
        """Start from the plain decoder instead, exactly: for a decoder that is pretrained and stays as it is (SDXL's)."""
        for layer in (*(level.out for level in self.levels), self.head):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def context(self, feature: Tensor, severities: Tensor) -> Tensor:
        """f8 LQ feature of the whole picture `B C h w`, severities `B K` (as steered) -> `B context_width`."""
        pooled = torch.cat([pooled_statistics(feature), severities.float()], dim=1).to(feature.dtype)
        return self.context2(F.gelu(self.context1(pooled)))

    def output(self, h: Tensor, decoded: Tensor, lq: Tensor, strength: float = 1.0) -> Tensor:
        """Last decoder feature, decoded picture and LQ picture -> picture `B 3 H W`, -1..1 before clamping.

        decoded + strength * (g*(LQ - decoded) + a*(LQ + 1) + b): g = 1 makes it the LQ picture plus a residual, `a` a local
        gain (what haze and low light need), and all three zero the plain decoder.
        """
        g, a, b = self.head(h).chunk(3, dim=1)
        lq = lq.to(decoded)
        return decoded + strength * (g * (lq - decoded) + a * (lq + 1) + b)


def balance_loss(routing: Routing, top_k: int) -> Tensor:
    """Load balance of one router over a batch: half the squared variation of importance, half that of load (Shazeer et al. 2017)."""
    experts = routing.logits.shape[1]
    importance = routing.logits.softmax(dim=1).sum(dim=0)
    threshold = routing.noisy.topk(top_k, dim=1).values[:, -1:]
    load = (1 - torch.special.ndtr((threshold - routing.logits) * experts)).mean(dim=0)
    return 0.5 * _squared_variation(importance) + 0.5 * _squared_variation(load)


def _squared_variation(x: Tensor) -> Tensor:
    return x.var() / (x.mean() + 1e-8).square()


def decode_with_detail(
    walk: Walk, daem: DAEM, skips: list[Tensor], context: Tensor, lq: Tensor, *, strength: float = 1.0, noise: torch.Generator | None = None
) -> tuple[Tensor, list[Routing]]:
    """Run a decoder's walk with the experts at every level: picture `B 3 H W` and each level's routing, deepest first."""
    routings = []

    def visit(level: int, h: Tensor) -> Tensor:
        residual, routing = daem.levels[level](h, skips[level], context, noise=noise)
        routings.append(routing)
        return h + strength * residual

    h, decoded = finish(walk, visit)
    return daem.output(h, decoded, lq, strength), routings
