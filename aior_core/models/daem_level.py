"""One level of DAEM: experts, their router, and a shared attention branch (UniLDiff section 3.3;
docs/method.md, section 4).

y = S(x) * sum over the chosen experts e of gate_e * E_e(x), where x joins the decoder's feature with the LQ
feature of the same size and S is transposed attention. A skip of the LQ feature is added, with a scale and a
shift from the whole picture's context, because haze and darkness show in the whole picture and not in a pixel
(ours).

Router, channel attention and pooled gates depend on the whole picture. They are computed from
`LevelStatistics`, plain sums that tiles can add up. Channel attention is computed on a reduced copy of x: at
full size it took half of the training time.
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
    """Sums over the pixels of a region.

    total: of x, `B d`. gram: of products of q and k, `B heads c c`. q2, k2: of squares, `B heads c`. pixels:
    how many.
    """

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
    """`B C H W` -> `B HW C`; a view of tensors in channels-last format."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


@dataclass(frozen=True)
class Routing:
    """One router's decision: `logits` `B E`, the same with noise, `noisy`, and `gates` `B E`, zero where not
    chosen.
    """

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
        # S(x) multiplies the experts, and with values around 1 it passes their gradients on.
        nn.init.ones_(self.shared_out.bias)

    def combine(self, h: Tensor, skip: Tensor) -> tuple[Tensor, Tensor]:
        """x `B width H W`, and a reduced copy of it with its q and k, `B 3*width H/pool W/pool`.

        h, skip: the decoder's feature and the LQ feature, of the same size.
        """
        x = self.join(torch.cat([self.norm(h), self.skip_norm(skip.to(h))], dim=1))
        small = F.avg_pool2d(x, self.pool) if self.pool > 1 else x
        return x, torch.cat([small, self.qk_depthwise(self.qk(self.attention_norm(small)))], dim=1)

    def statistics(self, small: Tensor) -> LevelStatistics:
        """The sums of the reduced copy that `combine` returned, fp32."""
        x, q, k = _tokens(small).float().chunk(3, dim=2)
        # The product of all channels with all needs no copy into another layout. Only each head's own block
        # is kept.
        blocks = rearrange(q.transpose(1, 2) @ k, "b (n c) (m d) -> b n c m d", n=self.heads, m=self.heads)
        gram = rearrange(blocks.diagonal(dim1=1, dim2=3), "b c d n -> b n c d")
        q2, k2 = (rearrange(t.square().sum(dim=1), "b (n c) -> b n c", n=self.heads) for t in (q, k))
        return LevelStatistics(x.sum(dim=1), gram, q2, k2, x.shape[1])

    def pool_picture(self, statistics: LevelStatistics, context: Tensor) -> Tensor:
        """The input of router and gates: the mean of x over the whole picture, and the context, `B
        width+context_width`.
        """
        return torch.cat([statistics.total / statistics.pixels, context.float()], dim=1).to(context.dtype)

    def route(self, pooled: Tensor, noise: torch.Generator | None) -> Routing:
        """Choose experts: top-k of the softmax, not renormalised. noise: adds N(0, 1/E^2) to the logits, in
        training.
        """
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
        """The router's logits by place, `B E h w`, fp32: of cells of `cell` pixels of the reduced copy
        `small`.

        The router is linear, so their mean over the whole picture is the logits of `route`.
        """
        x = F.avg_pool2d(small[:, : small.shape[1] // 3], cell)
        known = torch.cat([x, context.to(x)[:, :, None, None].expand(-1, -1, *x.shape[2:])], dim=1)
        return self.router(known.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).float()

    def shared(self, x: Tensor, statistics: LevelStatistics) -> Tensor:
        """Transposed attention (MDTA; Zamir et al., Restormer, CVPR 2022): channels attend to channels by
        their Gram matrix.
        """
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
        """The weighted sum of each sample's experts, `B width H W`. gates: `B E`. Samples of one expert run
        as one batch.
        """
        sample, expert = gates.nonzero(as_tuple=True)
        order = expert.argsort(stable=True)
        sample, counts = sample[order], torch.bincount(expert, minlength=len(self.experts)).tolist()
        # `index_select` on the permuted view keeps the channels-last format, which plain indexing would lose.
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
        """What to add to the decoder's feature `h`, `B decoder H W`, and the router's decision."""
        x, small = self.combine(h, skip)
        statistics = self.statistics(small) if statistics is None else statistics
        pooled = self.pool_picture(statistics, context)
        routing = self.route(pooled, noise)
        mixed = self.mix(x, routing.gates, 2 * torch.sigmoid(self.gate(pooled)))
        scale, shift = self.modulate(pooled)[:, :, None, None].chunk(2, dim=1)
        return self.out(mixed * self.shared(x, statistics)) + (1 + scale) * self.link(
            skip.to(h)
        ) + shift, routing
