"""Detail-Aware Expert Module: a mixture of experts in the decoder, fed by the LQ encoder's skips (UniLDiff section 3.3).

At each level of the decoder: y = sum over the chosen experts of gate_e * E_e(x), times a shared transposed-attention
branch S(x); x joins the decoder's feature and the LQ feature of the same size. Beside y stands a plain skip of the LQ feature,
scaled and shifted by what the whole picture looks like: haze and darkness are seen there, not in a pixel.

Everything that looks at the whole picture (router, channel attention, pooled gates) is made from `LevelStatistics`, plain sums
that tiles can pool. Which channels attend to which is judged on a smaller copy of x: at full size it took half of the
training's time.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from .anchor import ANCHOR_GAIN, ANCHOR_STARTS, believed, cleared, low_frequencies
from .autoencoder import Walk, finish
from .config import DAEMConfig
from .degradation_head import pooled_statistics
from .keep import Kept
from .layers import ChannelNorm, NAFBlock, starting_at
from .tone import ToneCurve, appearance, cells, shift, tones


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
class PictureContext:
    """What DAEM knows of the whole picture.

    `vector` `B context_width` is for its levels, `anchor` `B 1`, 0..1, for its output, `probabilities` (haze as far as it may count) and
    `steering` `B K`, 0..1, for the tone curve, as is what the damaged picture looks like, `appearance` `B 60`, where it was shown.
    """

    vector: Tensor
    anchor: Tensor
    probabilities: Tensor
    steering: Tensor
    appearance: Tensor | None = None


@dataclass(frozen=True)
class Routing:
    """One router's decision: `logits` `B E` without noise, `noisy` `B E`, `gates` `B E` (zero where not chosen)."""

    logits: Tensor
    noisy: Tensor
    gates: Tensor


class DAEMLevel(nn.Module):
    """The experts of one decoder level."""

    def __init__(self, decoder: int, skip: int, width: int, pool: int, config: DAEMConfig, *, operations=nn, device=None, dtype=None):
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
            NAFBlock(width, kernel=k, dilation=d, **ops) for k, d in zip(config.kernels, config.dilations, strict=True)
        )
        self.out = operations.Conv2d(width, decoder, 1, **at)
        self.link = operations.Conv2d(skip, decoder, 1, **at)
        self.modulate = starting_at(0.1, operations.Linear(width + config.context_width, 2 * decoder, **at))

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
            noisy = logits + torch.randn(logits.shape, generator=noise, device=noise.device).to(logits) / logits.shape[1]
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
        norms = statistics.q2.clamp_min(1e-12).sqrt()[..., :, None] * statistics.k2.clamp_min(1e-12).sqrt()[..., None, :]
        weights = (statistics.gram / norms * self.temperature.float()).softmax(dim=-1)
        weights = rearrange(torch.diag_embed(rearrange(weights, "b n c d -> b c d n")), "b c d n m -> b (m d) (n c)")
        mixed = _tokens(x) @ weights.to(x.dtype)
        return self.shared_out(rearrange(mixed, "b (h w) c -> b h w c", h=x.shape[2]).permute(0, 3, 1, 2))

    def mix(self, x: Tensor, gates: Tensor, gate: Tensor) -> Tensor:
        """Each sample through its experts, `B width H W`, weighed by `gates` `B E`: samples of one expert go together."""
        sample, expert = gates.nonzero(as_tuple=True)
        order = expert.argsort(stable=True)
        sample, counts = sample[order], torch.bincount(expert, minlength=len(self.experts)).tolist()
        # Rows of the layout that convolutions work in: a plain x[...] would come back in the other one.
        parts = x.permute(0, 2, 3, 1).index_select(0, sample).permute(0, 3, 1, 2).split(counts)
        made = [e(part, g) for e, part, g in zip(self.experts, parts, gate[sample].split(counts), strict=True) if len(part)]
        rows = torch.cat([m.permute(0, 2, 3, 1) for m in made]) * gates[sample, expert[order]].to(x)[:, None, None, None]
        back = sample.argsort(stable=True)
        return rows.index_select(0, back).unflatten(0, (len(x), -1)).sum(dim=1).permute(0, 3, 1, 2)

    def forward(
        self, h: Tensor, skip: Tensor, context: Tensor, *, statistics: LevelStatistics | None = None, noise: torch.Generator | None = None
    ) -> tuple[Tensor, Routing]:
        """What to add to the decoder's feature `h` (`B decoder H W`), and how it was routed."""
        x, small = self.combine(h, skip)
        statistics = self.statistics(small) if statistics is None else statistics
        pooled = self.pool_picture(statistics, context)
        routing = self.route(pooled, noise)
        mixed = self.mix(x, routing.gates, 2 * torch.sigmoid(self.gate(pooled)))
        scale, shift = self.modulate(pooled)[:, :, None, None].chunk(2, dim=1)
        return self.out(mixed * self.shared(x, statistics)) + (1 + scale) * self.link(skip.to(h)) + shift, routing


