"""Numbers that were fitted to one generation of weights: confidence ramps, tone-curve shares, report
thresholds, memory.

Weights carry their calibration as JSON in their metadata (`weights.metadata`). The defaults are those of the
eleventh weights, which carry none. Unless a field says otherwise, its value was chosen on the 22 validation
pictures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Ramp:
    """A straight line from 0 at `start` to 1 at `end`, flat on either side; 0 <= start < end <= 1."""

    start: float
    end: float

    def __call__(self, x: Tensor) -> Tensor:
        """Values of any shape -> 0..1, same shape and dtype."""
        return ((x - self.start) / (self.end - self.start)).clamp(0, 1)


def _number(default: float, lowest: float, highest: float) -> float:
    """A field that holds one number in `lowest`..`highest`."""
    return field(default=default, metadata={"range": (lowest, highest)})


@dataclass(frozen=True)
class Calibration:
    """All fitted numbers of one set of weights. Raises ValueError for a value of another type or outside its
    range.
    """

    degradation_confidence: Ramp = Ramp(0.5, 0.75)
    """Probability of a degradation -> how far DAEM counts it. Of 22 hazy pictures, 20 have a probability of
    haze of 0.74 to 0.98. Of 22 clean ones, 20 have 0 to 0.43, and two flat grey ones have 0.54."""
    haze_agreement: Ramp = Ramp(0.6, 0.85)
    """Mean of the degradation head's and the tone curve's probability of haze -> how far haze counts. Against
    the head alone: blur +1.6 dB, clean +0.6 dB, haze -0.2 dB."""
    haze_confidence_without_noise: Ramp = Ramp(0.7, 0.9)
    """The head's probability of haze -> the most that haze may count in a picture without noise. Of 22 hazy
    pictures all but two have 0.74 or more and 16 have 0.84 or more; of 176 without haze or noise none has
    more than 0.7. With 0.8 and 0.95 the ninth weights lose 0.9 dB on haze."""
    haze_confidence_with_noise: Ramp = Ramp(0.48, 0.6)
    """The same in a noisy picture. Of 44 noisy pictures with haze, 37 have 0.48 or more and 29 have 0.6 or
    more; of 110 without haze, seven and two."""
    haze_severity: Ramp = Ramp(0.08, 0.25)
    """How far haze counts -> the factor on its severity that denoiser and decoder are given. At 4 steps a
    pale picture gains 5 dB (39.8 to 44.8), a blurred one 12 dB (30.0 to 42.5), and hazy pictures lose 0.03 dB
    in the mean."""
    picture_change: Ramp = Ramp(0.1, 0.5)
    """Probability of a picture's likeliest degradation -> the share of the repair that the picture gets. On
    11 pictures with any synthetic damage it is 0.55 or more. Clean photographs of the tests have 0.09 to 0.8;
    the one that changed most (53 dB) has 0.12."""
    noise_underestimate: float = _number(1.06, 0.5, 2.0)
    """The true sigma of clipped noise over the one that its estimated severity stands for: clipping takes
    spread away, so the head estimates too little. Sigma 50 gains 0.06 dB by it, sigma 25 0.003 dB."""
    tone_confidence: Ramp = Ramp(0.5, 0.7)
    """Probability of haze or low light -> how far the tone curve goes in a picture without noise. Below 0.5,
    pictures are more often pale by nature than hazy."""
    darkness_confidence_with_noise: Ramp = Ramp(0.93, 0.97)
    """The tone curve's own probability of low light -> how far the curve goes in a noisy picture. Of
    training's noisy pictures it takes 2 % that are dark by nature for darkened ones, and finds 7 in 10 of the
    darkened."""
    tone_share_without_noise: float = _number(0.5, 0.0, 1.0)
    """The most that the tone curve goes in a picture without noise, where the decoder judges tones about as
    well: low light has 23.8 dB with it, 22.7 and 22.6 dB for each judgement alone."""
    tone_error_margin: float = _number(1.0, 0.0, 10.0)
    """Natural logarithm of the ratio by which a tone error must be below the expected one to be left alone.
    The expected error is the typical one, not the mean, so errors count from 1/e of it on."""
    found_probability: float = _number(0.5, 0.0, 1.0)
    """The report says that a degradation is found from this probability on."""
    found_severity: float = _number(0.005, 0.0, 1.0)
    """And from this severity on: haze that does not count has severity 0, however high its probability is."""
    map_variation: float = _number(0.5, 0.0, 1.0)
    """The report names a place where the lowest ninth of a map is less than 1 minus this of the highest. It
    then names one for 5 of 160 degradations that cover the whole picture, and for 109 of 115 that cover a
    part."""
    receptive_field_share: float = _number(0.5, 0.05, 1.0)
    """How far the blocks of the compact networks look in effect, as a share of how far they could: halos of
    tiles follow it. Three test pictures in tiles of 128 to 200 pixels differ from the whole by at most 0.002
    of 255 at 0.6, 0.02 at 0.5 and 0.07 at 0.4."""
    values_per_channel: float = _number(10.0, 1.0, 1000.0)
    """Memory of the LQ encoder and the autoencoder at work: numbers held at a time per picture pixel and
    channel of their finest level. 8.2 measured, and a margin."""
    daem_memory: float = _number(0.5, 0.0, 100.0)
    """Memory of DAEM and its LQ features as a multiple of the plain decoder's. A third measured, and a
    margin."""
    denoiser_memory: float = _number(0.8, 0.01, 100.0)
    """ComfyUI's `memory_usage_factor` of the compact denoiser."""

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(each.default, Ramp):
                ends = (value.start, value.end) if isinstance(value, Ramp) else ()
                if not ends or not all(map(_is_number, ends)) or not 0.0 <= ends[0] < ends[1] <= 1.0:
                    raise ValueError(
                        f"the calibration {each.name} is {str(value)[:60]}; expected a Ramp with 0 <= start "
                        "< end <= 1"
                    )
            else:
                lowest, highest = each.metadata["range"]
                if not _is_number(value) or not lowest <= value <= highest:
                    raise ValueError(
                        f"the calibration {each.name} is {str(value)[:60]}; expected a number in "
                        f"{lowest:g}..{highest:g}"
                    )

    def to_json_dict(self) -> dict[str, float | list[float]]:
        """The values for JSON: a ramp is a list of its two ends."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {k: [v.start, v.end] if isinstance(v, Ramp) else v for k, v in values.items()}


def _is_number(value: Any) -> bool:
    # True and False are ints in Python. A JSON integer may have thousands of digits.
    return type(value) in (int, float) and abs(value) < 2**53 and math.isfinite(value)


DEFAULT = Calibration()
"""The calibration of weights that carry none: that of the eleventh."""
