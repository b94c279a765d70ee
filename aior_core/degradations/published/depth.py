"""Depth for pictures that come without one, from geometry: a horizon, ground, sky, walls, boxes, ridges.

It says nothing about brightness on purpose: "bright is far" teaches a network that pale is hazy.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ..fields import fractal_noise, plane, smooth_field

SCENES = ("outdoor", "indoor", "slope")
_COARSE = 4
"""The guided filter fits at this fraction of the size (He and Sun, "Fast Guided Filter", arXiv
1505.00996)."""


def invented_depth(height: int, width: int, generator: torch.Generator, scene: str) -> torch.Tensor:
    """`H W` in 0..1, 0 is at the camera and 1 as far as one sees.

    scene: "outdoor" (ground up to a horizon, ridges, buildings, sky), "indoor" (a room with furniture) or
    "slope" (a plane with relief: a street seen from above, a wall, anything without a horizon)."""
    rows = torch.linspace(0.0, 1.0, height)[:, None].expand(height, width)
    columns = torch.linspace(0.0, 1.0, width)[None].expand(height, width)
    drawn = torch.rand(8, generator=generator).tolist()
    relief = fractal_noise(height, width, generator, octaves=4) - 0.5
    if scene == "slope":
        depth = (
            0.3
            + 0.4 * drawn[0]
            + (0.2 + 0.6 * drawn[1]) * (plane(height, width, drawn[2] * 360.0) - 0.5)
            + 0.4 * relief
        )
        return depth.clamp(0.02, 1.0)
    if scene == "indoor":
        depth = _room(rows, columns, drawn)
        boxes = 3 + int(drawn[7] * 5)
    else:
        depth = _landscape(rows, columns, relief, drawn, generator)
        boxes = int(drawn[7] * 6)
    for _ in range(boxes):
        left, across, foot, tall, lift = torch.rand(5, generator=generator).tolist()
        near = 0.15 + 0.7 * foot
        size = 0.05 + 0.35 * across
        # What is near stands low in the picture and is large.
        bottom = 1.0 - 0.5 * near + 0.1 * lift
        top = bottom - (0.1 + 0.5 * tall) * (1.2 - near)
        inside = (
            (columns > left * 1.2 - 0.2)
            & (columns < left * 1.2 - 0.2 + size * (1.2 - near))
            & (rows > top)
            & (rows < bottom)
        )
        depth = torch.where(inside, torch.minimum(depth, torch.full_like(depth, near)), depth)
    return (depth + 0.08 * relief).clamp(0.02, 1.0)


def seen_depth(
    picture: torch.Tensor, generator: torch.Generator, scene: str, given: torch.Tensor | None = None
) -> torch.Tensor:
    """`B 1 H W` depth for `picture` (`B 3 H W`): the one that is `given`, or an invented one along the picture's edges.

    The generator has drawn as much in either case."""
    invented = invented_depth(*picture.shape[-2:], generator, scene)
    return guided(invented, picture) if given is None else given.to(picture).clamp(0.02, 1.0)


def guided(depth: torch.Tensor, picture: torch.Tensor) -> torch.Tensor:
    """`depth` (`H W`) with its edges moved to those of `picture` (`B 3 H W`, 0..1): `B 1 H W`.

    The guided filter (He, Sun and Tang, "Guided Image Filtering", TPAMI 2013): the depth is fitted in every
    window as a linear function of the grey picture. Where the invented depth is smooth it stays so; which of
    two sides of an edge is the far one is the depth's to say."""
    height, width = depth.shape
    size = (max(1, height // _COARSE), max(1, width // _COARSE))
    radius = max(1, min(size) // 14)
    grey = picture.float().mean(1, keepdim=True)
    small = F.interpolate(grey, size=size, mode="area")
    shallow = F.interpolate(depth.to(grey)[None, None], size=size, mode="area").expand_as(small)
    mean_grey, mean_depth = _box(small, radius), _box(shallow, radius)
    variance = _box(small * small, radius) - mean_grey**2
    slope = (_box(small * shallow, radius) - mean_grey * mean_depth) / (variance.clamp_min(0.0) + 4e-3)
    fit = torch.cat((_box(slope, radius), _box(mean_depth - slope * mean_grey, radius)), 1)
    fit = F.interpolate(fit, size=(height, width), mode="bilinear", align_corners=False)
    return (fit[:, :1] * grey + fit[:, 1:]).clamp(0.02, 1.0).to(picture.dtype)


def _box(values: torch.Tensor, radius: int) -> torch.Tensor:
    """Mean over a square window of `B 1 H W`, two passes; at the border over what is inside."""
    size = 2 * radius + 1
    values = F.avg_pool2d(values, (size, 1), 1, (radius, 0), count_include_pad=False)
    return F.avg_pool2d(values, (1, size), 1, (0, radius), count_include_pad=False)


def _landscape(rows, columns, relief, drawn: list, generator: torch.Generator) -> torch.Tensor:
    """Ground in perspective up to a horizon, then ridges one behind the other, then sky."""
    height, width = rows.shape
    horizon = 0.15 + 0.45 * drawn[0] + (drawn[1] - 0.5) * 0.1 * (columns - 0.5)
    nearest = 0.05 + 0.15 * drawn[2]
    below = (rows - horizon).clamp_min(0.0)
    ground = nearest / (nearest + below * (1.0 - nearest) * (0.6 + drawn[3]))
    depth = torch.where(rows > horizon, ground, torch.ones_like(rows))
    for ridge in range(1 + int(drawn[4] * 3)):
        line = smooth_field(1, width, generator, 3 + 2 * ridge)[0] - 0.5 + 0.3 * relief[height // 2]
        far = 0.85 - 0.2 * ridge - 0.1 * drawn[5]
        crest = horizon - 0.12 + 0.08 * ridge + 0.25 * line[None]
        depth = torch.where((rows > crest) & (depth > far), torch.full_like(depth, far), depth)
    return depth


def _room(rows, columns, drawn: list) -> torch.Tensor:
    """Floor, ceiling, two walls and the wall at the back, whose corner lines meet in a vanishing point."""
    x, y = 0.2 + 0.6 * drawn[0], 0.25 + 0.4 * drawn[1]
    sides = torch.where(columns > x, (columns - x) / (1.2 - x), (x - columns) / (x + 0.2))
    floors = torch.where(rows > y, (rows - y) / (1.15 - y), (y - rows) / (y + 0.3))
    back = 0.25 + 0.35 * drawn[2]
    reach = torch.maximum(sides, floors).clamp_min(back)
    depth = back / reach  # distance of a wall falls with its distance from the vanishing point
    return 0.3 + 0.3 * drawn[3] + (0.7 - 0.3 * drawn[3]) * (depth - back) / (1.0 - back)
