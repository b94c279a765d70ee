"""Detail-Aware Expert Module: a mixture of experts in the decoder, fed by the LQ encoder's skips (UniLDiff section 3.3).

A `DAEMLevel` at each level of the decoder; here is what they have in common: what is known of the whole picture, and the output.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .calibration import Calibration
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
    """What DAEM knows of the whole picture.

    `vector` `B context_width` is for its levels; `anchor` `B 1`, 0..1, and `sigma` `B 1`, that of clipped noise to be removed, for its output;
    `probabilities` (haze as far as it may count) and `steering` `B K`, 0..1, for the tone curve, as is what the damaged picture looks like,
    `appearance` `B 60`, where it was shown.
    """

    vector: Tensor
    anchor: Tensor
    sigma: Tensor
    probabilities: Tensor
    steering: Tensor
    appearance: Tensor | None = None


class DAEM(nn.Module):
    """All levels, the picture-wide context, and the output head.

    kinds: the names of the `config.degradations` degradations, in the order of every `B K`. calibration: what was fitted to
    the weights (default: `Calibration()`). Raises ValueError for another number of kinds.
    """

    def __init__(
        self,
        config: DAEMConfig = DAEMConfig(),
        *,
        kinds: tuple[str, ...] = FIRST_KINDS,
        calibration: Calibration | None = None,
        operations=nn,
        device=None,
        dtype=None,
    ):
        super().__init__()
        at = {"device": device, "dtype": dtype}
        ops = {"operations": operations, **at}
        require_kinds(kinds, config.degradations)
        self.config, self.kinds = config, kinds
        self.calibration = calibration or Calibration()
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
        """Start from the LQ picture plus a residual: the first three outputs weigh the LQ picture against the decoded one.

        The anchor holds for what changes no tones, and lets go for weather and darkness.
        """
        nn.init.ones_(self.head.bias[:3])
        if self.anchor is not None:
            nn.init.constant_(self.anchor.bias, 1 / ANCHOR_GAIN)
            given = self.config.anchor_starts
            starts = [start / ANCHOR_GAIN for start in given] + [0.0] * (
                self.config.degradations - len(given)
            )
            with torch.no_grad():
                self.anchor.weight.copy_(self.anchor.weight.new_tensor([starts]))

    def silence(self) -> None:
        """Start from the plain decoder instead, exactly: for a decoder that is pretrained and stays as it is (SDXL's)."""
        for layer in (
            *(layer for level in self.levels for layer in (level.out, level.link, level.modulate)),
            self.tone,
            self.head,
            self.anchor,
            self.kept and self.kept.parts,
        ):
            if layer is not None:
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)
        if self.curve is not None:
            self.curve.doubt_everything()

    def gate_severity(
        self, severities: Tensor, probabilities: Tensor, statistics: GlobalStatistics | None
    ) -> Tensor:
        """The severities `B K` that denoiser and decoder are given: those of the head, haze as far as it counts.

        severities, probabilities: the degradation head's, `B K` in 0..1. statistics: what `global_statistics` returned for the
        same pictures; None changes nothing.
        """
        return (
            severities
            if statistics is None
            else self.gates.gate_severity(severities, probabilities, statistics.hazy)
        )

    def picture_change(self, probabilities: Tensor) -> Tensor:
        """The share of the repair that each picture gets, `B` in 0..1; see `ConfidenceGates.picture_change`."""
        return self.gates.picture_change(probabilities)

    def global_statistics(
        self, damaged: Tensor, device: torch.device | None = None
    ) -> GlobalStatistics | None:
        """Whole damaged pictures `B 3 H W`, 0..1 -> what they look like, on `device` (default: theirs), if there is a tone curve to judge of it."""
        return None if self.curve is None else global_statistics_of(self.curve, damaged, device)

    def context(
        self,
        feature: Tensor,
        severities: Tensor,
        steering: Tensor | None = None,
        probabilities: Tensor | None = None,
        global_statistics: GlobalStatistics | None = None,
    ) -> PictureContext:
        """f8 LQ feature of the whole picture `B C h w` and severities `B K` -> what is known of it as a whole.

        steering: `B K`, 0..1, how much of each degradation is to be removed (default: all). It is told beside the severities
        to be removed: "none" and "leave it in" would look alike otherwise. probabilities: `B K`, 0..1, how sure each degradation is
        (default: certain); the anchor lets go for what is likely only. global_statistics: of the whole damaged picture, see `global_statistics`, for the
        tone curve and its second opinion on haze; without it noise is taken for clipped.
        """
        statistics = pooled_statistics(feature)
        told = severities, steering, probabilities, global_statistics
        return self.context_of(statistics, *told, dtype=feature.dtype)

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
        """`context` from the feature's `pooled_statistics`, `B 2C`, fp32. The networks run in `dtype`."""
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
        """How much of its low frequencies the result takes from the LQ picture, `B 1`, 0..1, by the severities to be removed `B K`.

        Noise, blur, low resolution and JPEG leave them as they are, and a network that may change the tones of the whole picture
        changes them where it should not: measured on noise 25, a wrong tone cost 0.9 dB of 30.7.
        """
        if self.anchor is None:
            return severities.new_zeros(len(severities), 1)
        return (ANCHOR_GAIN * self.anchor(severities).float()).clamp(0, 1)

    def output(
        self, h: Tensor, decoded: Tensor, lq: Tensor, context: PictureContext, strength: float = 1.0
    ) -> Tensor:
        """Last decoder feature, decoded picture and LQ picture -> picture `B 3 H W`, -1..1 before clamping.

        decoded + strength * (g*(LQ - decoded) + a*(LQ + 1) + b): g = 1 makes it the LQ picture plus a residual, `a` is a gain and
        `b` an offset (what haze and low light need), and all three zero the plain decoder. To the gain and offset of every pixel come
        those of the whole picture, straight from its context. Low frequencies go back by the anchor's share to the LQ picture's, or to what those
        were before noise was clipped. Last comes back what is to be kept.
        """
        g, a, b = self.head(h).chunk(3, dim=1)
        gain, offset = self.tone(context.vector)[:, :, None, None].to(h.dtype).chunk(2, dim=1)
        lq = lq.to(decoded)
        change = g * (lq - decoded) + (a + gain) * (lq + 1) + b + offset
        if self.anchor is not None:
            anchor, sigma = (each[:, :, None, None].to(change) for each in (context.anchor, context.sigma))
            change = change + anchor * low_frequency_correction(lq, decoded + change, sigma)
        kept = None if self.kept is None else self.kept(h, context.steering)
        if kept is not None:
            change = change + kept
        return decoded + strength * change
