"""Drops of rain, out of focus, on the lens or on a window in front of it."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from ..draw import Draw
from ..fields import stream
from .style import Style

_COVER = 0.5
"""Share of the picture that drops may cover at severity 1, before they overlap."""


def _stamps(params: dict, seed: int, height: int, width: int):
    """Return one row per drop: x, y, radius, stretch, lean, strength, wobble."""
    low, high = sorted(params["radius"])
    # Mean square of a radius whose small values outnumber the large ones.
    mean_square = low**2 + 2.0 * low * (high - low) / 3.0 + (high - low) ** 2 / 5.0
    count = round(_COVER * params["amount"] * height * width / (math.pi * mean_square))
    drawn = torch.rand(count, 7, generator=stream(seed))
    radius = low + (high - low) * drawn[:, 2] ** 2
    return torch.stack(
        (
            drawn[:, 0] * width,
            drawn[:, 1] * height,
            radius,
            1.0 + 0.35 * drawn[:, 3],
            (drawn[:, 4] - 0.5) * 0.6,
            0.5 + 0.5 * drawn[:, 5],
            drawn[:, 6],
        ),
        1,
    )


def _fields(params: dict, seed: int, height: int, width: int) -> tuple:
    """Return `(cover, x, y, light)`, each `H W`.

    They are the opacity in 0..1, where a pixel in a drop looks, and how much brighter the drop is there.
    """
    cover, light = torch.zeros(height, width), torch.zeros(height, width)
    look_x = torch.arange(width, dtype=torch.float32).expand(height, width).clone()
    look_y = torch.arange(height, dtype=torch.float32)[:, None].expand(height, width).clone()
    soft = params["soft"]
    for x, y, radius, stretch, lean, strength, wobble in _stamps(params, seed, height, width).tolist():
        reach = math.ceil(radius * stretch * (1.0 + soft)) + 2
        top, bottom = max(0, int(y) - reach), min(height, int(y) + reach + 1)
        left, right = max(0, int(x) - reach), min(width, int(x) + reach + 1)
        if top >= bottom or left >= right:
            continue
        dy = torch.arange(top, bottom, dtype=torch.float32)[:, None] - y
        dx = torch.arange(left, right, dtype=torch.float32)[None] - x
        along = (dy * math.cos(lean) + dx * math.sin(lean)) / stretch
        across = dx * math.cos(lean) - dy * math.sin(lean)
        # Drops are rounder at the bottom, and none is a perfect ellipse.
        turn = torch.atan2(across, along)
        outline = radius * (
            1.0 + 0.08 * torch.sin(2.0 * turn + 6.3 * wobble) + 0.05 * torch.sin(3.0 * turn + 9.7 * wobble)
        )
        distance = (along.square() + across.square()).sqrt() / outline
        inside = ((1.0 + soft / 2.0 - distance) / max(soft, 0.02)).clamp(0.0, 1.0)
        inside = inside * inside * (3.0 - 2.0 * inside) * strength
        window = (slice(top, bottom), slice(left, right))
        nearer = inside > cover[window]
        cover[window] = 1.0 - (1.0 - cover[window]) * (1.0 - inside)
        # A drop is a wide-angle lens: it shows a larger part of the scene, upside down and mirrored.
        wide = params["wide"]
        look_x[window] = torch.where(nearer, x - dx * wide, look_x[window])
        look_y[window] = torch.where(nearer, y - dy * wide, look_y[window])
        shade = 0.5 + along / radius * 0.7  # the sky, upside down, is at the bottom
        light[window] = torch.where(nearer, shade.clamp(-0.3, 1.0), light[window])
    return cover, look_x, look_y, light


def _through_drops(picture: torch.Tensor, params: dict, seed: int) -> torch.Tensor:
    height, width = picture.shape[-2:]
    cover, x, y, light = _fields(params, seed, height, width)
    grid = torch.stack(((x + 0.5) * 2.0 / width - 1.0, (y + 0.5) * 2.0 / height - 1.0), -1)
    # The view through a drop is far out of focus, so a small copy of the picture is enough for it.
    small = (max(2, round(height / params["blur"])), max(2, round(width / params["blur"])))
    far = F.interpolate(picture.float(), size=small, mode="bilinear", antialias=True, align_corners=False)
    seen = F.grid_sample(
        far,
        grid.to(far).expand(picture.shape[0], -1, -1, -1),
        mode="bilinear",
        padding_mode="reflection",
        align_corners=False,
    )
    seen = seen + light.to(far) * params["light"] * (1.0 - seen)
    return torch.lerp(picture, seen.to(picture), cover.to(picture).expand_as(picture))


def _draw_lens_drops(draw: Draw, severity: float) -> dict:
    low = draw.uniform(3.0, 10.0)
    return {
        "amount": severity,
        "radius": [low, round(low + draw.uniform(4.0, 26.0), 6)],
        "soft": draw.uniform(0.2, 1.0),
        "blur": draw.uniform(5.0, 16.0),
        "wide": draw.uniform(1.5, 6.0),
        "light": draw.uniform(0.0, 0.35),
    }


def _where(params: dict, seed: int, height: int, width: int) -> torch.Tensor:
    return _fields(params, seed, height, width)[0]


LENS_DROPS = Style(
    "rain",
    "Qian et al., Attentive GAN for Raindrop Removal, CVPR 2018: drops on glass, out of focus",
    _draw_lens_drops,
    _through_drops,
    {
        "amount": (0.0, 1.0),
        "radius": (3.0, 200.0, 2, 2),
        "soft": (0.0, 2.0),
        "blur": (1.0, 64.0),
        "wide": (0.0, 20.0),
        "light": (0.0, 1.0),
    },
    severities=(0.15, 1.0),
    where=_where,
)
