"""Exposure: stops of light that are missing, while lamps in the picture go on shining."""

import math

import torch

from ..draw import Draw
from .chance import normal

NO_EXPOSURE = {"stops": 0.0, "lamps": [], "vignette": 0.0}
MOST_STOPS = 16.0


def draw_exposure(draw: Draw, stops: float | None = None) -> dict:
    """Draw an exposure that lacks `stops` (None: 0.3 to 8, evenly).

    One exposure in four has one to four lamps.
    """
    stops = draw.uniform(0.3, 8.0) if stops is None else stops
    lamps = (
        [_draw_lamp(draw, stops) for _ in range(draw.choice((1, 2, 3, 4)))] if draw.uniform() < 0.25 else []
    )
    return {
        "stops": stops,
        "lamps": lamps,
        "vignette": draw.uniform(0.2, 1.5) if draw.uniform() < 0.25 else 0.0,
    }


def apply_exposure(light: torch.Tensor, params: dict, seed: int = 0) -> torch.Tensor:
    """Darken linear `light` (`B 3 H W`) by `2^-stops`, more in the corners and less near lamps.

    Nothing is random, so `seed` is unused. Raises ValueError unless the stops are a number in 0..16.
    """
    stops = params["stops"]
    if not (math.isfinite(stops) and 0.0 <= stops <= MOST_STOPS):
        raise ValueError(f"camera: exposure lacks {stops} stops; expected a number in 0..{MOST_STOPS:g}")
    if stops == 0.0 and params["vignette"] == 0.0:
        return light
    return light * illumination(params, *light.shape[-2:]).to(light)


def illumination(params: dict, height: int, width: int) -> torch.Tensor:
    """Return `1 3 H W`: the share of light that is left at each place, in 0..1.

    The light of the room is left everywhere. Each lamp adds its own, which falls with the square of the
    distance. The lens takes some in the corners (cos^4 law, given as stops in the farthest corner).
    """
    rows = torch.linspace(-0.5, 0.5, height)[:, None] * (height / max(height, width))
    columns = torch.linspace(-0.5, 0.5, width)[None] * (width / max(height, width))
    share = torch.full((1, 3, height, width), 2.0 ** -params["stops"])
    for lamp in params["lamps"]:
        x, y = (
            (place - 0.5) * side / max(height, width) for place, side in zip(lamp["place"], (width, height))
        )
        square = ((columns - x) ** 2 + (rows - y) ** 2) / lamp["reach"] ** 2
        color = torch.tensor(lamp["color"]).view(1, 3, 1, 1)
        share = share + color * (lamp["strength"] / (1.0 + square) ** 2)
    if params["vignette"] > 0.0:
        corner = (height**2 + width**2) / (4.0 * max(height, width) ** 2)
        widening = 2.0 ** (params["vignette"] / 2.0) - 1.0
        share = share / (1.0 + widening * (columns**2 + rows**2) / corner) ** 2
    return share.clamp(0.0, 1.0)


def missing_stops(params: dict, height: int, width: int) -> torch.Tensor:
    """Return `H W`: the stops of green that are missing at each place.

    This is the truth for a map of low light, and its mean is the label.
    """
    return -torch.log2(illumination(params, height, width)[0, 1].clamp_min(2.0**-24))


def _draw_lamp(draw: Draw, stops: float) -> dict:
    warm = draw.uniform()
    color = (
        [1.0, round(0.95 - 0.3 * warm, 6), round(0.9 - 0.6 * warm, 6)]
        if draw.uniform() < 0.8
        else [0.75, 0.9, 1.0]
    )
    strength = round(min(1.0, 2.0 ** -max(0.0, stops - abs(normal(draw, 0.0, 2.5)) - 1.0)), 6)
    return {
        "place": [draw.uniform(0.0, 1.0), draw.uniform(0.0, 0.8)],
        "reach": draw.uniform(0.08, 0.4),
        "strength": strength,
        "color": color,
    }
