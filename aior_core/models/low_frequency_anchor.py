"""What the anchor of DAEM's output is made of: how far a degradation counts, and the low frequencies that it gives back."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .clipping import unclipped

NOISE, HAZE = 0, 5
ANCHOR_CELL = 8
ANCHOR_REACH = 3 * ANCHOR_CELL
"""The cell itself, its neighbours in the blur, and theirs in the interpolation."""
ANCHOR_GAIN = 10.0
"""Nine numbers that must find their place within a training of hundreds of steps: they learn ten times as fast as others."""
DOUBTED, BELIEVED = 0.5, 0.75
"""Validation pictures: 20 of 22 with haze are given 0.74 to 0.98; 20 of 22 clean ones 0 to 0.43, and two that are flat and grey 0.54."""
TWICE_DOUBTED, TWICE_BELIEVED = 0.6, 0.85
"""Of haze, where the tone curve's network is asked as well: of the mean of both answers. Validation pictures: blur +1.6 dB, clean +0.6, haze -0.2."""
CLEAR_DOUBTED, CLEAR_BELIEVED = 0.7, 0.9
"""Of haze that no noise hides, of the head's own answer: 20 of 22 such pictures are given 0.74 or more, 16 of them 0.84, and of 176 without haze or noise
none more than 0.7 (at half of their size one of 22 up to 0.8). With 0.8 and 0.95 in their place the
ninth weights lose 0.9 dB of haze, three pictures of 22 more than 4."""
NOISY_DOUBTED, NOISY_BELIEVED = 0.48, 0.6
"""The same under noise: of 44 such validation pictures with haze 37 are given 0.48 or more and 29 above 0.6, of 110 without seven and two."""
UNTOLD, TOLD = 0.08, 0.25
"""Belief in haze up to which nothing of it is told, and from which on all. Of validation pictures at 4 steps one that is pale gained 5 dB as it is (39.8 to
44.8), one 2.2 with noise 25, one 12 blurred (30.0 to 42.5); the mean of those with haze lost 0.03."""


UNTOUCHED, CHANGED = 0.1, 0.5
"""Certainty of a picture's surest degradation up to which the picture is left as it is, and from which on it is changed in full (it is "found" then).

Measured with the eleventh weights on 11 validation pictures: with any synthetic damage the surest is given 0.55 or more. Clean photographs of the tests are given
0.09 to 0.8, and the one that changed most (53 dB) 0.12."""


def ramp(x: Tensor, start: float, end: float) -> Tensor:
    """0 up to `start`, 1 from `end` on, a straight line between; any shape."""
    return ((x - start) / (end - start)).clamp(0, 1)


def confidence_gate(probabilities: Tensor, hazy: Tensor | None = None) -> Tensor:
    """How far a degradation counts that is there with `probabilities` (`B K`, 0..1): not at all below `DOUBTED`, fully from `BELIEVED` on.

    `hazy`: a second opinion on haze, `B`, which counts as much as the first, as far as `clearly_hazy` lets both count. A severity is a mean: a
    grey wall that is hazy with a chance of a third has a third of haze's, and lost its tones to that.
    """
    counted = ramp(probabilities, DOUBTED, BELIEVED)
    if hazy is not None:
        counted[:, HAZE] = ramp(
            (probabilities[:, HAZE] + hazy) / 2, TWICE_DOUBTED, TWICE_BELIEVED
        ) * clearly_hazy(probabilities)
    return counted


def share_changed(probabilities: Tensor) -> Tensor:
    """How much of the repair a picture gets, `B`, 0..1, by the certainties `B K` of its degradations: what has nothing wrong comes back as it was."""
    return ramp(probabilities.amax(dim=1), UNTOUCHED, CHANGED)


def gate_severity(severities: Tensor, probabilities: Tensor, hazy: Tensor) -> Tensor:
    """What denoiser and decoder are told of the severities `B K`: that of haze only where it is believed, see `confidence_gate`; `hazy` `B` is the second opinion."""
    changed = severities.clone()
    changed[:, HAZE] *= ramp(confidence_gate(probabilities, hazy)[:, HAZE], UNTOLD, TOLD)
    return changed


def clearly_hazy(probabilities: Tensor) -> Tensor:
    """How far haze may count at all, `B`, 0..1: only as far as the head is sure (`B K`), the more so where there is no noise to hide it."""
    noise, haze = probabilities[:, NOISE], probabilities[:, HAZE]
    return noise * ramp(haze, NOISY_DOUBTED, NOISY_BELIEVED) + (1 - noise) * ramp(
        haze, CLEAR_DOUBTED, CLEAR_BELIEVED
    )


def gate_probability(probabilities: Tensor) -> Tensor:
    """The same `B K` with that of haze as far as it may count, see `clearly_hazy`."""
    changed = probabilities.clone()
    changed[:, HAZE] *= clearly_hazy(probabilities)
    return changed


def low_frequency_correction(lq: Tensor, repaired: Tensor, sigma: Tensor) -> Tensor:
    """What brings the low frequencies of a repaired picture back to those of the damaged one, as they were before its noise was clipped.

    They are what varies over some 20 pixels and more. `B C H W` each, -1..1, sides multiples of 8, and `sigma` `B 1 1 1` of the noise in a picture
    of 0..1, 0 for none. Looks `ANCHOR_REACH` pixels far.
    """
    tones = (_coarse(lq).float() + 1) / 2
    taken = 2 * torch.where(sigma > 0, unclipped(tones, sigma) - tones, 0.0)
    return F.interpolate(
        _coarse(lq - repaired) + taken.to(lq), scale_factor=ANCHOR_CELL, mode="bilinear", align_corners=False
    )


def _coarse(x: Tensor) -> Tensor:
    """Means of cells, blurred, `B C H W` -> `B C H/8 W/8`."""
    coarse = F.avg_pool2d(x, ANCHOR_CELL)
    taps = torch.tensor([1.0, 2.0, 1.0], dtype=x.dtype, device=x.device) / 4
    # Every channel a picture of its own: the gradients of depth-wise convolutions are slow on some GPUs.
    padded = F.pad(coarse, (1, 1, 1, 1), mode="replicate").flatten(0, 1)[:, None]
    return F.conv2d(padded, torch.outer(taps, taps)[None, None]).reshape(coarse.shape)
