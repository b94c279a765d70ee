"""The Detail-Aware Expert Module: a mixture of experts in the decoder, fed by the LQ encoder's features.

UniLDiff section 3.3; docs/method.md, section 4. Each level of the decoder has a `DAEMLevel`. This module
holds what they share: the context, which is made from the whole picture, and the output head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .calibration import DEFAULT, Calibration
from .clipping import noise_sigma
from .confidence import NOISE, ConfidenceGates, column, require_kinds
from .config import FIRST_KINDS, DAEMConfig
from .daem_level import DAEMLevel
from .degradation_head import pooled_statistics
from .degradation_residual import DegradationResidual
from .global_statistics import GlobalStatistics, global_statistics_of
from .layers import scaled_init
from .low_frequency_anchor import ANCHOR_GAIN, low_frequency_correction
from .tone_curve import ToneCurve


@dataclass(frozen=True)
class PictureContext:
    """What DAEM knows of whole pictures.

    vector: input of the levels' routers and gates, `B context_width`. anchor: the share of low frequencies
    that the output takes from the damaged picture, `B 1` in 0..1. sigma: of the clipped noise to remove, for
    pictures of 0..1, `B 1`. probabilities, steering: inputs of the tone curve, `B K` in 0..1, haze gated by
    `gate_probability`.
    appearance: of the damaged pictures, `B 60`, or None where they were not given.
    """

    vector: Tensor
    anchor: Tensor
    sigma: Tensor
    probabilities: Tensor
    steering: Tensor
    appearance: Tensor | None = None


class DAEM(nn.Module):
    """All levels, the picture-wide context, and the output head.

    kinds: the names of the `config.degradations` degradations, in the order of every `B K`. calibration: what
    was fitted to the weights (default: that of the eleventh). Raises ValueError for another number of kinds.
    """

    def __init__(
        self,
        config: DAEMConfig,
        *,
        kinds: tuple[str, ...] = FIRST_KINDS,
        calibration: Calibration = DEFAULT,
        operations=nn,
        device=None,
        dtype=None,
    ):
        super().__init__()
        at = {"device": device, "dtype": dtype}
        ops = {"operations": operations, **at}
        require_kinds(kinds, config.degradations)
        self.config, self.kinds = config, kinds
        self.calibration = calibration
        self.gates = ConfidenceGates(kinds, self.calibration)
        self.levels = nn.ModuleList(
            DAEMLevel(d, s, w, p, config, **ops)
            for d, s, w, p in zip(
                config.decoder_widths, config.skip_widths, config.widths, config.pools, strict=True
            )
        )
        self.context1 = operations.Linear(
            2 * config.prior_width + 2 * config.degradations, 2 * config.context_width, **at
        )
        self.context2 = operations.Linear(2 * config.context_width, config.context_width, **at)
        self.tone = scaled_init(0.1, operations.Linear(config.context_width, 6, **at))
        self.anchor = operations.Linear(config.degradations, 1, **at) if config.anchored else None
        self.head = scaled_init(0.3, operations.Conv2d(config.decoder_widths[0], 9, 3, padding=1, **at))
        self.kept = (
            DegradationResidual(config.decoder_widths[0], config.degradations, **ops)
            if config.keeps
            else None
        )
        self.curve = (
            ToneCurve(kinds, config.tone_width, self.calibration, **ops) if config.tone_width else None
        )

    def reset(self, generator: torch.Generator) -> None:
        """Start with an output that is the damaged picture plus a residual (g = 1 in `output`).

        The anchor starts by holding low frequencies, except for the degradations whose `anchor_starts` is
        negative.
        """
        nn.init.ones_(self.head.bias[:3])
        if self.anchor is not None:
            nn.init.constant_(self.anchor.bias, 1 / ANCHOR_GAIN)
            given = self.config.anchor_starts
            missing = self.config.degradations - len(given)
            starts = [start / ANCHOR_GAIN for start in given] + [0.0] * missing
            with torch.no_grad():
                self.anchor.weight.copy_(self.anchor.weight.new_tensor([starts]))

    def silence(self) -> None:
        """Make the output exactly that of the plain decoder: a start for decoders that stay as they are, as
        SDXL's.
        """
        layers: list[Any] = [
            layer for level in self.levels for layer in (level.out, level.link, level.modulate)
        ]
        layers += [self.tone, self.head]
        if self.anchor is not None:
            layers.append(self.anchor)
        if self.kept is not None:
            layers.append(self.kept.parts)
        for layer in layers:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        if self.curve is not None:
            self.curve.silence()

    def gate_severity(
        self, severities: Tensor, probabilities: Tensor, statistics: GlobalStatistics | None
    ) -> Tensor:
        """The severities `B K` for denoiser and decoder: the head's, with haze as far as it counts.

        severities, probabilities: the degradation head's, `B K` in 0..1. statistics: of the same pictures,
        from `global_statistics`; None changes nothing.
        """
        return (
            severities
            if statistics is None
            else self.gates.gate_severity(severities, probabilities, statistics.hazy)
        )

    def picture_change(self, probabilities: Tensor) -> Tensor:
        """The share of the repair that each picture gets, `B` in 0..1; see
        `ConfidenceGates.picture_change`.
        """
        return self.gates.picture_change(probabilities)

    def global_statistics(
        self, damaged: Tensor, device: torch.device | None = None
    ) -> GlobalStatistics | None:
        """Statistics of whole damaged pictures `B 3 H W`, 0..1, on `device` (default: theirs); None without a
        tone curve.
        """
        return None if self.curve is None else global_statistics_of(self.curve, damaged, device)

    def context(
        self,
        feature: Tensor,
        severities: Tensor,
        steering: Tensor | None = None,
        probabilities: Tensor | None = None,
        global_statistics: GlobalStatistics | None = None,
    ) -> PictureContext:
        """The context of whole pictures.

        feature: the deepest LQ feature, `B C h w`. severities: `B K` in 0..1. steering: how much of each
        degradation to remove, `B K` in 0..1 (default: all). It is an input beside the severities to remove,
        because "absent" and "leave it in" would otherwise look the same. probabilities: `B K` in 0..1
        (default: 1); the anchor lets go only for degradations that are likely. global_statistics: of the
        damaged pictures. They bring the tone curve's probability of haze; without them noise counts as
        clipped.
        """
        statistics = pooled_statistics(feature)
        estimate = severities, steering, probabilities, global_statistics
        return self.context_of(statistics, *estimate, dtype=feature.dtype)

    def context_of(
        self,
        statistics: Tensor,
        severities: Tensor,
        steering: Tensor | None = None,
        probabilities: Tensor | None = None,
        global_statistics: GlobalStatistics | None = None,
        *,
        dtype: torch.dtype,
    ) -> PictureContext:
        """`context` from the `pooled_statistics` `B 2C` of the feature, fp32. dtype: in which the networks
        run.
        """
        steering = torch.ones_like(severities) if steering is None else steering
        sure = torch.ones_like(severities) if probabilities is None else probabilities
        pooled = torch.cat([statistics, (severities * steering).float(), steering.float()], dim=1).to(dtype)
        removed = (
            severities
            * steering
            * self.gates(sure, None if global_statistics is None else global_statistics.hazy)
        )
        sigma = noise_sigma(column(removed, self.kinds, NOISE).float(), self.calibration.noise_underestimate)
        return PictureContext(
            vector=self.context2(F.gelu(self.context1(pooled))),
            anchor=self.anchor_of(removed.to(dtype)),
            sigma=sigma
            if global_statistics is None
            else sigma * global_statistics.clipped[:, None].to(sigma),
            probabilities=(sure if global_statistics is None else self.gates.gate_probability(sure)).to(
                dtype
            ),
            steering=steering.to(dtype),
            appearance=None if global_statistics is None else global_statistics.appearance,
        )

    def anchor_of(self, severities: Tensor) -> Tensor:
        """The share of low frequencies that the output takes from the damaged picture, `B 1` in 0..1.

        severities: of what is to be removed, `B K`. Noise, blur, low resolution and JPEG leave low
        frequencies as they are, and a network that may change them does so where it should not: with noise
        25, wrong tones cost 0.9 dB of 30.7 dB.
        """
        if self.anchor is None:
            return severities.new_zeros(len(severities), 1)
        return (ANCHOR_GAIN * self.anchor(severities).float()).clamp(0, 1)

    def output(
        self, h: Tensor, decoded: Tensor, lq: Tensor, context: PictureContext, strength: float = 1.0
    ) -> Tensor:
        """The repaired picture before the tone curve, `B 3 H W`, -1..1 before clamping.

        It is decoded + strength * (g * (LQ - decoded) + a * (LQ + 1) + b), with g, a and b for every channel
        and pixel. With g = 1 it is the damaged picture plus a residual; the gain a and the offset b serve
        haze and low light, and the context adds a gain and an offset for the whole picture. With all three 0
        it is the plain decoder's picture. The anchor then moves low frequencies towards those of the damaged
        picture, corrected for clipped noise. What users leave in is added last (`DegradationResidual`).
        h: the decoder's last feature, `B C H W`. decoded, lq: the decoded and the damaged picture, `B 3 H W`
        in -1..1.
        """
        g, a, b = self.head(h).chunk(3, dim=1)
        gain, offset = self.tone(context.vector)[:, :, None, None].to(h.dtype).chunk(2, dim=1)
        lq = lq.to(decoded)
        change = g * (lq - decoded) + (a + gain) * (lq + 1) + b + offset
        if self.anchor is not None:
            anchor, sigma = (each[:, :, None, None].to(change) for each in (context.anchor, context.sigma))
            change = change + anchor * low_frequency_correction(lq, decoded + change, sigma)
        left_in = None if self.kept is None else self.kept(h, context.steering)
        if left_in is not None:
            change = change + left_in
        return decoded + strength * change
