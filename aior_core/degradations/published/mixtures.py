"""CDD-11: eleven mixtures of low light, haze, rain and snow (Guo et al., OneRestore, ECCV 2024).

Light is lost first, then rain or snow falls, then the haze comes: `I = (D(J) + rain) t + A (1 - t)`. Severity
scales all of them. At 1 the ranges are those of the paper: illumination to the power of 2 to 3, noise of 0.03
to 0.08, beta 1 to 2, airlight 0.6 to 0.9.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ..depth import SCENES, seen_depth
from ..draw import Draw
from ..fields import stream
from . import rain, snow
from .style import Style

MIXTURES = (
    "low",
    "haze",
    "rain",
    "snow",
    "low_haze",
    "low_rain",
    "low_snow",
    "haze_rain",
    "haze_snow",
    "low_haze_rain",
    "low_haze_snow",
)
_FARTHEST = 0.7
"""The paper cuts the depth off there, so that the sky keeps some of its own light."""
_WORST_STOPS, _WORST_BETA = 5.0, 1.3
"""Values at severity 1, as in the kinds."""
_RAIN, _SNOW = "rain_", "snow_"


def _illumination(picture: torch.Tensor) -> torch.Tensor:
    """Return `B 1 H W`: the brightest channel, smoothed except for large edges.

    This follows LIME (Guo, Li and Ling, TIP 2017).
    """
    brightest = picture.amax(1, keepdim=True)
    height, width = picture.shape[-2:]
    small = F.interpolate(brightest, size=(max(1, height // 8), max(1, width // 8)), mode="area")
    around = F.max_pool2d(small, 3, 1, 1)
    return F.interpolate(around, size=(height, width), mode="bilinear", align_corners=False).clamp(0.02, 1.0)


def _mixed(picture: torch.Tensor, params: dict, seed: int) -> torch.Tensor:
    parts = params["mixture"].split("_")
    height, width = picture.shape[-2:]
    generator = stream(seed)
    current = picture.float()
    if "low" in parts:
        dark = current * _illumination(current) ** (params["exponent"] - 1.0)
        noise = torch.randn(3, height, width, generator=generator).to(dark)
        current = (dark + noise * params["noise"]).clamp(0.0, 1.0)
    if "rain" in parts:
        current = rain.STYLES["rain100l"].damage(current, _part(params, _RAIN), seed).clamp(0.0, 1.0)
    if "snow" in parts:
        current = snow.STYLES["snow100k"].damage(current, _part(params, _SNOW), seed).clamp(0.0, 1.0)
    if "haze" in parts:
        depth = seen_depth(picture.float(), generator, params["scene"])
        transmission = torch.exp(-params["beta"] * depth.clamp_max(_FARTHEST))
        current = current * transmission + params["air"] * (1.0 - transmission)
    return current.to(picture.dtype)


def _part(params: dict, prefix: str) -> dict:
    """Return the parameters of a style of rain or snow, whose names come after a prefix."""
    return {name[len(prefix) :]: value for name, value in params.items() if name.startswith(prefix)}


def _labels(params: dict) -> dict:
    """Return the severities by kind.

    The illumination of mid-grey is about a half. It loses 2.2 stops for every unit of the exponent.
    """
    said = {}
    parts = params["mixture"].split("_")
    if "low" in parts:
        said["low_light"] = min(1.0, 2.2 * (params["exponent"] - 1.0) / _WORST_STOPS)
        said["noise"] = min(1.0, params["noise"] * 255.0 / 60.0)
    if "haze" in parts:
        said["haze"] = min(1.0, params["beta"] * _FARTHEST / _WORST_BETA)
    for kind in ("rain", "snow"):
        if kind in parts:
            said[kind] = params[f"{kind}_amount"]
    return {kind: round(severity, 6) for kind, severity in said.items() if severity > 0.0}


def _draw_cdd11(draw: Draw, severity: float) -> dict:
    fallen = {
        _RAIN + name: value for name, value in rain.STYLES["rain100l"].drawn(draw, 0.6 * severity).items()
    }
    fallen |= {
        _SNOW + name: value for name, value in snow.STYLES["snow100k"].drawn(draw, 0.6 * severity).items()
    }
    return {
        "mixture": draw.choice(MIXTURES),
        "exponent": round(1.0 + severity * draw.uniform(1.0, 2.0), 6),
        "noise": round(severity * draw.uniform(0.03, 0.08), 6),
        "beta": round(severity * draw.uniform(1.0, 2.0), 6),
        "air": draw.uniform(0.6, 0.9),
        "scene": draw.choice(("outdoor", "slope"), (0.75, 0.25)),
        **fallen,
    }


STYLES = {
    "cdd11": Style(
        "mixture",
        "Guo et al., OneRestore: A Universal Restoration Framework for Composite Degradation, ECCV 2024",
        _draw_cdd11,
        _mixed,
        {
            "exponent": (1.0, 6.0),
            "noise": (0.0, 1.0),
            "beta": (0.0, 20.0),
            "air": (0.0, 1.5),
            **{_RAIN + name: ends for name, ends in rain.STYLES["rain100l"].limits.items()},
            **{_SNOW + name: ends for name, ends in snow.STYLES["snow100k"].limits.items()},
        },
        {"mixture": MIXTURES, "scene": SCENES},
        (0.4, 1.0),
        said=_labels,
    ),
}
