"""Rain: three layers of streaks, far to near, under a light veil."""

import math

import torch

from ..blur import gaussian_blur
from ..camera.particles import amount_in_camera, apply_particles, draw_rain, particle_cover
from ..degradation import Degradation
from ..draw import Draw
from ..fields import chunk_rows, fractal_noise, sides, splat, stream
from ..limits import ANGLE, SHARE, SMALL
from ..photograph import CameraStyle, light_in_camera
from ..published import of_kind

# Per layer: streaks relative to the base count, length and width relative to the base, opacity.
_LAYERS = ((1.8, 0.45, 0.7, 0.65), (1.0, 0.9, 1.0, 0.95), (0.22, 1.9, 1.9, 0.75))
_STREAKS_PER_10K_PIXELS = 115.0
_STEP = 0.7


def add_rain(picture: torch.Tensor, params: dict, seed: int) -> torch.Tensor:
    """Draw rain over `picture` (`B C H W`, 0..1).

    Lengths of streaks are pixels; `angle` is degrees from the vertical.
    """
    height, width = picture.shape[-2:]
    generator = stream(seed)
    amount, light = params["amount"], params["light"]
    mist = fractal_noise(height, width, generator, octaves=3) * 0.6 + 0.7
    veil = (amount * params["veil"] * mist).clamp(0.0, 1.0).to(picture)
    out = picture + (light * 0.85 - picture) * veil
    for layer in _LAYERS:
        alpha = _streaks(height, width, params, layer, generator).to(picture)
        out = out + (light - out) * alpha
    return out


def _streaks(height: int, width: int, params: dict, layer: tuple, generator: torch.Generator) -> torch.Tensor:
    """Return the opacity `H W` of one layer."""
    crowd, reach, thick, opacity = layer
    amount = params["amount"]
    longest = params["length"] * reach * 1.3
    margin = longest / 2.0
    area = (height + 2.0 * margin) * (width + 2.0 * margin)
    # Longer streaks cover more, so fewer of them make rain of the same amount.
    count = max(1, round(_STREAKS_PER_10K_PIXELS * crowd * (22.0 / params["length"]) * amount * area / 1e4))
    drawn = torch.rand(5, count, 1, generator=generator)
    points = torch.linspace(-0.5, 0.5, max(4, math.ceil(longest / _STEP)))[None]
    profile = torch.cos(points * math.pi).clamp_min(0.0).sqrt()  # ends fade
    canvas = torch.zeros(height, width)
    # A few streaks at a time: all at once would take gigabytes for a picture of 24 megapixels.
    for x, y, stretch, turn, bright in drawn.split(chunk_rows(points.shape[1]), dim=1):
        x = x * (width + 2.0 * margin) - margin
        y = y * (height + 2.0 * margin) - margin
        length = longest * (0.55 + 0.45 * stretch)
        heading = torch.deg2rad(params["angle"] + (turn - 0.5) * 5.0)
        weight = profile * (0.25 + 0.75 * bright) * (length / points.shape[1])
        canvas += splat(
            height, width, x + points * length * heading.sin(), y + points * length * heading.cos(), weight
        )
    sigma = max(0.45, params["width"] * thick * 0.55)
    line = gaussian_blur(canvas[None, None], sigma)[0, 0] * (math.sqrt(2.0 * math.pi) * sigma)
    # Thin rain is also fainter: opacity goes to 0 together with the amount.
    return (line * opacity * min(1.0, 0.35 + amount)).clamp(0.0, 0.95)


def _draw_fall(draw: Draw, severity: float, camera: dict | None) -> dict:
    fall = draw_rain(draw, amount_in_camera(severity, usual=1.1, power=1.35, most=1.7))
    return {"amount": severity, "fall": {**fall, "light": light_in_camera(fall["light"], camera)}}


CAMERA = CameraStyle(
    "rain",
    "streaks and veil in radiance, by distance, over the time of exposure",
    _draw_fall,
    lambda light, params, seed, depth: apply_particles(light, params["fall"], seed, depth),
    {
        "amount": (0.0, 4.0),
        "length": (1.0, 200.0),
        "width": (0.1, 10.0),
        "angle": ANGLE,
        "turn": (0.0, 90.0),
        "light": (0.0, 4.0),
        "veil": (0.0, 4.0),
        "near": SHARE,
    },
    severities=(0.1, 1.0),
    where=lambda params, seed, depth: particle_cover(params["fall"], seed, *sides(depth), depth)[0, 0],
    share=3.0,
    takes_depth=True,
)


def _sample(draw: Draw) -> tuple[float, dict]:
    return draw.uniform(*DEGRADATION.severities), {
        "length": draw.uniform(12.0, 36.0),
        "width": draw.uniform(0.6, 1.2),
        "angle": draw.uniform(-35.0, 35.0),
        "veil": draw.uniform(0.0, 0.25),
        "light": draw.uniform(0.75, 1.0),
    }


DEGRADATION = Degradation(
    name="rain",
    number=3,
    label="rain",
    steered="Rain",
    trained="rain",
    meaning="a cloudburst",
    primary="amount",
    line=(0.0, 1.0),
    severities=(0.1, 1.0),
    mild=(0.05, 0.2),
    rank=0,
    typical={"length": 22.0, "width": 0.8, "angle": 12.0, "veil": 0.12, "light": 0.9},
    sample=_sample,
    apply=add_rain,
    styles={"camera": CAMERA, **of_kind("rain")},
    limits={
        "amount": (0.0, 4.0),
        "length": (4.0, 200.0),
        "width": (0.05, 10.0),
        "angle": ANGLE,
        "veil": SHARE,
        "light": SMALL,
    },
    shares={
        "any": 0.72 / 7.0,
        "training": 0.07,
        "training of three": 0.17,
        "keep": 0.14,
        "maps": 0.11,
        "tone": 0.08,
        "polish": 0.0,
        "hold": 0.16,
    },
    validation={"rain": (0.6, {})},
    anchor_start=-8.0,
)
