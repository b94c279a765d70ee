"""Rain as the published sets draw it.

In all of them rain is light that is added to a clean photograph, and severity is how much. At severity 1 the
layer has a root mean square of 47 of 255, as the rain of the kind has. Rain100H and the curtains of SIRR go
beyond it, as their sets do.
"""

from __future__ import annotations

import torch

from ..depth import SCENES, seen_depth
from ..draw import Draw
from ..fields import sides, stream
from .lens_drops import LENS_DROPS
from .rain_specks import STYLES as SPECKS
from .streaks import streaks
from .style import RMS, TINT, Style, color, grey, laid, lean, pair

RMS_CROSSING = 88.0
"""The same for Rain100H, whose pictures have 50 to 90."""
RMS_VEILED = 32.0
"""The same for the streaks of heavy rain, where the veil does the rest."""

_STREAKS = {
    "amount": (0.0, 1.0),
    "cover": (0.0, 3.0),
    "angles": (-90.0, 90.0, 1, 8),
    "spread": (0.0, 45.0),
    "length": (5.0, 400.0, 2, 2),
    "thick": (0.5, 20.0, 2, 2),
    "faint": (0.0, 1.0),
    "taper": (0.0, 0.5),
    "tint": TINT,
}


def _streak_layer(
    params: dict, generator: torch.Generator, height: int, width: int, rms: float
) -> torch.Tensor:
    """Return `H W` of separate streaks with the expected root mean square `amount * rms / 255`.

    A streak is at most white.
    """
    amount = params["amount"]
    layer = streaks(
        height,
        width,
        generator,
        cover=params["cover"] * amount,
        angles=list(params["angles"]),
        spread=params["spread"],
        length=sorted(params["length"]),
        thick=sorted(params["thick"]),
        faint=params["faint"],
        taper=params["taper"],
    )
    return (layer * (amount * rms / 255.0)).clamp(0.0, 1.0)


def _add_streaks(picture: torch.Tensor, params: dict, seed: int) -> torch.Tensor:
    return laid(picture, _streak_layer(params, stream(seed), *sides(picture), RMS), params)


def _add_crossing(picture: torch.Tensor, params: dict, seed: int) -> torch.Tensor:
    return laid(picture, _streak_layer(params, stream(seed), *sides(picture), RMS_CROSSING), params)


def _add_heavy(
    picture: torch.Tensor, params: dict, seed: int, depth: torch.Tensor | None = None
) -> torch.Tensor:
    """Draw streaks in front of the scene, and the veil of all rain farther away.

    The model is `T (J + S) + (1 - T) A` with `T = exp(-beta depth)`.
    """
    height, width = picture.shape[-2:]
    generator = stream(seed)
    depth = seen_depth(picture, generator, params["scene"], depth)
    transmission = torch.exp(-params["veil"] * params["amount"] * depth)
    rained = laid(picture, _streak_layer(params, generator, height, width, RMS_VEILED), params)
    return rained * transmission + color(params["light"], picture) * (1.0 - transmission)


def _draw_rain100l(draw: Draw, severity: float) -> dict:
    return {
        "amount": severity,
        "cover": draw.uniform(0.22, 0.5),
        "angles": [lean(draw, 40.0)],
        "spread": draw.uniform(0.5, 4.0),
        "length": pair(draw, (18.0, 45.0), (8.0, 40.0)),
        "thick": pair(draw, (1.2, 3.0), (0.5, 2.5)),
        "faint": draw.uniform(0.3, 0.8),
        "taper": draw.uniform(0.05, 0.3),
        "tint": grey(draw),
    }


def _draw_rain12(draw: Draw, severity: float) -> dict:
    return {
        "amount": severity,
        "cover": draw.uniform(0.6, 1.6),
        "angles": [lean(draw, 30.0)],
        "spread": draw.uniform(0.5, 3.0),
        "length": pair(draw, (12.0, 30.0), (5.0, 30.0)),
        "thick": pair(draw, (0.8, 1.6), (0.3, 1.2)),
        "faint": draw.uniform(0.1, 0.5),
        "taper": draw.uniform(0.3, 0.5),
        "tint": grey(draw),
    }


def _draw_rain100h(draw: Draw, severity: float) -> dict:
    main = lean(draw, 30.0)
    others = draw.index((0.15, 0.25, 0.25, 0.2, 0.15))
    crossing = [round(main + draw.choice((-1.0, 1.0)) * draw.uniform(12.0, 50.0), 3) for _ in range(others)]
    return {
        "amount": severity,
        "cover": draw.uniform(0.6, 1.8),
        "angles": [max(-80.0, min(80.0, angle)) for angle in (main, *crossing)],
        "spread": draw.uniform(0.5, 3.0),
        "length": pair(draw, (25.0, 60.0), (10.0, 60.0)),
        "thick": pair(draw, (1.2, 3.0), (0.8, 4.0)),
        "faint": draw.uniform(0.2, 0.6),
        "taper": draw.uniform(0.05, 0.3),
        "tint": grey(draw),
    }


def _draw_sirr_streaks(draw: Draw, severity: float) -> dict:
    return {
        **_draw_rain100l(draw, severity),
        "length": pair(draw, (16.0, 30.0), (8.0, 24.0)),
        "thick": pair(draw, (1.3, 2.6), (1.0, 2.6)),
        "faint": draw.uniform(0.15, 0.6),
        "tint": grey(draw, 0.12),
    }


def _draw_heavy(draw: Draw, severity: float) -> dict:
    return {
        **_draw_rain100l(draw, severity),
        "cover": draw.uniform(0.6, 2.5),
        "length": pair(draw, (15.0, 45.0), (5.0, 40.0)),
        "veil": draw.uniform(0.5, 2.0),
        "light": draw.light(0.55, 0.9, 0.03),
        "scene": draw.choice(("outdoor", "slope"), (0.75, 0.25)),
    }


STYLES = {
    "rain100l": Style(
        "rain",
        "Yang et al., Deep Joint Rain Detection and Removal, CVPR 2017: sharp streaks in one direction",
        _draw_rain100l,
        _add_streaks,
        _STREAKS,
        severities=(0.08, 0.55),
    ),
    "rain100h": Style(
        "rain",
        "Yang et al., CVPR 2017: the same in up to five directions that cross, dense and bright",
        _draw_rain100h,
        _add_crossing,
        _STREAKS,
        severities=(0.6, 1.0),
    ),
    "rain12": Style(
        "rain",
        "Li et al., Rain Streak Removal Using Layer Priors, CVPR 2016: thin streaks that fade",
        _draw_rain12,
        _add_streaks,
        _STREAKS,
        severities=(0.1, 0.6),
    ),
    "sirr_streaks": Style(
        "rain",
        "Wei et al., Semi-supervised Transfer Learning for Rain Removal, CVPR 2019: short thick streaks",
        _draw_sirr_streaks,
        _add_streaks,
        _STREAKS,
        severities=(0.1, 0.5),
    ),
    "heavy_rain": Style(
        "rain",
        "Li, Cheong and Tan, Heavy Rain Image Restoration, CVPR 2019: streaks and a veil by distance",
        _draw_heavy,
        _add_heavy,
        {**_STREAKS, "veil": (0.0, 10.0), "light": (0.0, 1.5, 3, 3)},
        {"scene": SCENES},
        (0.2, 1.0),
        takes_depth=True,
    ),
    **SPECKS,
    "lens_drops": LENS_DROPS,
}
