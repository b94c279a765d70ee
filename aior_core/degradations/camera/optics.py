"""Optics: blur in linear light, by the whole camera, by single things that move, and by distance.

The light may be above 1. It is clipped only at the sensor, after the blur, so lamps draw streaks and discs as
they do in photographs (Rim et al., "Realistic Blur Synthesis for Learning Image Deblurring", ECCV 2022).
"""

import math

import torch

from ..blur import convolve
from ..draw import Draw
from ..fields import fractal_noise, sides, stream
from .psf import draw_psf, point_spread, spread

NO_OPTICS: dict = {"psf": None, "things": [], "defocus": None}
OUTLINES = ("ellipse", "box", "blob")
_LEVELS = 6


def draw_optics(draw: Draw, sigma: float | None = None, kind: str | None = None) -> dict:
    """Draw a blur of `kind` "whole", "things" or "defocus" (None: any).

    `sigma` is the spread, in pixels, of the strongest blur in it (None: any).
    """
    kind = kind or draw.choice(("whole", "things", "defocus"), (0.65, 0.2, 0.15))
    if kind == "whole":
        return {**NO_OPTICS, "psf": draw_psf(draw, sigma)}
    if kind == "things":
        first = draw_psf(draw, sigma, "path")
        things = [draw_thing(draw, first)]
        for _ in range(draw.choice((0, 1, 2), (0.4, 0.4, 0.2))):
            things.append(
                draw_thing(draw, draw_psf(draw, round(first["sigma"] * draw.uniform(0.3, 1.0), 6), "path"))
            )
        base = (
            draw_psf(draw, round(first["sigma"] * draw.uniform(0.0, 0.5), 6))
            if draw.uniform() < 0.5
            else None
        )
        return {"psf": base, "things": things, "defocus": None}
    if kind != "defocus":
        raise ValueError(f"camera: unknown kind of blur {kind!r}; expected whole, things or defocus")
    sigma = round(0.6 * 10.0 ** draw.uniform(), 6) if sigma is None else sigma
    blades = int(draw.uniform(5.0, 9.999)) if draw.uniform() < 0.5 else 0
    return {
        **NO_OPTICS,
        "defocus": {
            "sigma": sigma,
            "focus": draw.uniform(0.05, 1.0),
            "blades": blades,
            "angle": draw.uniform(0.0, 72.0),
        },
    }


def draw_thing(draw: Draw, psf: dict) -> dict:
    """Draw the outline, in shares of the picture's sides, of a thing that has its own blur."""
    return {
        "outline": draw.choice(OUTLINES),
        "centre": [draw.uniform(0.15, 0.85), draw.uniform(0.2, 0.85)],
        "size": [draw.uniform(0.12, 0.4), draw.uniform(0.12, 0.45)],
        "angle": draw.uniform(-30.0, 30.0),
        "psf": psf,
    }


def apply_optics(
    light: torch.Tensor, params: dict, seed: int, depth: torch.Tensor | None = None
) -> torch.Tensor:
    """Blur linear `light` (`B 3 H W`, from 0) by the whole camera, then by things in front, or by depth.

    Defocus needs `depth` (`H W` or `B 1 H W`, 0 near to 1 far) and raises ValueError without it. A thing
    hides what is behind it only while it is there, so its outline is blurred as the thing is.
    """
    out = light
    if params["psf"] is not None:
        out = convolve(light, point_spread(params["psf"], seed))
    for index, thing in enumerate(params["things"]):
        kernel = point_spread(thing["psf"], seed + 1 + index)
        mask = thing_mask(thing, *sides(light), seed + 1 + index).to(light)[None, None]
        cover = convolve(mask, kernel)
        out = out * (1.0 - cover) + convolve(light * mask, kernel)
    return _defocus(out, params["defocus"], depth) if params["defocus"] is not None else out