class DAEM(nn.Module):
    """All levels, the picture-wide context, and the output head."""

    def __init__(self, config: DAEMConfig = DAEMConfig(), *, operations=nn, device=None, dtype=None):
        super().__init__()
        at = {"device": device, "dtype": dtype}
        ops = {"operations": operations, **at}
        self.config = config
        self.levels = nn.ModuleList(
            DAEMLevel(d, s, w, p, config, **ops)
            for d, s, w, p in zip(config.decoder_widths, config.skip_widths, config.widths, config.pools, strict=True)
        )
        self.context1 = operations.Linear(2 * config.prior_width + 2 * config.degradations, 2 * config.context_width, **at)
        self.context2 = operations.Linear(2 * config.context_width, config.context_width, **at)
        self.tone = starting_at(0.1, operations.Linear(config.context_width, 6, **at))
        self.anchor = operations.Linear(config.degradations, 1, **at) if config.anchored else None
        self.head = starting_at(0.3, operations.Conv2d(config.decoder_widths[0], 9, 3, padding=1, **at))
        self.kept = Kept(config.decoder_widths[0], config.degradations, **ops) if config.keeps else None
        self.curve = ToneCurve(config.degradations, config.tone_width, **ops) if config.tone_width else None

    def reset(self, generator: torch.Generator) -> None:
        """Start from the LQ picture plus a residual: the first three outputs weigh the LQ picture against the decoded one.

        The anchor holds for what changes no tones, and lets go for weather and darkness.
        """
        nn.init.ones_(self.head.bias[:3])
        if self.anchor is not None:
            nn.init.constant_(self.anchor.bias, 1 / ANCHOR_GAIN)
            starts = [ANCHOR_STARTS.get(index, 0.0) / ANCHOR_GAIN for index in range(self.config.degradations)]
            with torch.no_grad():
                self.anchor.weight.copy_(self.anchor.weight.new_tensor([starts]))

    def silence(self) -> None:
        """Start from the plain decoder instead, exactly: for a decoder that is pretrained and stays as it is (SDXL's)."""
        for layer in (*(layer for level in self.levels for layer in (level.out, level.link, level.modulate)), self.tone, self.head, self.anchor, self.kept and self.kept.parts):
            if layer is not None:
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)
        if self.curve is not None:
            self.curve.doubt_everything()

    def context(
        self, feature: Tensor, severities: Tensor, steering: Tensor | None = None, probabilities: Tensor | None = None, damaged: Tensor | None = None
    ) -> PictureContext:
        """f8 LQ feature of the whole picture `B C h w` and severities `B K` -> what is known of it as a whole.

        steering: `B K`, 0..1, how much of each degradation is to be removed (default: all). It is told beside the severities
        to be removed: "none" and "leave it in" would look alike otherwise. probabilities: `B K`, 0..1, how sure each degradation is
        (default: certain); the anchor lets go for what is likely only. damaged: the whole damaged picture, `B 3 H W`, 0..1,
        for the tone curve, which has a second opinion on haze.
        """
        steering = torch.ones_like(severities) if steering is None else steering
        sure = torch.ones_like(severities) if probabilities is None else probabilities
        looks = None if damaged is None or self.curve is None else appearance(damaged)
        hazy = None if looks is None else self.curve.hazy(looks.to(sure))
        pooled = torch.cat([pooled_statistics(feature), (severities * steering).float(), steering.float()], dim=1).to(feature.dtype)
        return PictureContext(
            vector=self.context2(F.gelu(self.context1(pooled))),
            anchor=self.anchor_of((severities * steering * believed(sure, hazy)).to(feature.dtype)),
            probabilities=(sure if hazy is None else cleared(sure)).to(feature.dtype),
            steering=steering.to(feature.dtype),
            appearance=looks,
        )

    def anchor_of(self, severities: Tensor) -> Tensor:
        """How much of its low frequencies the result takes from the LQ picture, `B 1`, 0..1, by the severities to be removed `B K`.

        Noise, blur, low resolution and JPEG leave them as they are, and a network that may change the tones of the whole picture
        changes them where it should not: measured on noise 25, a wrong tone cost 0.9 dB of 30.7.
        """
        if self.anchor is None:
            return severities.new_zeros(len(severities), 1)
        return (ANCHOR_GAIN * self.anchor(severities).float()).clamp(0, 1)

    def output(self, h: Tensor, decoded: Tensor, lq: Tensor, context: PictureContext, strength: float = 1.0) -> Tensor:
        """Last decoder feature, decoded picture and LQ picture -> picture `B 3 H W`, -1..1 before clamping.

        decoded + strength * (g*(LQ - decoded) + a*(LQ + 1) + b): g = 1 makes it the LQ picture plus a residual, `a` is a gain and
        `b` an offset (what haze and low light need), and all three zero the plain decoder. To the gain and offset of every pixel come
        those of the whole picture, straight from its context. Low frequencies go back to the LQ picture's by the anchor's share.
        Last comes back what is to be kept.
        """
        g, a, b = self.head(h).chunk(3, dim=1)
        gain, offset = self.tone(context.vector)[:, :, None, None].to(h.dtype).chunk(2, dim=1)
        lq = lq.to(decoded)
        change = g * (lq - decoded) + (a + gain) * (lq + 1) + b + offset
        if self.anchor is not None:
            change = change + context.anchor[:, :, None, None].to(change) * low_frequencies(lq - decoded - change)
        kept = None if self.kept is None else self.kept(h, context.steering)
        if kept is not None:
            change = change + kept
        return decoded + strength * change


