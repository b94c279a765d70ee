"""How far an estimated degradation counts: gates on severities and probabilities (ours, not the paper's;
docs/method.md, section 7).

A severity is a mean over what is possible: a grey wall that is hazy with a probability of a third has a third
of haze's severity. Repairing it by a third would take its tones away, so what is unlikely does not count.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .calibration import Calibration

NOISE, HAZE, LOW_LIGHT = "noise", "haze", "low_light"
"""The kinds of degradation whose meaning the networks know. Weights that lack one of them work without its
gate."""


def column(rows: Tensor, kinds: tuple[str, ...], kind: str) -> Tensor:
    """The column of `kind` in `rows` `B K`, as `B 1`; zeros where `kinds` lacks it."""
    if kind not in kinds:
        return rows.new_zeros(len(rows), 1)
    index = kinds.index(kind)
    return rows[:, index : index + 1]


@dataclass(frozen=True)
class ConfidenceGates:
    """The gates of one set of weights. kinds: the names of the columns of every `B K`."""

    kinds: tuple[str, ...]
    calibration: Calibration

    def __call__(self, probabilities: Tensor, hazy: Tensor | None = None) -> Tensor:
        """How far each degradation counts, `B K` in 0..1.

        probabilities: the degradation head's, `B K` in 0..1. hazy: the tone curve's probability of haze, `B`
        in 0..1. Where it is given, haze counts by the mean of both, and at most as far as `haze_limit` says.
        """
        counted = self.calibration.degradation_confidence(probabilities)
        if hazy is not None and HAZE in self.kinds:
            haze = self.kinds.index(HAZE)
            agreed = self.calibration.haze_agreement((probabilities[:, haze] + hazy) / 2)
            counted[:, haze] = agreed * self.haze_limit(probabilities)
        return counted

    def haze_limit(self, probabilities: Tensor) -> Tensor:
        """The most that haze may count, `B` in 0..1: as far as the head is sure of it. Noise hides haze, so
        that less will do.

        probabilities: the degradation head's, `B K` in 0..1.
        """
        noise, haze = (column(probabilities, self.kinds, kind)[:, 0] for kind in (NOISE, HAZE))
        noisy, clear = (
            self.calibration.haze_confidence_with_noise,
            self.calibration.haze_confidence_without_noise,
        )
        return noise * noisy(haze) + (1 - noise) * clear(haze)

    def gate_severity(self, severities: Tensor, probabilities: Tensor, hazy: Tensor) -> Tensor:
        """The severities that denoiser and decoder are given, `B K`: haze that does not count is left out.

        severities, probabilities: the degradation head's, `B K` in 0..1. hazy: the tone curve's probability
        of haze, `B`.
        """
        gated = severities.clone()
        if HAZE in self.kinds:
            haze = self.kinds.index(HAZE)
            gated[:, haze] *= self.calibration.haze_severity(self(probabilities, hazy)[:, haze])
        return gated

    def gate_probability(self, probabilities: Tensor) -> Tensor:
        """The probabilities `B K` that the tone curve is given: that of haze times `haze_limit`."""
        gated = probabilities.clone()
        if HAZE in self.kinds:
            gated[:, self.kinds.index(HAZE)] *= self.haze_limit(probabilities)
        return gated

    def picture_change(self, probabilities: Tensor) -> Tensor:
        """The share of the repair that each picture gets, `B` in 0..1: none where nothing is found
        (`probabilities` `B K`).
        """
        return self.calibration.picture_change(probabilities.amax(dim=1))


def require_kinds(kinds: tuple[str, ...], count: int) -> None:
    """Raise ValueError unless `kinds` names `count` degradations, each once."""
    if len(kinds) != count or len(set(kinds)) != count:
        raise ValueError(
            f"{count} degradations are named {', '.join(kinds) or 'nothing'}; expected {count} different "
            "names"
        )
