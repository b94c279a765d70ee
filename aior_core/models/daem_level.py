"""One level of DAEM: experts, their router, and the attention that they share (UniLDiff section 3.3).

y = sum over the chosen experts of gate_e * E_e(x), times a shared transposed-attention branch S(x); x joins the decoder's feature and the
LQ feature of the same size. Beside y stands a plain skip of the LQ feature, scaled and shifted by what the whole picture looks like: haze
and darkness are seen there, not in a pixel.

Everything that looks at the whole picture (router, channel attention, pooled gates) is made from `LevelStatistics`, plain sums that tiles
can pool. Which channels attend to which is judged on a smaller copy of x: at full size it took half of the training's time.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from .config import DAEMConfig
from .layers import ChannelNorm, NAFBlock, scaled_init


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
            self.total + other.total,
            self.gram + other.gram,
            self.q2 + other.q2,
            self.k2 + other.k2,
            self.pixels + other.pixels,
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

    def __init__(
        self,
        decoder: int,
        skip: int,
        width: int,
        pool: int,
        config: DAEMConfig,
        *,
        operations=nn,
        device=None,
        dtype=None,
    ):
        super().__init__()
        at = {"device": device, "dtype": dtype}
        ops = {"operations": operations, **at}
        self.top_k, self.heads, self.pool = config.top_k, max(1, width // config.head_channels), pool
        self.norm = ChannelNorm(decoder, **ops)
        self.skip_norm = ChannelNorm(skip, **ops)
        self.join = operations.Conv2d(decoder + skip, width, 1, **at)
        self.attention_norm = ChannelNorm(width, **ops)
        self.qk = operations.Conv2d(width, 2 * width, 1, **at)
        self.qk_depthwise = operations.Conv2d(2 * width, 2 * width, 3, padding=1, groups=2 * width, **at)
        self.temperature = nn.Parameter(torch.empty(self.heads, 1, 1, **at))
        self.shared_out = operations.Conv2d(width, width, 1, **at)
        self.router = operations.Linear(width + config.context_width, len(config.kernels), **at)
        self.gate = operations.Linear(width + config.context_width, width, **at)
        self.experts = nn.ModuleList(
            NAFBlock(width, kernel=k, dilation=d, **ops)
            for k, d in zip(config.kernels, config.dilations, strict=True)
        )
        self.out = operations.Conv2d(width, decoder, 1, **at)
        self.link = operations.Conv2d(skip, decoder, 1, **at)
        self.modulate = scaled_init(0.1, operations.Linear(width + config.context_width, 2 * decoder, **at))

    def reset(self, generator: torch.Generator) -> None:
        nn.init.ones_(self.temperature)
        # S(x) multiplies the experts: starting around 1 lets their gradients through.
        nn.init.ones_(self.shared_out.bias)

    def combine(self, h: Tensor, skip: Tensor) -> tuple[Tensor, Tensor]:
        """Decoder feature and LQ feature, same size -> x `B width H W`, and of x made smaller: itself, q and k, `B 3*width H/pool W/pool`."""
        x = self.join(torch.cat([self.norm(h), self.skip_norm(skip.to(h))], dim=1))
        small = F.avg_pool2d(x, self.pool) if self.pool > 1 else x
        return x, torch.cat([small, self.qk_depthwise(self.qk(self.attention_norm(small)))], dim=1)

    def statistics(self, small: Tensor) -> LevelStatistics:
        """The sums that the whole picture is judged by, fp32, of what `combine` made smaller."""
        x, q, k = _tokens(small).float().chunk(3, dim=2)
        # All channels with all, of which only each head's own block is kept: the layout stays as it is, nothing is copied.
        blocks = rearrange(q.transpose(1, 2) @ k, "b (n c) (m d) -> b n c m d", n=self.heads, m=self.heads)
        gram = rearrange(blocks.diagonal(dim1=1, dim2=3), "b c d n -> b n c d")
        q2, k2 = (rearrange(t.square().sum(dim=1), "b (n c) -> b n c", n=self.heads) for t in (q, k))
        return LevelStatistics(x.sum(dim=1), gram, q2, k2, x.shape[1])

    def pool_picture(self, statistics: LevelStatistics, context: Tensor) -> Tensor:
        """What is known of the whole picture, `B width+context_width`."""
        return torch.cat([statistics.total / statistics.pixels, context.float()], dim=1).to(context.dtype)

    def route(self, pooled: Tensor, noise: torch.Generator | None) -> Routing:
        """Router: noise N(0, 1/E^2) only in training (`noise` given), top-k of the softmax, not renormalised."""
        logits = self.router(pooled).float()
        noisy = logits
        if noise is not None:
            noisy = (
                logits
                + torch.randn(logits.shape, generator=noise, device=noise.device).to(logits) / logits.shape[1]
            )
        probabilities = noisy.softmax(dim=1)
        kept = probabilities.topk(self.top_k, dim=1).indices
        gates = torch.zeros_like(probabilities).scatter(1, kept, probabilities.gather(1, kept))
        return Routing(logits, noisy, gates)

    def votes(self, small: Tensor, context: Tensor, cell: int) -> Tensor:
        """What each place speaks for: the router's logits of cells of `cell` pixels of what `combine` made smaller, `B E h w`, fp32.

        The router is linear, so that their mean over the whole picture is the logits that `route` decides by.
        """
        x = F.avg_pool2d(small[:, : small.shape[1] // 3], cell)
        known = torch.cat([x, context.to(x)[:, :, None, None].expand(-1, -1, *x.shape[2:])], dim=1)
        return self.router(known.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).float()

    def shared(self, x: Tensor, statistics: LevelStatistics) -> Tensor:
        """Transposed attention (Restormer's MDTA): channels of x attend to channels with the picture's own Gram matrix."""
        norms = (
            statistics.q2.clamp_min(1e-12).sqrt()[..., :, None]
            * statistics.k2.clamp_min(1e-12).sqrt()[..., None, :]
        )
        weights = (statistics.gram / norms * self.temperature.float()).softmax(dim=-1)
        weights = rearrange(
            torch.diag_embed(rearrange(weights, "b n c d -> b c d n")), "b c d n m -> b (m d) (n c)"
        )
        mixed = _tokens(x) @ weights.to(x.dtype)
        return self.shared_out(rearrange(mixed, "b (h w) c -> b h w c", h=x.shape[2]).permute(0, 3, 1, 2))

    def mix(self, x: Tensor, gates: Tensor, gate: Tensor) -> Tensor:
        """Each sample through its experts, `B width H W`, weighed by `gates` `B E`: samples of one expert go together."""
        sample, expert = gates.nonzero(as_tuple=True)
        order = expert.argsort(stable=True)
        sample, counts = sample[order], torch.bincount(expert, minlength=len(self.experts)).tolist()
        # Rows of the layout that convolutions work in: a plain x[...] would come back in the other one.
        parts = x.permute(0, 2, 3, 1).index_select(0, sample).permute(0, 3, 1, 2).split(counts)
        made = [
            e(part, g)
            for e, part, g in zip(self.experts, parts, gate[sample].split(counts), strict=True)
            if len(part)
        ]
        rows = (
            torch.cat([m.permute(0, 2, 3, 1) for m in made])
            * gates[sample, expert[order]].to(x)[:, None, None, None]
        )
        back = sample.argsort(stable=True)
        return rows.index_select(0, back).unflatten(0, (len(x), -1)).sum(dim=1).permute(0, 3, 1, 2)

    def forward(
        self,
        h: Tensor,
        skip: Tensor,
        context: Tensor,
        *,
        statistics: LevelStatistics | None = None,
        noise: torch.Generator | None = None,
    ) -> tuple[Tensor, Routing]:
        """What to add to the decoder's feature `h` (`B decoder H W`), and how it was routed."""
        x, small = self.combine(h, skip)
        statistics = self.statistics(small) if statistics is None else statistics
        pooled = self.pool_picture(statistics, context)
        routing = self.route(pooled, noise)
        mixed = self.mix(x, routing.gates, 2 * torch.sigmoid(self.gate(pooled)))
        scale, shift = self.modulate(pooled)[:, :, None, None].chunk(2, dim=1)
        return self.out(mixed * self.shared(x, statistics)) + (1 + scale) * self.link(
            skip.to(h)
        ) + shift, routing