def tone_curve(daem: DAEM, repaired: Tensor, looks: Tensor, context: PictureContext) -> Tensor:
    """What a whole repaired picture `B 3 H W`, 0..1, still has of a wrong tone, the damaged one having looked like `looks` `B 60` -> curve `B 3 3`."""
    return daem.curve(context.probabilities, context.steering, looks, tones(cells(repaired)).to(looks.device))


def with_tone(daem: DAEM, picture: Tensor, lq: Tensor, context: PictureContext, strength: float = 1.0) -> Tensor:
    """The repaired picture with its tones set right by the curve, by `strength`; `B 3 H W` each, -1..1 before clamping."""
    if daem.curve is None:
        return picture
    unit = (picture + 1) / 2
    repaired = unit.clamp(0, 1)
    # Clamped, as the host keeps it, and beyond 0..1 still with a gradient.
    within = picture + 2 * (repaired - unit).detach()
    looks = appearance((lq + 1) / 2) if context.appearance is None else context.appearance
    return within + 2 * shift(repaired, strength * tone_curve(daem, repaired.detach(), looks, context))


def decode_with_detail(
    walk: Walk, daem: DAEM, skips: list[Tensor], context: PictureContext, lq: Tensor, *, strength: float = 1.0, noise: torch.Generator | None = None
) -> tuple[Tensor, list[Routing]]:
    """Run a decoder's walk with the experts at every level: picture `B 3 H W` and each level's routing, deepest first."""
    routings = []

    def visit(level: int, h: Tensor) -> Tensor:
        residual, routing = daem.levels[level](h, skips[level], context.vector, noise=noise)
        routings.append(routing)
        return h + strength * residual

    h, decoded = finish(walk, visit)
    return with_tone(daem, daem.output(h, decoded, lq, context, strength), lq, context, strength), routings
