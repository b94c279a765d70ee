"""The tone curve: what haze, darkness and veils leave of a wrong tone in the whole repaired picture, set right last.

Not of the paper. The decoder repairs from a neighbourhood, and noise hides from it how dark or how veiled a picture is as a whole: of a dark
noisy picture it removed the noise and left the dark (9.5 dB, where one right curve gives 27.8; validation pictures). Tones are means over cells
of 8x8 pixels, which noise hardly moves. From those of the damaged picture a small network says what tones the undamaged one had, how sure that
is, and whether there is haze or darkness; the curve that takes the repaired picture there is a least-squares fit, and how far it goes follows
from the rest.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .calibration import Calibration
from .confidence import HAZE, LOW_LIGHT, NOISE, column
from .layers import scaled_init

CELL, MOST_CELLS = 8, 256
"""Pixels of a cell, and cells along a side: more say nothing new about a whole picture."""
LEVELS = (0.01, 0.05, 0.15, 0.3, 0.5, 0.7, 0.85, 0.95, 0.99)
FEW = (0.1, 0.5, 0.9)
TONES = 3 * len(LEVELS)
APPEARANCE = 5 * len(LEVELS) + 5 * len(FEW)
DARKEST = 1e-3
LOGARITHM, STEP = 3.0, 0.2
"""Logarithms of contrasts lie around -5; a tone is moved by about a fifth. Both are brought to the order of 1."""
RIDGE = 0.02
"""Of the fit: a picture of one tone says nothing of the others, and a curve that it does not need is none."""
DOUBT, SMALLEST = 6.0, 1e-6
"""Logarithms of squared errors lie around -6; below -14 tones are equal."""


def cells(picture: Tensor) -> Tensor:
    """Means over cells of 8x8 pixels, `B C H W` -> `B C h w`, at most 256 a side."""
    coarse = F.avg_pool2d(picture, CELL, ceil_mode=True)
    if max(coarse.shape[-2:]) > MOST_CELLS:
        coarse = F.adaptive_avg_pool2d(coarse, [min(side, MOST_CELLS) for side in coarse.shape[-2:]])
    return coarse


def tones(coarse: Tensor) -> Tensor:
    """Nine quantiles of each channel of cells, `B 3 h w` -> `B 27`, fp32."""
    return _quantiles(coarse.flatten(2), LEVELS).flatten(1)


def appearance(picture: Tensor) -> Tensor:
    """What a picture `B 3 H W`, 0..1, looks like as a whole -> `B 60`, fp32.

    Its tones first, then those of the darkest and of the lightest channel, the spread within cells, which is noise and texture, the contrast
    from cell to cell, and the saturation.
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
    return (x.float() + DARKEST).log() / LOGARITHM


def _quantiles(values: Tensor, levels: tuple[float, ...]) -> Tensor:
    """Along the last dimension, which becomes that of the levels."""
    return torch.quantile(values.float(), torch.tensor(levels, device=values.device), dim=-1).movedim(0, -1)


def shift(picture: Tensor, curve: Tensor) -> Tensor:
    """By how much `curve` `B 3 3` moves a picture `B 3 H W`, 0..1: black, white and middle of each channel."""
    black, white, middle = (part[..., None].to(picture) for part in curve.split(1, dim=2))
    return black * (1 - picture) + white * picture + middle * (4 * picture * (1 - picture))


def curve_between(now: Tensor, wished: Tensor) -> Tensor:
    """The curve that brings tones `now` nearest to those `wished`, `B 27` each -> `B 3 3`, fp32 (ridge regression)."""
    now, wished = (x.float().unflatten(1, (3, len(LEVELS))) for x in (now, wished))
    basis = 1 - now, now, 4 * now * (1 - now)
    # Sums of products and no matrix product, which training would do in bfloat16.
    gram = [[(one * other).sum(dim=2) for other in basis] for one in basis]
    for index in range(3):
        gram[index][index] = gram[index][index] + RIDGE
    return _solved(gram, [(part * (wished - now)).sum(dim=2) for part in basis])


