"""Tone curves: how a camera maps linear light to display values, and the exact inverse.

The curve "srgb" is that of the standard (IEC 61966-2-1). The curve "camera" is the same with a shoulder and
an S. Cameras press shadows and highlights together, so their noise is strongest in the mid-tones: on pairs of
real files it is 0.57 of that near black and 0.5 of that near white. The curve "look" is a family of our own
with three parameters. It scales the odds `x / (1 - x)` of the light by `shoulder`, which bends the
highlights, then applies `gamma`, then raises the odds to `contrast`, which makes an S about the middle. Every
step keeps 0 and 1 and has a closed inverse. Fitted by least squares to the 201 measured response curves of
DoRF (Grossberg and Nayar, "What is the Space of Camera Response Functions?", CVPR 2003), it has a largest
error of 0.009 in the median and of 0.066 for the worst curve.
"""

import math

import torch

from ..draw import Draw
from ..light import decode, encode
from .chance import normal, require

CURVES = ("srgb", "camera", "look")
SRGB = {"curve": "srgb"}
# Mean and standard deviation of the logarithms of the three parameters over the fitted curves, their range,
# and the correlation of gamma and shoulder. Values beyond the range belong to slide film and to linear
# sensors.
_GAMMA = (0.0, 0.69, -1.5, 1.6)
_SHOULDER = (1.09, 1.06, -2.2, 4.0)
_CONTRAST = (0.09, 0.20, -0.26, 1.07)
_CORRELATION = -0.8


def draw_tone(draw: Draw, kind: str | None = None) -> dict:
    """Draw a tone curve of `kind` (None: mostly "camera").

    "look" spreads as measured curves of cameras and films do.
    """
    kind = kind or draw.choice(CURVES, (0.05, 0.75, 0.2))
    if kind == "srgb":
        return dict(SRGB)
    if kind == "camera":
        contrast = max(1.05, normal(draw, 2.1, 0.5, 2.0))
        # One curve in six presses shadows to black. Noise there is a third of what it is in the mid-tones.
        contrast += 3.0 * max(0.0, contrast - 2.6)
        # Cameras keep two to five stops above mid-grey for highlights and bend them to white.
        return {
            "curve": "camera",
            "shoulder": round(math.exp(normal(draw, 1.2, 0.8, 2.0)), 6),
            "contrast": round(contrast, 6),
        }
    first, second, third = (normal(draw, reach=2.0) for _ in range(3))
    tilt = _CORRELATION * first + math.sqrt(1.0 - _CORRELATION**2) * second
    parts = {}
    for name, (mean, deviation, low, high), value in (
        ("gamma", _GAMMA, tilt), ("shoulder", _SHOULDER, first), ("contrast", _CONTRAST, third)
    ):  # fmt: skip
        parts[name] = round(math.exp(min(high, max(low, mean + deviation * value))), 6)
    return {"curve": "look", **parts}


def tone(light: torch.Tensor, params: dict) -> torch.Tensor:
    """Map linear light (`B 3 H W`; clamped to 0..1) to display values in 0..1.

    Raises ValueError for an unknown curve.
    """
    light = light.clamp(0.0, 1.0)
    if _name(params) == "srgb":
        return encode(light)
    shoulder, contrast = params["shoulder"], params["contrast"]
    bent = light * shoulder / (1.0 + (shoulder - 1.0) * light)
    lifted = encode(bent) if params["curve"] == "camera" else bent.pow(1.0 / params["gamma"])
    return _raise_odds(lifted, contrast)


def untone(display: torch.Tensor, params: dict) -> torch.Tensor:
    """Map display values (`B 3 H W`; clamped to 0..1) to linear light in 0..1. The inverse of `tone`."""
    display = display.clamp(0.0, 1.0)
    if _name(params) == "srgb":
        return decode(display)
    shoulder, lifted = params["shoulder"], _raise_odds(display, 1.0 / params["contrast"])
    bent = decode(lifted) if params["curve"] == "camera" else lifted.pow(params["gamma"])
    return (bent / (shoulder - (shoulder - 1.0) * bent)).clamp_max(1.0)  # the last bit may round above 1


def slopes(levels: list, params: dict) -> list:
    """Return the slope of `tone` at each linear level in 0..1: how much it amplifies small differences of
    light.
    """
    middle = torch.tensor(levels, dtype=torch.float64)
    step = (0.02 * middle).clamp_min(5e-5)
    ends = torch.stack((middle - step, middle + step)).clamp(0.0, 1.0)
    values = tone(ends[None, None].expand(1, 3, *ends.shape), params)[0, 0]
    return ((values[1] - values[0]) / (ends[1] - ends[0])).tolist()


def _name(params: dict) -> str:
    name = params["curve"]
    if name not in CURVES:
        raise ValueError(f"camera: unknown tone curve {name!r}; expected one of {', '.join(CURVES)}")
    if name != "srgb":
        require("a tone curve", params, shoulder=(0.05, 100), contrast=(0.2, 5))
    if name == "look":
        require("a tone curve", params, gamma=(0.1, 10))
    return name


def _raise_odds(value: torch.Tensor, power: float) -> torch.Tensor:
    """Raise the odds of `value` in 0..1 to `power` without a division by zero at 0 and 1."""
    if power == 1.0:
        return value
    up, down = value.pow(power), (1.0 - value).clamp_min(0.0).pow(power)
    return up / (up + down)
