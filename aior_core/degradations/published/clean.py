"""Changes of a clean picture that look like damage and are none. The result is both input and target.

A restorer that never saw a pale wall takes it for haze, and snow on a roof for falling snow. Severity is how
much of it there is. A photograph without damage could show all of this: the rest of the picture keeps its
blacks, its colours and its detail.
"""

from __future__ import annotations

import torch

from ..blur import gaussian_blur
from ..draw import Draw
from ..fields import fractal_noise, plane, smooth_field, stream
from ..light import decode, encode
from .style import Style, color


def _below(height: int, width: int, generator: torch.Generator, line: float, rough: float) -> torch.Tensor:
    """Return `H W` in 0..1: 1 below a rough line that runs from left to right at the height `line`.

    The edge is one pixel soft.
    """
    crest = (
        smooth_field(1, width, generator, 4)[0] * 0.7 + smooth_field(1, width, generator, 16)[0] * 0.3 - 0.5
    )
    rows = torch.arange(height, dtype=torch.float32)[:, None]
    return (rows - height * (line + rough * crest[None]) + 0.5).clamp(0.0, 1.0)


def _mixed(picture: torch.Tensor, other: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    return torch.lerp(picture, other.to(picture).expand_as(picture), share.to(picture).expand_as(picture))


def _pale_wall(picture: torch.Tensor, params: dict, seed: int) -> torch.Tensor:
    """Add a wall, nearly white, with a faint gradient and plaster: bright, without contrast, and not far
    away.
    """
    height, width = picture.shape[-2:]
    generator = stream(seed)
    place = plane(height, width, params["angle"])
    inside = ((params["amount"] - place) * max(height, width) + 0.5).clamp(0.0, 1.0)
    shade = (plane(height, width, params["angle"] + 70.0) - 0.5) * params["shade"]
    plaster = (
        gaussian_blur(torch.randn(1, 1, height, width, generator=generator), 0.7)[0, 0] * params["plaster"]
    )
    return _mixed(picture, color(params["light"], picture) + (shade + plaster).to(picture), inside)


def _grey_sky(picture: torch.Tensor, params: dict, seed: int) -> torch.Tensor:
    """Add an overcast sky over a skyline: pale, even, and clear."""
    height, width = picture.shape[-2:]
    generator = stream(seed)
    ground = _below(height, width, generator, 0.75 * params["amount"], 0.25 * params["amount"])
    clouds = (fractal_noise(height, width, generator, octaves=4, cells=3) - 0.5) * params["shade"]
    lighter = (0.5 - plane(height, width, 90.0)) * 0.1
    return _mixed(picture, color(params["light"], picture) + (clouds + lighter).to(picture), 1.0 - ground)


def _snow_ground(picture: torch.Tensor, params: dict, seed: int) -> torch.Tensor:
    """Add lying snow: below a line everything is white with its own shading, and blue in the shade."""
    height, width = picture.shape[-2:]
    generator = stream(seed)
    lying = _below(height, width, generator, 1.0 - 0.75 * params["amount"], 0.2)
    grey = picture.mean(1, keepdim=True)
    white = params["white"] + (1.0 - params["white"]) * (0.4 + 0.6 * grey)
    relief = (fractal_noise(height, width, generator, octaves=4, cells=5) - 0.5) * 0.12
    snow = (white + relief.to(grey)) * (color([0.94, 0.97, 1.0], picture) * (1.0 - grey) + grey)
    return _mixed(picture, snow.clamp(0.0, 1.0), lying)


def _night_scene(picture: torch.Tensor, params: dict, seed: int) -> torch.Tensor:
    """Make a night that is to stay one.

    It is dark and without a trace of noise, with lamps as bright as white.
    """
    height, width = picture.shape[-2:]
    generator = stream(seed)
    light = decode(picture.float()) * 2.0 ** -params["stops"] * color(params["tint"], picture.float())
    rows = torch.arange(height, dtype=torch.float32)[:, None]
    columns = torch.arange(width, dtype=torch.float32)[None]
    size = max(height, width)
    for x, y, reach, hue in torch.rand(int(params["lamps"]), 4, generator=generator).tolist():
        squared = (rows - y * height).square() + (columns - x * width).square()
        radius = max(1.0, size * (0.005 + 0.02 * reach))
        bulb = (radius + 0.5 - squared.sqrt()).clamp(0.0, 1.0) * 2.0
        glow = 0.25 / (1.0 + squared / (3.0 * radius) ** 2).square()
        lamp = color([1.0, 0.75 + 0.25 * hue, 0.4 + 0.6 * hue], light)
        lit = decode(picture.float()) * 0.8 / (1.0 + squared / (0.12 * size) ** 2).to(light)
        light = light + lamp * ((bulb + glow).to(light) + lit)
    return encode(light.clamp(0.0, 1.0)).to(picture.dtype)


def _shallow_focus(picture: torch.Tensor, params: dict, seed: int) -> torch.Tensor:
    """Put a sharp subject in front of a background out of focus, as a wide aperture does on purpose."""
    height, width = picture.shape[-2:]
    generator = stream(seed)
    x, y = (0.25 + 0.5 * torch.rand(2, generator=generator)).tolist()
    rows = torch.linspace(0.0, 1.0, height)[:, None] - y
    columns = torch.linspace(0.0, 1.0, width)[None] - x
    ragged = fractal_noise(height, width, generator, octaves=3) * 0.3
    distance = (rows.square() + columns.square()).sqrt() + ragged - 0.15
    behind = ((distance - params["subject"]) / 0.15).clamp(0.0, 1.0)
    # Light mixes linearly: a bright spot stays bright out of focus.
    far = encode(gaussian_blur(decode(picture.float()), params["sigma"])).to(picture)
    return _mixed(picture, far, behind)


def _grain(picture: torch.Tensor, params: dict, seed: int) -> torch.Tensor:
    """Add film grain that belongs to the picture.

    It is a little soft, equal in all channels, and strongest in mid-tones.
    """
    height, width = picture.shape[-2:]
    grain = torch.randn(1, 1, height, width, generator=stream(seed))
    grain = gaussian_blur(grain, params["soft"])
    grain = (grain / grain.std(correction=0).clamp_min(1e-6)).to(picture)
    grey = picture.mean(1, keepdim=True).clamp(0.0, 1.0)
    return picture + grain * (params["sigma"] / 255.0) * (4.0 * grey * (1.0 - grey)).sqrt()


def _nothing(params: dict) -> dict:
    """Return no severities: none of it is damage."""
    return {}


_SHARE = (0.0, 1.0)


def _style(source: str, drawn, damage, limits: dict) -> Style:
    return Style("clean", source, drawn, damage, limits, severities=(0.2, 1.0), said=_nothing)


def _draw_wall(draw: Draw, severity: float) -> dict:
    return {
        "amount": round(0.8 * severity, 6),
        "angle": draw.uniform(-180.0, 180.0),
        "light": draw.light(0.7, 0.97, 0.04),
        "shade": draw.uniform(0.0, 0.2),
        "plaster": draw.uniform(0.0, 0.015),
    }


def _draw_sky(draw: Draw, severity: float) -> dict:
    return {"amount": severity, "light": draw.light(0.65, 0.95, 0.012), "shade": draw.uniform(0.02, 0.2)}


def _draw_night(draw: Draw, severity: float) -> dict:
    return {
        "stops": round(4.0 * severity, 6),
        "tint": [draw.uniform(0.7, 1.0), draw.uniform(0.85, 1.0), draw.uniform(1.0, 1.3)],
        "lamps": 1 + draw.index((1.0, 1.0, 1.0, 1.0, 1.0, 1.0)),
    }


STYLES = {
    "pale_wall": _style(
        "ours: looks like haze",
        _draw_wall,
        _pale_wall,
        {
            "amount": _SHARE,
            "angle": (-360.0, 360.0),
            "light": (0.0, 1.0, 3, 3),
            "shade": _SHARE,
            "plaster": (0.0, 0.1),
        },
    ),
    "grey_sky": _style(
        "ours: looks like haze",
        _draw_sky,
        _grey_sky,
        {"amount": _SHARE, "light": (0.0, 1.0, 3, 3), "shade": _SHARE},
    ),
    "snow_ground": _style(
        "ours: looks like snow",
        lambda draw, severity: {"amount": severity, "white": draw.uniform(0.6, 0.9)},
        _snow_ground,
        {"amount": _SHARE, "white": _SHARE},
    ),
    "night_scene": _style(
        "ours: looks like low light",
        _draw_night,
        _night_scene,
        {"stops": (0.0, 10.0), "tint": (0.1, 4.0, 3, 3), "lamps": (0, 64)},
    ),
    "shallow_focus": _style(
        "ours: looks like blur",
        lambda draw, severity: {"sigma": round(8.0 * severity, 6), "subject": draw.uniform(0.15, 0.4)},
        _shallow_focus,
        {"sigma": (0.0, 40.0), "subject": _SHARE},
    ),
    "kept_grain": _style(
        "ours: looks like noise",
        lambda draw, severity: {"sigma": round(7.0 * severity, 6), "soft": draw.uniform(0.5, 1.2)},
        _grain,
        {"sigma": (0.0, 60.0), "soft": (0.0, 8.0)},
    ),
}
