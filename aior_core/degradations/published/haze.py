"""Haze as the published sets make it, `I = J t + A (1 - t)` with `t = exp(-beta d)` (Koschmieder), and as a
haze machine makes it.

The depth is a geometry, see `degradations/depth.py`. The severity that is drawn is the optical thickness at
the farthest place, `beta / 1.3` as in the kind, up to 0.7. From there it climbs to a thickness of 2.8 at 1,
where 6 % of the light of far things is left.
"""

from __future__ import annotations

import torch

from ..depth import NEAREST, SCENES, follow_edges, invented_depth
from ..draw import Draw
from ..fields import fractal_noise, plane, stream
from .style import Style, color

_KNEE, _KNEE_BETA, _MOST_BETA = 0.7, 0.91, 2.8


def beta_of(severity: float) -> float:
    """Return the optical thickness of the farthest place at `severity` in 0..1."""
    if severity <= _KNEE:
        return round(severity * _KNEE_BETA / _KNEE, 6)
    return round(_KNEE_BETA + (severity - _KNEE) / (1.0 - _KNEE) * (_MOST_BETA - _KNEE_BETA), 6)


def severity_of(beta: float) -> float:
    """Return the severity in 0..1 that a thickness stands for; beyond 2.8 it is 1."""
    if beta <= _KNEE_BETA:
        return max(0.0, beta) * _KNEE / _KNEE_BETA
    return min(1.0, _KNEE + (beta - _KNEE_BETA) / (_MOST_BETA - _KNEE_BETA) * (1.0 - _KNEE))


_LIMITS = {
    "beta": (0.0, 20.0),
    "light": (0.0, 1.5, 3, 3),
    "near": (0.0, 1.0),
    "patches": (0.0, 1.0),
    "uneven": (0.0, 1.0),
    "angle": (-360.0, 360.0),
    "follow": (0.0, 1.0),
}
_USUAL = 0.42
"""Mean display value of a usual photograph."""
_CHOICES = {"scene": SCENES}


def _fields(params: dict, seed: int, height: int, width: int) -> tuple:
    """Return `(depth, density, airlight)`, each `H W`.

    The depth is in 0..1, the density is 1 on average, and the airlight is relative to that of the parameters.
    """
    generator = stream(seed)
    depth = invented_depth(height, width, generator, params["scene"])
    clouds = fractal_noise(height, width, generator, octaves=3, cells=2)
    density = 1.0 + params["patches"] * (clouds - clouds.mean()) * 2.0
    airlight = 1.0 + params["uneven"] * (plane(height, width, params["angle"]) - 0.5)
    return depth, density.clamp_min(0.05), airlight


def _add_haze(
    picture: torch.Tensor, params: dict, seed: int, depth: torch.Tensor | None = None
) -> torch.Tensor:
    invented, density, airlight = _fields(params, seed, *picture.shape[-2:])
    depth = follow_edges(invented[None, None], picture) if depth is None else depth.to(picture)
    depth = depth.clamp(NEAREST, 1.0)
    reach = params["near"] + (1.0 - params["near"]) * depth
    transmission = torch.exp(-params["beta"] * reach * density.to(picture))
    # Haze scatters the light that the scene has, so the haze of a dark room is dark.
    level = picture.mean((1, 2, 3), keepdim=True) / _USUAL
    light = color(params["light"], picture) * airlight.to(picture)
    light = light * (1.0 + params["follow"] * (level - 1.0)).clamp(0.0, 1.0 / max(max(params["light"]), 1e-3))
    return picture * transmission + light * (1.0 - transmission)


def _where(params: dict, seed: int, height: int, width: int) -> torch.Tensor:
    depth, density, _ = _fields(params, seed, height, width)
    thickness = (params["near"] + (1.0 - params["near"]) * depth) * density
    return thickness / thickness.max()


def _draw_indoor(draw: Draw, severity: float) -> dict:
    return {
        "beta": beta_of(severity),
        "light": draw.light(0.7, 1.0, 0.0),
        "near": draw.uniform(0.2, 0.6),
        "patches": 0.0,
        "uneven": 0.0,
        "angle": 0.0,
        "follow": 0.0,
        "scene": draw.choice(("indoor", "slope"), (0.8, 0.2)),
    }


def _draw_outdoor(draw: Draw, severity: float) -> dict:
    return {
        **_draw_indoor(draw, severity),
        "light": draw.light(0.8, 1.0, 0.0),
        "near": draw.uniform(0.05, 0.35),
        "scene": draw.choice(("outdoor", "slope"), (0.85, 0.15)),
    }


def _draw_machine(draw: Draw, severity: float) -> dict:
    # From a dim lamp's 90 to a window's 240 of 255, a little blue or yellow.
    level, lean = draw.uniform(0.4, 0.95), draw.uniform(-1.0, 1.0) * draw.uniform() * 0.3
    # Fresh vapour hangs in patches and leaves near things clear.
    fresh = draw.uniform() < 0.15
    return {
        "beta": beta_of(severity),
        "light": [round(level * (1.0 - lean), 6), level, round(level * (1.0 + lean), 6)],
        "near": 0.0 if fresh else draw.uniform(0.0, 0.8),
        "patches": draw.uniform(0.6, 1.0) if fresh else draw.uniform(0.0, 0.6),
        "uneven": draw.uniform(0.0, 0.5),
        "angle": draw.uniform(0.0, 360.0),
        # In one scene of three a lamp of its own lights the haze, however dark the things in it are.
        "follow": 0.0 if draw.uniform() < 0.33 else draw.uniform(0.0, 1.0),
        "scene": draw.choice(("indoor", "slope"), (0.6, 0.4)),
    }


STYLES = {
    "indoor_haze": Style(
        "haze",
        "Li et al., Benchmarking Single-Image Dehazing (RESIDE), TIP 2019: ITS, airlight 0.7 to 1",
        _draw_indoor,
        _add_haze,
        _LIMITS,
        _CHOICES,
        (0.3, 0.9),
        _where,
        takes_depth=True,
    ),
    "outdoor_haze": Style(
        "haze",
        "Li et al., RESIDE, TIP 2019: OTS, airlight 0.8 to 1, a tenth to nine tenths of light left",
        _draw_outdoor,
        _add_haze,
        _LIMITS,
        _CHOICES,
        (0.1, 0.95),
        _where,
        takes_depth=True,
    ),
    "machine_haze": Style(
        "haze",
        "Ancuti et al., I-HAZE, ACIVS 2018, and NH-HAZE, CVPRW 2020: vapour in patches, in a room's light",
        _draw_machine,
        _add_haze,
        _LIMITS,
        _CHOICES,
        (0.45, 1.0),
        _where,
        takes_depth=True,
    ),
}
