"""Distance without a depth picture: ground and sky, slanted walls, rooms, boxes on the ground, hills.

A depth is ``H W`` in 0..1: 0 at the lens, 1 at the farthest distance (the horizon, the sky). It comes from a
drawn geometry and not from brightness: a pale wall is not far because it is pale. Its steps are soft, as hard
ones would lie across the picture's things, and `follow_edges` moves them to edges that the picture has.
"""

import math

import torch

from ..draw import Draw
from ..fields import fractal_noise, plane, stream

KINDS = ("ground", "wall", "room", "boxes", "hills")
_SHARES = (0.25, 0.15, 0.15, 0.25, 0.2)


def draw_depth(draw: Draw, indoor: bool | None = None) -> dict:
    """Draw a geometry; ``indoor`` True gives walls and rooms, False what is outdoors, None any."""
    shares = [
        0.0 if indoor is not None and (kind in ("wall", "room")) != indoor else share
        for kind, share in zip(KINDS, _SHARES)
    ]
    kind = draw.choice(KINDS, shares)
    params = {
        "kind": kind,
        "horizon": draw.uniform(0.1, 0.6),
        "tilt": draw.uniform(-6.0, 6.0),
        "rough": draw.uniform(0.0, 0.25),
        # The nearest thing of most pictures does not stand in the lens.
        "nearest": round(0.7 * draw.uniform() ** 1.5, 6),
    }
    if kind == "wall":
        params |= {"angle": draw.uniform(0.0, 360.0), "near": draw.uniform(0.05, 0.6)}
    elif kind == "room":
        params |= {
            "back": [draw.uniform(0.35, 0.65), draw.uniform(0.3, 0.6)],
            "size": draw.uniform(0.12, 0.5),
        }
    elif kind == "boxes":
        count = int(draw.uniform(2.0, 9.999))
        params["boxes"] = [
            {
                "left": draw.uniform(-0.2, 0.95),
                "width": draw.uniform(0.08, 0.45),
                "far": draw.uniform(0.04, 0.9),
                "top": draw.uniform(0.0, 0.9),
            }
            for _ in range(count)
        ]
    elif kind == "hills":
        params |= {"ridges": int(draw.uniform(2.0, 6.999)), "height": draw.uniform(0.05, 0.25)}
    return params


def make_depth(params: dict, seed: int, height: int, width: int) -> torch.Tensor:
    """``H W`` depth in 0..1 of what `draw_depth` drew. Raises ValueError at an unknown kind."""
    generator = stream(seed)
    kind = params["kind"]
    if kind == "wall":
        depth = params["near"] + (1.0 - params["near"]) * plane(height, width, params["angle"])
    elif kind == "room":
        depth = _room(params, height, width)
    elif kind in ("ground", "boxes", "hills"):
        below = _below(params, height, width)
        depth = _ground(below)
        if kind == "boxes":
            depth = _boxes(depth, below, params)
        elif kind == "hills":
            depth = _hills(depth, below, params, generator)
    else:
        raise ValueError(f"camera: unknown geometry {kind!r}; expected one of {', '.join(KINDS)}")
    if kind in ("boxes", "hills", "room"):
        depth = _softened(depth, 0.05 * min(height, width))
    relief = fractal_noise(height, width, generator, octaves=5, cells=3) - 0.5
    # Relief moves what is near and leaves the sky where it is.
    depth = (depth * (1.0 + params["rough"] * relief * (1.0 - depth))).clamp(0.0, 1.0)
    return params["nearest"] + (1.0 - params["nearest"]) * depth


def follow_edges(depth: torch.Tensor, picture: torch.Tensor) -> torch.Tensor:
    """``B 1 H W``: the depth (``B 1 H W`` or ``1 1 H W``) with its steps moved to edges of ``picture`` (``B 3
    H W``, display 0..1).

    This is the guided filter (He, Sun and Tang, PAMI 2013): in each window depth is a linear function of
    brightness, rising or falling as the geometry has it.
    """
    height, width = picture.shape[-2:]
    radius = max(2, round(0.06 * min(height, width)))
    guide = picture.mean(1, keepdim=True).to(depth)
    depth = depth.expand(guide.shape[0], 1, height, width)
    means = _box(torch.cat((guide, depth, guide * depth, guide * guide), 1), radius)
    mean, level, both, square = means.split(1, 1)
    slope = (both - mean * level) / (square - mean * mean + 0.01)
    slope, offset = _box(torch.cat((slope, level - slope * mean), 1), radius).split(1, 1)
    return (slope * guide + offset).clamp(0.0, 1.0)


