"""The tone curve: a correction of the whole repaired picture's tones, applied last (ours; docs/method.md,
section 7.3).

The decoder repairs from a neighbourhood, and noise hides from it how dark or how hazy a whole picture is.
From a dark noisy picture it removed the noise and left the darkness: 9.5 dB, where one right curve gives 27.8
dB (validation pictures). Means over cells of 8x8 pixels hardly depend on noise. From their statistics in the
damaged picture, a small network estimates the tones of the undamaged picture, the error of that estimate, and
which degradations are present. The curve that brings the repaired picture's tones to the estimated ones is a
least-squares fit, and the estimated error decides how much of it is applied.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .calibration import DEFAULT, Calibration
from .confidence import HAZE, LOW_LIGHT, NOISE, column
from .layers import scaled_init

CELL, MOST_CELLS = 8, 256
"""Side of a cell in pixels, and the most cells along a side: more add no information about the whole
picture."""
LEVELS = (0.01, 0.05, 0.15, 0.3, 0.5, 0.7, 0.85, 0.95, 0.99)
FEW = (0.1, 0.5, 0.9)
"""Quantile levels: of tones, and of the other statistics."""
TONES = 3 * len(LEVELS)
APPEARANCE = 5 * len(LEVELS) + 5 * len(FEW)
"""How many numbers `tones` and `appearance` give."""
DARKEST = 1e-3
"""Added to contrasts before the logarithm."""
LOG_SCALE, TONE_SCALE, LOG_ERROR_OFFSET = 3.0, 0.2, 6.0
"""They bring the network's inputs and outputs to the order of 1: logarithms of contrasts lie around -5,
corrections of tones around 0.2, and logarithms of squared errors around -6."""
RIDGE = 0.02
"""Of the least-squares fit: a picture of a single tone leaves the curve elsewhere undetermined, and gets none
there."""
SMALLEST = 1e-6
"""Squared errors below this count as equal tones."""
CERTAIN_ERROR = 1e4
"""Bias for the logarithm of the expected error with which the curve is exactly zero."""


def cells(picture: Tensor) -> Tensor:
    """Means over cells of 8x8 pixels, `B C H W` -> `B C h w`, at most 256 a side."""
    coarse = F.avg_pool2d(picture, CELL, ceil_mode=True)
    if max(coarse.shape[-2:]) > MOST_CELLS:
        height, width = (min(side, MOST_CELLS) for side in coarse.shape[-2:])
        coarse = F.adaptive_avg_pool2d(coarse, (height, width))
    return coarse


def tones(coarse: Tensor) -> Tensor:
    """Nine quantiles of each channel of cells, `B 3 h w` -> `B 27`, fp32."""
    return _quantiles(coarse.flatten(2), LEVELS).flatten(1)


def appearance(picture: Tensor) -> Tensor:
    """Statistics of whole pictures `B 3 H W`, 0..1 -> `B 60`, fp32, all quantiles over cells.

    First the tones of the three channels, then those of the darkest and of the lightest channel, the standard
    deviation within cells (noise and texture), the difference between neighbouring cells, and the saturation.
    """
    coarse = cells(picture)
    squares = torch.cat([cells(channel.square()) for channel in picture.split(1, dim=1)], dim=1)
    spread = (squares - coarse.square()).clamp_min(1e-8).sqrt()
    across = torch.cat([coarse.diff(dim=dim).abs().mean(dim=1).flatten(1) for dim in (2, 3)], dim=1)
    dark, light = coarse.amin(dim=1, keepdim=True), coarse.amax(dim=1, keepdim=True)
    return torch.cat([
        tones(coarse),
        _quantiles(torch.cat([dark, light], dim=1).flatten(2), LEVELS).flatten(1),
        _quantiles(_log(spread).flatten(2), FEW).flatten(1),
        _quantiles(_log(across if across.shape[1] else across.new_zeros(len(across), 1)), FEW),
        _quantiles((light - dark).flatten(1), FEW),
    ], dim=1)  # fmt: skip


def _log(x: Tensor) -> Tensor:
    return (x.float() + DARKEST).log() / LOG_SCALE


def _quantiles(values: Tensor, levels: tuple[float, ...]) -> Tensor:
    """Quantiles along the last dimension, in whose place come the levels."""
    return torch.quantile(values.float(), torch.tensor(levels, device=values.device), dim=-1).movedim(0, -1)


def shift(picture: Tensor, curve: Tensor) -> Tensor:
    """What curves `B 3 3` add to pictures `B 3 H W`, 0..1. A curve is a change of black, white and middle per
    channel.
    """
    black, white, middle = (part[..., None].to(picture) for part in curve.split(1, dim=2))
    return black * (1 - picture) + white * picture + middle * (4 * picture * (1 - picture))


def curve_between(now: Tensor, wished: Tensor) -> Tensor:
    """The curve `B 3 3`, fp32, that brings tones `now` nearest to tones `wished`, `B 27` each, by ridge
    regression.
    """
    now, wished = (x.float().unflatten(1, (3, len(LEVELS))) for x in (now, wished))
    basis = 1 - now, now, 4 * now * (1 - now)
    # Sums of products, because autocast in training computes matrix products in bfloat16.
    gram = [[(one * other).sum(dim=2) for other in basis] for one in basis]
    for index in range(3):
        gram[index][index] = gram[index][index] + RIDGE
    return _solved(gram, [(part * (wished - now)).sum(dim=2) for part in basis])


def _solved(matrix: list[list[Tensor]], right: list[Tensor]) -> Tensor:
    """Solve symmetric positive definite 3x3 systems by Cholesky decomposition: entries of any equal shape
    `...` -> `... 3`.

    It is written out because not every accelerator has a solver, and where there is one it synchronises with
    the CPU.
    """
    lower: dict[tuple[int, int], Tensor] = {}
    for row in range(3):
        for other in range(row + 1):
            left = matrix[row][other] - sum(lower[row, k] * lower[other, k] for k in range(other))
            lower[row, other] = (
                left.clamp_min(SMALLEST).sqrt() if row == other else left / lower[other, other]
            )
    forward: list[Tensor] = []
    for row in range(3):
        forward.append((right[row] - sum(lower[row, k] * forward[k] for k in range(row))) / lower[row, row])
    found: dict[int, Tensor] = {}
    for row in reversed(range(3)):
        found[row] = (forward[row] - sum(lower[k, row] * found[k] for k in range(row + 1, 3))) / lower[
            row, row
        ]
    return torch.stack([found[row] for row in range(3)], dim=-1)


class ToneCurve(nn.Module):
    """Estimates the tones of the undamaged picture, and how much of the correction to apply.

    kinds: the names of the degradations, in the order of every `B K`. width: hidden width. calibration: what
    was fitted to the weights (default: that of the eleventh).
    """

    def __init__(
        self,
        kinds: tuple[str, ...],
        width: int,
        calibration: Calibration = DEFAULT,
        *,
        operations=nn,
        device=None,
        dtype=None,
    ):
        super().__init__()
        at = {"device": device, "dtype": dtype}
        self.kinds, self.calibration = kinds, calibration
        self.expect: nn.Linear
        self.look = operations.Linear(APPEARANCE, width, **at)
        self.think = operations.Linear(width, width, **at)
        self.judge = operations.Linear(width, width, **at)
        self.expect = scaled_init(0.1, operations.Linear(width, TONES + 1 + len(kinds), **at))

    def reset(self, generator: torch.Generator) -> None:
        """Start with a curve that is exactly zero."""
        self.silence()

    def silence(self) -> None:
        """Make the curve exactly zero, by an expected error that no correction exceeds."""
        with torch.no_grad():
            self.expect.weight[TONES].zero_()
            self.expect.bias[TONES] = CERTAIN_ERROR

    def expected(self, appearance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the network estimates from the `appearance` `B 60` of damaged pictures.

        Returns the tones of the undamaged pictures `B 27`, the natural logarithm of their expected squared
        error `B 1`, and presence logits `B K`.
        """
        h = F.gelu(self.judge(F.gelu(self.think(F.gelu(self.look(appearance))))))
        moved, doubt, present = self.expect(h).split([TONES, 1, len(self.kinds)], dim=1)
        return appearance[:, :TONES] + TONE_SCALE * moved, doubt - LOG_ERROR_OFFSET, present

    def hazy(self, appearance: Tensor) -> Tensor:
        """The probability of haze by the `appearance` `B 60` of damaged pictures: `B` in 0..1, without
        gradients.

        It is 0 for weights that do not know haze.
        """
        with torch.no_grad():
            return self._probability(self.expected(appearance)[2], HAZE)[:, 0]

    def _probability(self, logits: Tensor, kind: str) -> Tensor:
        """Logits `B K` -> the probability of `kind`, `B 1`; 0 where the weights do not know it."""
        return (
            column(logits, self.kinds, kind).sigmoid()
            if kind in self.kinds
            else logits.new_zeros(len(logits), 1)
        )

    def forward(self, probabilities: Tensor, steering: Tensor, appearance: Tensor, now: Tensor) -> Tensor:
        """The curve to apply, `B 3 3`, fp32: the curve of `unsteered` times its share. Without gradients."""
        curve, wanted = self.unsteered(probabilities, steering, appearance, now)
        return curve * wanted[..., None]

    def unsteered(
        self, probabilities: Tensor, steering: Tensor, appearance: Tensor, now: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The curve `B 3 3` against haze and low light, and the share of it that users want, `B 1` in 0..1.
        Both fp32.

        probabilities, steering: `B K` in 0..1, the degradation head's probabilities (gated), and how much of
        each degradation to remove. appearance: `B 60`, of the damaged pictures. now: tones `B 27` of the
        repaired ones. There are no gradients, because the curve learns in a stage of its own.

        The amount is a Wiener gain, the part of the tone error that the expected error does not explain,
        times the probability that there is haze or low light. The head estimates that probability best,
        except for low light under noise, where the curve's own network does. Haze counts only where both find
        it: the curve's network takes pale pictures for hazy ones, and where it expects no error it would put
        back the haze that the decoder has removed.
        """
        fitted = self.calibration
        with torch.no_grad():
            now = now.to(probabilities)
            wished, doubt, present = self.expected(appearance.to(probabilities))
            off = (wished - now).float().square().mean(dim=1, keepdim=True).clamp_min(SMALLEST).log()
            share = -torch.expm1((doubt.float() - fitted.tone_error_margin - off).clamp(max=0))
            noise, haze, dark = (column(probabilities, self.kinds, kind) for kind in (NOISE, HAZE, LOW_LIGHT))
            hazy, darkened = (self._probability(present, kind) for kind in (HAZE, LOW_LIGHT))
            haze = torch.minimum(haze, hazy)
            seen = fitted.tone_share_without_noise * fitted.tone_confidence(1 - (1 - haze) * (1 - dark))
            share = share * torch.lerp(seen, fitted.darkness_confidence_with_noise(darkened), noise).float()
            likely = torch.cat([haze, torch.lerp(dark, darkened, noise)], dim=1)
            # Where neither is likely, the curve is zero and the share is that of both.
            likely = likely + SMALLEST
            wished_away = [
                column(steering, self.kinds, kind) if kind in self.kinds else torch.ones_like(haze)
                for kind in (HAZE, LOW_LIGHT)
            ]
            removed = likely * torch.cat(wished_away, dim=1)
            wanted = removed.sum(dim=1, keepdim=True) / likely.sum(dim=1, keepdim=True)
            return curve_between(now, wished) * share[..., None], wanted.float()