def _solved(matrix: list[list[Tensor]], right: list[Tensor]) -> Tensor:
    """Symmetric positive definite systems of three, entries of any equal shape `...` -> their solutions `... 3`, by Cholesky's square roots.

    Written out, as not every accelerator solves, and those that do make the processor wait for an answer.
    """
    lower: dict[tuple[int, int], Tensor] = {}
    for row in range(3):
        for column in range(row + 1):
            left = matrix[row][column] - sum(lower[row, k] * lower[column, k] for k in range(column))
            lower[row, column] = (
                left.clamp_min(SMALLEST).sqrt() if row == column else left / lower[column, column]
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
    """Judges what tones the undamaged picture had, and how far to go there."""

    def __init__(
        self,
        kinds: tuple[str, ...],
        width: int,
        calibration: Calibration | None = None,
        *,
        operations=nn,
        device=None,
        dtype=None,
    ):
        super().__init__()
        at = {"device": device, "dtype": dtype}
        self.kinds, self.calibration = kinds, calibration or Calibration()
        self.look = operations.Linear(APPEARANCE, width, **at)
        self.think = operations.Linear(width, width, **at)
        self.judge = operations.Linear(width, width, **at)
        self.expect = scaled_init(0.1, operations.Linear(width, TONES + 1 + len(kinds), **at))

    def reset(self, generator: torch.Generator) -> None:
        """Not knowing anything yet, it goes nowhere."""
        self.doubt_everything()

    def doubt_everything(self) -> None:
        """Go nowhere, exactly."""
        with torch.no_grad():
            self.expect.weight[TONES].zero_()
            self.expect.bias[TONES] = 1e4

    def expected(self, appearance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`appearance` `B 60` of the damaged picture -> tones of the undamaged one `B 27`, the logarithm of their squared error to be expected
        `B 1`, and logits of what damages there are `B K`."""
        h = F.gelu(self.judge(F.gelu(self.think(F.gelu(self.look(appearance))))))
        moved, doubt, present = self.expect(h).split([TONES, 1, len(self.kinds)], dim=1)
        return appearance[:, :TONES] + STEP * moved, doubt - DOUBT, present

    def hazy(self, appearance: Tensor) -> Tensor:
        """`appearance` `B 60` of the damaged picture -> how likely there is haze, `B`, 0..1. Learns in its own stage only: no gradients."""
        with torch.no_grad():
            return self._probability(self.expected(appearance)[2], HAZE)[:, 0]

    def _probability(self, logits: Tensor, kind: str) -> Tensor:
        """`B K` -> `B 1`: 0 where the weights do not know the kind."""
        return (
            column(logits, self.kinds, kind).sigmoid()
            if kind in self.kinds
            else logits.new_zeros(len(logits), 1)
        )

    def forward(self, probabilities: Tensor, steering: Tensor, appearance: Tensor, now: Tensor) -> Tensor:
        """The curve `B 3 3` of `unsteered` times its share; fp32. Zero moves nothing. No gradients."""
        curve, wanted = self.unsteered(probabilities, steering, appearance, now)
        return curve * wanted[..., None]

    def unsteered(
        self, probabilities: Tensor, steering: Tensor, appearance: Tensor, now: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The curve `B 3 3` against haze and darkness, and the share `B 1`, 0..1, of it that is wanted.

        probabilities, steering: `B K`, 0..1, what the degradation head says there is, and what of it is to be
        removed. appearance: `B 60`, of the damaged picture. now: tones `B 27` of the repaired one. Returns
        fp32; zero moves nothing. The curve learns in its own stage only, so there are no gradients.

        How far it goes is Wiener's share, of what is off what no expected error explains, times how likely there is haze or darkness at all.
        The head says that best, but does not see darkness through noise; there the tones do. Haze is there only where both say so, as the tones
        take pale pictures for hazy ones and, sure that nothing was wrong, would put back the haze that the decoder has taken.
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
            # Where neither is likely the curve is zero, and still wanted in full.
            likely = likely + SMALLEST
            wished_away = [column(steering, self.kinds, kind) for kind in (HAZE, LOW_LIGHT)]
            removed = likely * torch.cat(wished_away, dim=1)
            wanted = removed.sum(dim=1, keepdim=True) / likely.sum(dim=1, keepdim=True)
            return curve_between(now, wished) * share[..., None], wanted.float()
