"""Tone curves: how a camera maps linear light to display values, and the exact inverse.

The curve ``srgb`` is the standard's own (IEC 61966-2-1). The curve ``look`` is a family of our own with three
parameters. It first scales the odds ``x / (1 - x)`` of the light by ``shoulder``, which bends the highlights, then
applies ``gamma``, then raises the odds to ``contrast``, which makes an S about the middle. Every step keeps 0 and 1
and has a closed inverse. Least squares fits the 201 measured response curves of Columbia's DoRF (Grossberg and Nayar,
CVPR 2003) with a largest error of 0.009 in the median and 0.066 for the worst curve.
"""

import math

import torch

from ..draw import Draw
from .chance import normal

CURVES = ("srgb", "look")
SRGB = {"curve": "srgb"}
# Mean and standard deviation of the logarithms of the three parameters over the fitted curves, and the correlation
# of gamma and shoulder. Values beyond the range belong to slide film and to linear sensors.
_GAMMA = (0.0, 0.69, -1.5, 1.6)
_SHOULDER = (1.09, 1.06, -2.2, 4.0)
_CONTRAST = (0.09, 0.20, -0.26, 1.07)
_CORRELATION = -0.8


def draw_tone(draw: Draw, likely_srgb: float = 0.5) -> dict:
    """Draw a tone curve: sRGB with probability ``likely_srgb``, otherwise one that spreads as measured curves do."""
    if draw.uniform() < likely_srgb:
        return dict(SRGB)
    first, second, third = (normal(draw, reach=2.0) for _ in range(3))
    tilt = _CORRELATION * first + math.sqrt(1.0 - _CORRELATION**2) * second
    parts = {}
    for name, (mean, deviation, low, high), value in (
        ("gamma", _GAMMA, tilt), ("shoulder", _SHOULDER, first), ("contrast", _CONTRAST, third)
    ):  # fmt: skip
        parts[name] = round(math.exp(min(high, max(low, mean + deviation * value))), 6)
    return {"curve": "look", **parts}


def tone(light: torch.Tensor, params: dict) -> torch.Tensor:
    """Map linear light (any shape; clamped to 0..1) to display values in 0..1. Raises ValueError at an unknown curve."""
    light = light.clamp(0.0, 1.0)
    if _name(params) == "srgb":
        from kornia.color import linear_rgb_to_rgb

        return linear_rgb_to_rgb(light) if light.shape[-3] == 3 else _encode_srgb(light)
    gamma, shoulder, contrast = params["gamma"], params["shoulder"], params["contrast"]
    bent = light * shoulder / (1.0 + (shoulder - 1.0) * light)
    return _raise_odds(bent.pow(1.0 / gamma), contrast)


def untone(display: torch.Tensor, params: dict) -> torch.Tensor:
    """Map display values (any shape; clamped to 0..1) to linear light in 0..1; the inverse of `tone`."""
    display = display.clamp(0.0, 1.0)
    if _name(params) == "srgb":
        return torch.where(display > 0.04045, ((display + 0.055) / 1.055).pow(2.4), display / 12.92)
    gamma, shoulder, contrast = params["gamma"], params["shoulder"], params["contrast"]
    bent = _raise_odds(display, 1.0 / contrast).pow(gamma)
    return (bent / (shoulder - (shoulder - 1.0) * bent)).clamp_max(1.0)  # the last bit may round above 1


def slope(level: float, params: dict) -> float:
    """Slope of `tone` at the linear ``level``: how much the curve amplifies small differences of light."""
    step = 1e-3 * max(level, 1e-3)
    ends = torch.tensor([level - step, level + step], dtype=torch.float64)[:, None, None]
    low, high = tone(ends, params).flatten().tolist()
    return (high - low) / (2.0 * step)


def _name(params: dict) -> str:
    name = params["curve"]
    if name not in CURVES:
        raise ValueError(f"camera: unknown tone curve {name!r}; expected one of {', '.join(CURVES)}")
    return name


def _encode_srgb(light: torch.Tensor) -> torch.Tensor:
    return torch.where(light > 0.0031308, 1.055 * light.clamp_min(1e-9).pow(1.0 / 2.4) - 0.055, light * 12.92)


def _raise_odds(value: torch.Tensor, power: float) -> torch.Tensor:
    """Raise the odds of ``value`` in 0..1 to ``power`` without a division by zero at 0 and 1."""
    if power == 1.0:
        return value
    up, down = value.pow(power), (1.0 - value).clamp_min(0.0).pow(power)
    return up / (up + down)