def given_depth(depth: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """``B 1 H W`` in 0..1 from a depth picture (``H W``, ``B H W`` or ``B 1 H W``, far is 1), resized and
    stretched to its own range.

    Raises ValueError when it has another shape or holds values that are not finite.
    """
    if depth.ndim == 2:
        depth = depth[None, None]
    elif depth.ndim == 3:
        depth = depth[:, None]
    if depth.ndim != 4 or depth.shape[1] != 1 or not torch.isfinite(depth).all():
        raise ValueError(
            f"camera: a depth of shape {tuple(depth.shape)}; expected H W, B H W or B 1 H W of finite numbers"
        )
    if tuple(depth.shape[-2:]) != (height, width):
        depth = torch.nn.functional.interpolate(
            depth, size=(height, width), mode="bilinear", align_corners=False
        )
    low, high = depth.amin((2, 3), keepdim=True), depth.amax((2, 3), keepdim=True)
    return (depth - low) / (high - low).clamp_min(1e-6)


def _below(params: dict, height: int, width: int) -> torch.Tensor:
    """How far below the horizon each place lies, in heights of the picture; negative in the sky."""
    rows = torch.linspace(0.0, 1.0, height)[:, None]
    columns = torch.linspace(-0.5, 0.5, width)[None] * (width / height)
    return rows - params["horizon"] - columns * math.tan(math.radians(params["tilt"]))


def _ground(below: torch.Tensor) -> torch.Tensor:
    # A flat ground is seen at a distance of 1 / angle below the horizon. The nearest, at the lower edge, is
    # at a twentieth or so.
    return (0.04 / below.clamp_min(0.04)).clamp(0.0, 1.0)


def _boxes(depth: torch.Tensor, below: torch.Tensor, params: dict) -> torch.Tensor:
    width = depth.shape[1]
    columns = torch.linspace(0.0, 1.0, width)[None]
    for box in params["boxes"]:
        inside = (columns >= box["left"]) & (columns <= box["left"] + box["width"])
        # It stands where the ground is as far as it is, and reaches above the horizon by its own height over
        # its distance.
        foot = 0.04 / max(box["far"], 0.04)
        top = params["horizon"] * box["top"] - params["horizon"]
        covered = inside & (below <= foot) & (below >= top)
        depth = torch.where(covered, depth.clamp_max(box["far"]), depth)
    return depth


def _hills(
    depth: torch.Tensor, below: torch.Tensor, params: dict, generator: torch.Generator
) -> torch.Tensor:
    width = depth.shape[1]
    for ridge in range(params["ridges"]):
        nearness = (ridge + 1.0) / (params["ridges"] + 1.0)
        line = fractal_noise(2, width, generator, octaves=6, cells=2)[0]
        crest = params["height"] * (1.0 - 1.3 * nearness) * line[None]
        depth = torch.where(below >= -crest + 0.02 * nearness, depth.clamp_max(1.0 - 0.8 * nearness), depth)
    return depth


def _room(params: dict, height: int, width: int) -> torch.Tensor:
    """A box seen from inside: the back wall is at 1, the other four come towards the lens."""
    rows = torch.linspace(0.0, 1.0, height)[:, None] - params["back"][1]
    columns = torch.linspace(0.0, 1.0, width)[None] - params["back"][0]
    across = torch.maximum(rows.abs(), columns.abs()) / (params["size"] / 2.0)
    return (1.0 / across.clamp_min(1.0)).clamp(0.0, 1.0)


def _box(planes: torch.Tensor, radius: int) -> torch.Tensor:
    """Mean of ``B C H W`` over windows of ``2 radius + 1``, cut off at the border."""
    for axis in (-2, -1):
        side = planes.shape[axis]
        sums = torch.nn.functional.pad(planes.double().cumsum(axis), (1, 0) if axis == -1 else (0, 0, 1, 0))
        last = torch.arange(side).add(radius + 1).clamp_max(side)
        first = torch.arange(side).sub(radius).clamp_min(0)
        shape = (-1,) if axis == -1 else (-1, 1)
        count = (last - first).view(shape).to(planes.device)
        last, first = last.to(planes.device), first.to(planes.device)
        planes = ((sums.index_select(axis, last) - sums.index_select(axis, first)) / count).to(planes)
    return planes


def _softened(depth: torch.Tensor, sigma: float) -> torch.Tensor:
    """Three means over windows are nearly a Gaussian of ``sigma``."""
    radius = max(1, round(sigma))
    planes = depth[None, None]
    for _ in range(3):
        planes = _box(planes, radius)
    return planes[0, 0]