def blur_map(
    params: dict, seed: int, height: int, width: int, depth: torch.Tensor | None = None
) -> torch.Tensor:
    """Return `H W`: the spread in pixels at each place.

    This is the truth for a map of blur, and its mean is the label of the picture.
    """
    base = spread(point_spread(params["psf"], seed)) if params["psf"] is not None else 0.0
    field = torch.full((height, width), base)
    for index, thing in enumerate(params["things"]):
        kernel = point_spread(thing["psf"], seed + 1 + index)
        cover = convolve(thing_mask(thing, height, width, seed + 1 + index)[None, None], kernel)[0, 0].clamp(
            0.0, 1.0
        )
        field = field * (1.0 - cover) + spread(kernel) * cover
    if params["defocus"] is not None:
        field = (
            field**2 + _circle(params["defocus"], _as_plane(depth, params)).mean((0, 1)).cpu() ** 2
        ).sqrt()
    return field


def thing_mask(thing: dict, height: int, width: int, seed: int) -> torch.Tensor:
    """Return `H W` in 0..1: where the thing is, with edges about a pixel soft.

    Raises ValueError for an unknown outline.
    """
    turn = math.radians(thing["angle"])
    rows = (torch.linspace(0.0, 1.0, height)[:, None] - thing["centre"][1]) / thing["size"][1]
    columns = (torch.linspace(0.0, 1.0, width)[None] - thing["centre"][0]) / thing["size"][0]
    u, v = columns * math.cos(turn) + rows * math.sin(turn), rows * math.cos(turn) - columns * math.sin(turn)
    if thing["outline"] == "ellipse":
        distance = (u**2 + v**2).sqrt()
    elif thing["outline"] == "box":
        distance = torch.maximum(u.abs(), v.abs())
    elif thing["outline"] == "blob":
        distance = (u**2 + v**2).sqrt() * (
            0.55 + 0.9 * fractal_noise(height, width, stream(seed), octaves=4, cells=3)
        )
    else:
        raise ValueError(
            f"camera: unknown outline {thing['outline']!r}; expected one of {', '.join(OUTLINES)}"
        )
    pixels = max(1.0, min(height * thing["size"][1], width * thing["size"][0]))
    return ((1.0 - distance) * pixels + 0.5).clamp(0.0, 1.0)


def _defocus(light: torch.Tensor, params: dict, depth: torch.Tensor | None) -> torch.Tensor:
    """Blur in levels of equal spread.

    Every level spreads its own light, and the shares that arrive are normalised to a sum of 1.
    """
    circle = _circle(params, _as_plane(depth, params)).to(light)
    count = min(_LEVELS, max(2, math.ceil(params["sigma"] * 2.0) + 1))
    place = circle / max(params["sigma"], 1e-6) * (count - 1)
    total, arrived = torch.zeros_like(light), torch.zeros_like(light[:, :1])
    for level in range(count):
        share = (1.0 - (place - level).abs()).clamp_min(0.0).expand(light.shape[0], 1, *light.shape[-2:])
        if share.max() <= 0.0:
            continue
        shape = "polygon" if params["blades"] else "disc"
        disc = {
            "shape": shape,
            "sigma": params["sigma"] * level / (count - 1),
            "blades": params["blades"],
            "angle": params["angle"],
        }
        sent = convolve(torch.cat((light * share, share), 1), point_spread(disc, 0))
        total, arrived = total + sent[:, :3], arrived + sent[:, 3:]
    return total / arrived.clamp_min(1e-6)


def _circle(params: dict, depth: torch.Tensor) -> torch.Tensor:
    """Return `B 1 H W`: the spread of the circle of confusion.

    It grows with the difference of inverse distances (thin lens).
    """
    # Depth 0 is a twentieth of the farthest distance: nothing stands in the lens.
    inverse, sharp = 1.0 / (0.05 + 0.95 * depth), 1.0 / (0.05 + 0.95 * params["focus"])
    most = max(20.0 - sharp, sharp - 1.0)
    return params["sigma"] * ((inverse - sharp).abs() / most).clamp(0.0, 1.0).sqrt()


def _as_plane(depth: torch.Tensor | None, params: dict) -> torch.Tensor:
    if depth is None:
        raise ValueError(
            "camera: defocus needs a depth; give one (H W or B 1 H W, 0 near to 1 far) or set defocus to None"
        )
    return depth[None, None] if depth.ndim == 2 else depth
