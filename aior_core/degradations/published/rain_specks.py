"""Rain made of a texture: specks of noise, blurred along a line, as in an image editor.

Rain800, Rain1400 and parts of SIRR are made in this way.
"""

from __future__ import annotations

import torch

from ..draw import Draw
from ..fields import smooth_field, stream
from .streaks import blurred_specks
from .style import RMS, TINT, Style, grey, laid, lean

RMS_CURTAIN = 62.0
"""Root mean square of the curtains of SIRR at severity 1, of 255. The set has 28 to 60."""

BLENDS = ("add", "screen")
_SPECKS = {
    "amount": (0.0, 1.0),
    "angle": (-90.0, 90.0),
    "length": (1.0, 400.0),
    "grain": (0.3, 20.0),
    "sparse": (0.0, 0.999),
    "tint": TINT,
}


_LEVELS = {**_SPECKS, "black": (-3.0, 6.0), "white": (-3.0, 12.0)}
_CURTAIN = {**_SPECKS, "skew": (0.0, 1.5), "drift": (0.0, 2.0)}


def _field(params: dict, generator: torch.Generator, height: int, width: int) -> torch.Tensor:
    shape = {name: params[name] for name in ("grain", "angle", "length", "sparse")}
    return blurred_specks(height, width, generator, **shape)


def _add_levels(picture: torch.Tensor, params: dict, seed: int) -> torch.Tensor:
    """Add blurred specks between two levels, as an editor's Levels does.

    They are black below `black` and white at `white` standard deviations.
    """
    height, width = picture.shape[-2:]
    field = _field(params, stream(seed), height, width)
    layer = ((field - params["black"]) / max(params["white"] - params["black"], 0.05)).clamp(0.0, 1.0)
    # Almost nothing may be left between the levels. That is not made bright.
    layer = layer / layer.square().mean().sqrt().clamp_min(0.02)
    return laid(picture, layer * (params["amount"] * RMS / 255.0), params)


def _add_curtain(picture: torch.Tensor, params: dict, seed: int) -> torch.Tensor:
    """Add blurred specks as a curtain with light everywhere.

    `skew` makes few streaks stand out, and `drift` changes the light across the picture.
    """
    return _lay_curtain(picture, params, seed, RMS_CURTAIN)


def _add_drops(picture: torch.Tensor, params: dict, seed: int) -> torch.Tensor:
    return _lay_curtain(picture, params, seed, RMS)


def _lay_curtain(picture: torch.Tensor, params: dict, seed: int, rms: float) -> torch.Tensor:
    layer = _curtain(params, stream(seed), *picture.shape[-2:])
    return laid(picture, (layer * (params["amount"] * rms / 255.0)).clamp(0.0, 1.0), params)


def _curtain(params: dict, generator: torch.Generator, height: int, width: int) -> torch.Tensor:
    drift = _drift(params, generator, height, width)
    field = _field(params, generator, height, width)
    layer = torch.exp(params["skew"] * field.clamp(-4.0, 4.0)) * drift
    return layer / layer.square().mean().sqrt().clamp_min(1e-6)


def _drift(params: dict, generator: torch.Generator, height: int, width: int) -> torch.Tensor:
    """Return `H W`, 1 on average: broad changes of the rain's brightness, mostly from left to right."""
    across = smooth_field(1, width, generator, 2).expand(height, width)
    anywhere = smooth_field(height, width, generator, 2)
    return (1.0 + params["drift"] * (1.4 * across + 0.6 * anywhere - 1.0)).clamp_min(0.05)


def _where_curtain(params: dict, seed: int, height: int, width: int) -> torch.Tensor:
    drift = _drift(params, stream(seed), height, width)
    return drift / drift.max()


def _draw_levels(draw: Draw, severity: float, length: tuple, grain: tuple, black: tuple) -> dict:
    dark = draw.uniform(*black)
    return {
        "amount": severity,
        "angle": lean(draw, 60.0),
        "length": draw.uniform(*length),
        "grain": draw.uniform(*grain),
        "sparse": draw.uniform(0.0, 0.9),
        "black": dark,
        "white": round(dark + draw.uniform(1.0, 3.0), 6),
        "blend": draw.choice(BLENDS, (0.2, 0.8)),
        "tint": grey(draw, 0.06),
    }


def _draw_curtain(draw: Draw, severity: float) -> dict:
    return {
        "amount": severity,
        "angle": lean(draw, 15.0),
        "length": draw.uniform(14.0, 110.0),
        "grain": draw.uniform(1.0, 5.0),
        "sparse": draw.uniform(0.0, 0.8),
        "skew": draw.uniform(0.2, 0.7),
        "drift": draw.uniform(0.0, 1.3),
        "tint": grey(draw, 0.1),
    }


def _draw_drops(draw: Draw, severity: float) -> dict:
    return {
        "amount": severity,
        "angle": lean(draw, 20.0),
        "length": draw.uniform(7.0, 15.0),
        "grain": draw.uniform(1.6, 4.0),
        "sparse": draw.uniform(0.0, 0.85),
        "skew": draw.uniform(0.4, 0.75),
        "drift": draw.uniform(0.0, 0.1),
        "tint": grey(draw, 0.24),
    }


STYLES = {
    "rain800": Style(
        "rain",
        "Zhang, Sindagi and Patel, Image De-raining Using a Conditional GAN, TCSVT 2020: by an editor",
        lambda draw, severity: _draw_levels(draw, severity, (12.0, 60.0), (1.2, 3.0), (0.3, 1.6)),
        _add_levels,
        _LEVELS,
        {"blend": BLENDS},
        (0.15, 1.0),
    ),
    "rain1400": Style(
        "rain",
        "Fu et al., Removing Rain via a Deep Detail Network, CVPR 2017: by an editor, coarser, screened",
        lambda draw, severity: (
            _draw_levels(draw, severity, (20.0, 90.0), (2.0, 5.0), (-0.3, 1.0)) | {"blend": "screen"}
        ),
        _add_levels,
        _LEVELS,
        {"blend": BLENDS},
        (0.15, 1.0),
    ),
    "sirr_curtain": Style(
        "rain",
        "Wei et al., CVPR 2019: long soft streaks over the whole picture, brighter on one side",
        _draw_curtain,
        _add_curtain,
        _CURTAIN,
        severities=(0.3, 1.0),
        where=_where_curtain,
    ),
    "sirr_drops": Style(
        "rain",
        "Wei et al., CVPR 2019: dense short drops, a little blue",
        _draw_drops,
        _add_drops,
        _CURTAIN,
        severities=(0.2, 0.6),
    ),
}
