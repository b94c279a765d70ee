"""Snow: flakes of three sizes, the near ones large and out of focus, in a light veil."""

import math

import torch

from ..camera.particles import amount_in_camera, apply_particles, draw_snow, particle_cover
from ..degradation import Degradation
from ..draw import Draw
from ..fields import chunk_rows, fractal_noise, sides, stream
from ..limits import ANGLE, SHARE, SMALL
from ..photograph import CameraStyle, light_in_camera
from ..published import of_kind

# Per layer: flakes per 10,000 pixels, smallest and largest radius, softness of the edge, opacity, stretch by
# motion.
_LAYERS = (
    (310.0, 0.6, 1.2, 0.9, 0.85, 0.2),
    (86.0, 1.1, 2.6, 0.8, 0.95, 0.35),
    (9.0, 3.0, 6.0, 2.2, 0.7, 0.5),
)


def add_snow(picture: torch.Tensor, params: dict, seed: int) -> torch.Tensor:
    """Draw snow over `picture` (`B C H W`, 0..1).

    Radii are pixels times `size`; `wind` is degrees from the vertical.
    """
    height, width = picture.shape[-2:]
    generator = stream(seed)
    amount, light = params["amount"], params["light"]
    mist = fractal_noise(height, width, generator, octaves=3) * 0.6 + 0.7
    veil = (amount * params["veil"] * mist).clamp(0.0, 1.0).to(picture)
    out = picture + (light * 0.92 - picture) * veil
    for layer in _LAYERS:
        alpha = _flakes(height, width, params, layer, generator).to(picture)
        out = out + (light - out) * alpha
    return out


def _flakes(height: int, width: int, params: dict, layer: tuple, generator: torch.Generator) -> torch.Tensor:
    """Return the opacity `H W` of one layer.

    Every flake is a stamp with its own size, stretch and ragged outline.
    """
    crowd, _, largest, soft, opacity, streaking = layer
    amount, size = params["amount"], params["size"]
    reach = math.ceil(largest * size * (1.0 + streaking) + soft) + 1
    area = (height + 2 * reach) * (width + 2 * reach)
    count = max(1, round(crowd * amount / size * area / 1e4))
    drawn = torch.rand(8, count, 1, generator=generator)
    axis = torch.arange(-reach, reach + 1, dtype=torch.float32)
    stamp = tuple(part.reshape(1, -1) for part in torch.meshgrid(axis, axis, indexing="ij"))
    canvas = torch.zeros(height, width)
    # A few flakes at a time: all at once would take gigabytes for a picture of 24 megapixels.
    for some in drawn.split(chunk_rows(stamp[0].shape[1]), dim=1):
        _stamp_flakes(canvas, some, stamp, params, layer)
    return (canvas * opacity * min(1.0, 0.35 + amount)).clamp(0.0, 0.97)


def _stamp_flakes(
    canvas: torch.Tensor, drawn: torch.Tensor, stamp: tuple, params: dict, layer: tuple
) -> None:
    """Add flakes to `canvas` (`H W`).

    `drawn` (`8 N 1`, uniform in 0..1) says where and how each flake is, and `stamp` is the pixels around it.
    """
    height, width = canvas.shape
    _, smallest, largest, soft, _, streaking = layer
    smallest, largest = smallest * params["size"], largest * params["size"]
    (dy, dx), reach = stamp, int(stamp[0].max())
    x, y, grow, stretch, turn, bright, lobes, phase = drawn
    x = x * (width + 2 * reach) - reach
    y = y * (height + 2 * reach) - reach
    radius = smallest + (largest - smallest) * grow**2  # small flakes outnumber large ones
    heading = torch.deg2rad(params["wind"] + (turn - 0.5) * 40.0)
    column, row = x.round() + dx, y.round() + dy
    dx, dy = column - x, row - y
    along = (dx * heading.sin() + dy * heading.cos()) / (1.0 + streaking * stretch)
    across = dx * heading.cos() - dy * heading.sin()
    distance = (along**2 + across**2).sqrt()
    if largest > 1.5:
        outline = 1.0 + 0.22 * torch.sin(
            torch.atan2(across, along) * (2.0 + (lobes * 3.0).floor()) + phase * 2.0 * math.pi
        )
        distance = distance / outline
    weight = torch.sigmoid((radius - distance) * (3.0 / soft)) * (0.45 + 0.55 * bright)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height) & (weight > 0.01)
    # Whole numbers: fp32 cannot count beyond 2^24 pixels.
    index = (row.long() * width + column.long())[inside]
    canvas.view(-1).index_add_(0, index, weight[inside])


def _draw_fall(draw: Draw, severity: float, camera: dict | None) -> dict:
    fall = draw_snow(draw, amount_in_camera(severity, usual=0.65, power=1.3, most=1.0))
    return {"amount": severity, "fall": {**fall, "light": light_in_camera(fall["light"], camera)}}


CAMERA = CameraStyle(
    "snow",
    "flakes and veil in radiance, by distance, as they fall",
    _draw_fall,
    lambda light, params, seed, depth: apply_particles(light, params["fall"], seed, depth),
    {
        "amount": (0.0, 4.0),
        "size": (0.25, 4.0),
        "length": (0.1, 100.0),
        "angle": ANGLE,
        "turn": (0.0, 180.0),
        "light": (0.0, 4.0),
        "veil": (0.0, 4.0),
        "near": SHARE,
    },
    severities=(0.1, 1.0),
    where=lambda params, seed, depth: particle_cover(params["fall"], seed, *sides(depth), depth)[0, 0],
    share=2.0,
    takes_depth=True,
)


def _sample(draw: Draw) -> tuple[float, dict]:
    return draw.uniform(*DEGRADATION.severities), {
        "size": draw.uniform(0.7, 1.5),
        "wind": draw.uniform(-50.0, 50.0),
        "veil": draw.uniform(0.0, 0.3),
        "light": draw.uniform(0.85, 1.0),
    }


DEGRADATION = Degradation(
    name="snow",
    number=4,
    label="snow",
    steered="Snow",
    trained="snow",
    meaning="a blizzard",
    primary="amount",
    line=(0.0, 1.0),
    severities=(0.1, 1.0),
    mild=(0.05, 0.2),
    rank=0,
    typical={"size": 1.0, "wind": 15.0, "veil": 0.16, "light": 0.95},
    sample=_sample,
    apply=add_snow,
    styles={"camera": CAMERA, **of_kind("snow")},
    limits={"amount": (0.0, 4.0), "size": (0.25, 4.0), "wind": ANGLE, "veil": SHARE, "light": SMALL},
    shares={
        "any": 0.72 / 7.0,
        "training": 0.04,
        "training of three": 0.08,
        "keep": 0.1,
        "maps": 0.1,
        "tone": 0.08,
        "polish": 0.0,
        "hold": 0.11,
    },
    validation={"snow": (0.6, {})},
    anchor_start=-8.0,
)
