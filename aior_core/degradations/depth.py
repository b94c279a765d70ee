"""Depth for pictures that come without one: ground and sky, slanted walls, rooms, boxes on the ground, hills.

A depth is `H W` in 0..1: 0 at the lens, 1 at the farthest distance (the horizon, the sky). It comes from a
drawn geometry and not from brightness. "Bright is far" would teach a network that pale things are hazy. The
steps of a geometry are soft, because hard ones would lie across the things in the picture. `follow_edges`
moves them to the picture's own edges.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from .draw import Draw
from .fields import fractal_noise, plane, sides, stream

KINDS = ("ground", "wall", "room", "boxes", "hills")
_SHARES = (0.25, 0.15, 0.15, 0.25, 0.2)
_GEOMETRIES = {"outdoor": ("ground", "boxes", "hills"), "indoor": ("room", "wall"), "slope": ("wall",)}
SCENES = tuple(_GEOMETRIES)
"""What published looks call a scene: each stands for some of the geometries."""
NEAREST = 0.02
"""Least depth of a published look: nothing stands in the lens."""
_COARSE = 4
"""Fraction of the size at which steps are softened and the guided filter is fitted."""


def draw_depth(draw: Draw, kinds: tuple[str, ...] = KINDS) -> dict:
    """Draw a geometry of one of `kinds`."""
    kind = draw.choice(KINDS, [share if kind in kinds else 0.0 for kind, share in zip(KINDS, _SHARES)])
    params: dict = {
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
    """Return the depth `H W` in 0..1 of what `draw_depth` drew. Raises ValueError for an unknown kind."""
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


def invented_depth(height: int, width: int, generator: torch.Generator, scene: str) -> torch.Tensor:
    """Return a depth `H W` in `NEAREST`..1 of a geometry that fits `scene`, one of `SCENES`.

    It reaches from the lens to the farthest distance. Published looks have a parameter of their own for how
    near the nearest thing is.
    """
    draw = Draw(generator)
    params = {**draw_depth(draw, _GEOMETRIES[scene]), "nearest": 0.0}
    return make_depth(params, draw.seed(), height, width).clamp_min(NEAREST)


def seen_depth(
    picture: torch.Tensor, generator: torch.Generator, scene: str, given: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the depth `B 1 H W` for `picture` (`B 3 H W`): the `given` one, or one invented along its edges.

    The generator draws the same numbers in either case, so what is drawn afterwards does not change.
    """
    invented = invented_depth(*sides(picture), generator, scene)
    depth = follow_edges(invented[None, None], picture) if given is None else given.to(picture)
    return depth.clamp(NEAREST, 1.0)


def follow_edges(depth: torch.Tensor, picture: torch.Tensor) -> torch.Tensor:
    """Return `B 1 H W`: `depth` (`B 1 H W` or `1 1 H W`) with its steps moved to the edges of `picture`.

    The picture is `B 3 H W` in display values. This is the guided filter (He, Sun and Tang, "Guided Image
    Filtering", TPAMI 2013), fitted at a quarter of the size (He and Sun, "Fast Guided Filter", arXiv
    1505.00996). In each window the depth is a linear function of brightness, which rises or falls as the
    geometry says. Where the geometry is flat it stays flat, however bright the picture is.
    """
    height, width = picture.shape[-2:]
    size = _coarse(height, width)
    radius = max(1, min(size) // 14)
    grey = picture.float().mean(1, keepdim=True)
    small = F.interpolate(grey, size=size, mode="area")
    shallow = F.interpolate(depth.to(grey), size=size, mode="area").expand_as(small)
    mean_grey, mean_depth = _box(small, radius), _box(shallow, radius)
    variance = _box(small * small, radius) - mean_grey**2
    slope = (_box(small * shallow, radius) - mean_grey * mean_depth) / (variance.clamp_min(0.0) + 4e-3)
    fit = torch.cat((_box(slope, radius), _box(mean_depth - slope * mean_grey, radius)), 1)
    fit = F.interpolate(fit, size=(height, width), mode="bilinear", align_corners=False)
    return (fit[:, :1] * grey + fit[:, 1:]).clamp(0.0, 1.0).to(picture.dtype)


def given_depth(depth: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Return `B 1 H W` in 0..1 from a depth picture (`H W`, `B H W` or `B 1 H W`, larger is farther).

    The depth is resized and stretched to its own range. Raises ValueError when it has another shape or holds
    values that are not finite.
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
        depth = F.interpolate(depth, size=(height, width), mode="bilinear", align_corners=False)
    low, high = depth.amin((2, 3), keepdim=True), depth.amax((2, 3), keepdim=True)
    return (depth - low) / (high - low).clamp_min(1e-6)


def _below(params: dict, height: int, width: int) -> torch.Tensor:
    """Return how far below the horizon each place lies, in heights of the picture; negative in the sky."""
    rows = torch.linspace(0.0, 1.0, height)[:, None]
    columns = torch.linspace(-0.5, 0.5, width)[None] * (width / height)
    return rows - params["horizon"] - columns * math.tan(math.radians(params["tilt"]))


def _ground(below: torch.Tensor) -> torch.Tensor:
    # A flat ground is seen at a distance of 1 / angle below the horizon. At the lower edge of the picture it
    # is at about a twentieth of the farthest distance.
    return (0.04 / below.clamp_min(0.04)).clamp(0.0, 1.0)


def _boxes(depth: torch.Tensor, below: torch.Tensor, params: dict) -> torch.Tensor:
    width = depth.shape[1]
    columns = torch.linspace(0.0, 1.0, width)[None]
    for box in params["boxes"]:
        inside = (columns >= box["left"]) & (columns <= box["left"] + box["width"])
        # A box stands where the ground is as far as the box, and it reaches above the horizon.
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
    """Return the depth of a box seen from inside: the back wall is at 1, the other four come towards the
    lens.
    """
    rows = torch.linspace(0.0, 1.0, height)[:, None] - params["back"][1]
    columns = torch.linspace(0.0, 1.0, width)[None] - params["back"][0]
    across = torch.maximum(rows.abs(), columns.abs()) / (params["size"] / 2.0)
    return (1.0 / across.clamp_min(1.0)).clamp(0.0, 1.0)


def _coarse(height: int, width: int) -> tuple[int, int]:
    return max(1, height // _COARSE), max(1, width // _COARSE)


def _box(values: torch.Tensor, radius: int) -> torch.Tensor:
    """Average `B C H W` over windows of `2 radius + 1` pixels; at the border over what is inside."""
    size = 2 * radius + 1
    values = F.avg_pool2d(values, (size, 1), 1, (radius, 0), count_include_pad=False)
    return F.avg_pool2d(values, (1, size), 1, (0, radius), count_include_pad=False)


def _softened(depth: torch.Tensor, sigma: float) -> torch.Tensor:
    """Blur `H W` by nearly a Gaussian of `sigma` pixels: three averages, at a quarter of the size."""
    height, width = depth.shape
    planes = F.interpolate(depth[None, None], size=_coarse(height, width), mode="area")
    radius = max(1, round(sigma / _COARSE))
    for _ in range(3):
        planes = _box(planes, radius)
    return F.interpolate(planes, size=(height, width), mode="bilinear", align_corners=False)[0, 0]
