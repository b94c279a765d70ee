"""Snow as the published sets draw it: flakes of three sizes, still or in motion, and with a veil.

Severity is how much of the picture the flakes hide, as in the kind. At 1 the opacity has a root mean square
of 0.37.
"""

from __future__ import annotations

import math

import torch

from ..depth import SCENES, seen_depth
from ..draw import Draw
from ..fields import stream
from .streaks import line_blurred
from .style import Style, color

_SIZES = ((0.7, 1.5, 0.9), (1.5, 3.5, 1.6), (3.5, 10.0, 4.5))
"""Per size: the smallest and the largest radius, and the width of the soft edge, in pixels."""
_COVER, _OPACITY = 0.2, 0.9
"""Share of the picture that flakes cover, and their opacity, at severity 1 of a usual style."""
_CELLS = 4_000_000
"""Pixels of flakes that are drawn at once. It bounds the memory."""


def _flakes(
    height: int, width: int, generator: torch.Generator, cover: float, low: float, high: float, soft: float
):
    """Return the opacity `H W` of flakes with radii `low` to `high` pixels.

    They are ragged, and each has its own strength. Small ones outnumber large ones.
    """
    mean_square = low**2 + 2.0 * low * (high - low) / 3.0 + (high - low) ** 2 / 5.0
    reach = math.ceil(high * 1.3 + soft) + 1
    tall, wide = height + 2 * reach, width + 2 * reach
    count = round(cover * tall * wide / (math.pi * mean_square))
    axis = torch.arange(-reach, reach + 1)
    down, right = (part.reshape(1, -1) for part in torch.meshgrid(axis, axis, indexing="ij"))
    # Positions are split into whole pixels and the rest: fp32 cannot count the pixels of a large picture.
    canvas = torch.zeros(height * width)
    for part in torch.rand(count, 9, generator=generator).split(max(1, _CELLS // down.numel())):
        x, y, grow, bright, squeeze, turn, lobes, phase, ragged = part.t()[..., None]
        x, y = x.double() * wide - reach, y.double() * tall - reach
        column, row = x.round().long() + right, y.round().long() + down
        dx, dy = (column - x).float(), (row - y).float()
        radius = low + (high - low) * grow**2
        heading = turn * math.pi
        along = (dx * heading.sin() + dy * heading.cos()) / (1.0 + 0.35 * squeeze)
        across = dx * heading.cos() - dy * heading.sin()
        distance = (along.square() + across.square()).sqrt()
        if high > 1.5:
            around = torch.atan2(across, along)
            outline = 0.12 * torch.sin(around * (2.0 + (lobes * 2.0).floor()) + phase * 6.3)
            outline = outline + 0.08 * torch.sin(around * (5.0 + (phase * 4.0).floor()) + ragged * 6.3)
            distance = distance / (1.0 + outline)
        weight = ((radius - distance) / soft + 0.5).clamp(0.0, 1.0)
        weight = weight * weight * (3.0 - 2.0 * weight) * (0.3 + 0.7 * bright)
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height) & (weight > 0.0)
        canvas.index_add_(0, (row * width + column)[inside], weight[inside])
    return canvas.view(height, width)


def _opacity(params: dict, generator: torch.Generator, height: int, width: int) -> torch.Tensor:
    """Return `H W` in 0..0.97: what all flakes hide together."""
    amount, crowd = params["amount"], params["crowd"]
    total = sum(params["sizes"]) or 1.0
    # Many faint flakes hide as much as few opaque ones: the mean square of the opacity stays the same.
    strength = _OPACITY * math.sqrt(amount) / math.sqrt(crowd)
    clear = torch.ones(height, width)
    for (low, high, soft), share in zip(_SIZES, params["sizes"]):
        low, high = low * params["size"], high * params["size"]
        layer = _flakes(
            height,
            width,
            generator,
            _COVER * crowd * amount * share / total,
            low,
            high,
            soft * params["soft"],
        )
        # Near flakes are larger and cross more of the picture while the shutter is open.
        moved = line_blurred(layer, params["angle"], params["motion"] * (low + high) / 2.0)
        clear = clear * (1.0 - (moved * strength).clamp(0.0, 0.97))
    return 1.0 - clear


def _snow(picture: torch.Tensor, params: dict, seed: int) -> torch.Tensor:
    """Draw snow, `J (1 - z) + c z`, with a colour fringe where the lens has one (as in the model of
    Snow100K).
    """
    opacity = _opacity(params, stream(seed), *picture.shape[-2:]).to(picture)
    fringe = round(params["fringe"])
    channels = torch.stack((opacity.roll(fringe, -1), opacity, opacity.roll(-fringe, -1)))
    return picture + (color(params["light"], picture) - picture) * channels


def _veiled_snow(
    picture: torch.Tensor, params: dict, seed: int, depth: torch.Tensor | None = None
) -> torch.Tensor:
    """Draw snow through a veil, `K t + A (1 - t)`, that grows with distance."""
    depth = seen_depth(picture, stream(seed + 1), params["scene"], depth)
    transmission = torch.exp(-params["veil"] * params["amount"] * (0.3 + 0.7 * depth))
    return _snow(picture, params, seed) * transmission + color(params["air"], picture) * (1.0 - transmission)


_LIMITS = {
    "amount": (0.0, 1.0),
    "crowd": (0.1, 4.0),
    "sizes": (0.0, 1.0, 3, 3),
    "size": (0.5, 4.0),
    "soft": (0.3, 4.0),
    "angle": (-180.0, 180.0),
    "motion": (0.0, 20.0),
    "light": (0.0, 1.5, 3, 3),
    "fringe": (0.0, 8.0),
}


def _draw_snow100k(draw: Draw, severity: float) -> dict:
    # The three parts of the set: small flakes only, small and middle ones, all three.
    part = draw.index((1.0, 1.0, 1.0))
    sizes = [1.0, draw.uniform(0.3, 1.0) if part > 0 else 0.0, draw.uniform(0.3, 1.0) if part > 1 else 0.0]
    return {
        "amount": severity,
        "crowd": draw.uniform(0.5, 2.0),
        "sizes": sizes,
        "size": draw.uniform(0.7, 1.6),
        "soft": draw.uniform(0.6, 2.0),
        "angle": draw.uniform(-60.0, 60.0),
        "motion": draw.uniform(0.5, 4.0) if draw.uniform() < 0.5 else 0.0,
        "light": draw.light(0.88, 1.0, 0.02),
        "fringe": draw.choice((0.0, 1.0), (0.8, 0.2)),
    }


def _draw_csd(draw: Draw, severity: float) -> dict:
    return {
        **_draw_snow100k(draw, severity),
        "crowd": draw.uniform(0.4, 1.2),
        "motion": draw.uniform(0.5, 6.0) if draw.uniform() < 0.7 else 0.0,
        "veil": draw.uniform(0.25, 0.9),
        "air": draw.light(0.65, 0.95, 0.02),
        "scene": draw.choice(("outdoor", "slope"), (0.8, 0.2)),
    }


STYLES = {
    "snow100k": Style(
        "snow",
        "Liu et al., DesnowNet: Context-Aware Deep Network for Snow Removal, TIP 2018: three sizes",
        _draw_snow100k,
        _snow,
        _LIMITS,
        severities=(0.1, 0.8),
    ),
    "csd": Style(
        "snow",
        "Chen et al., ALL Snow Removed (HDCW-Net), ICCV 2021: flakes and streaks through a veil",
        _draw_csd,
        _veiled_snow,
        {**_LIMITS, "veil": (0.0, 10.0), "air": (0.0, 1.5, 3, 3)},
        {"scene": SCENES},
        (0.2, 1.0),
        takes_depth=True,
    ),
}
