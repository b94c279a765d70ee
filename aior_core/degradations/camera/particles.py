"""Rain and snow that cross the view while the shutter is open, at many distances.

A particle that crosses a pixel covers it for a part of the exposure. The picture there is the mean over time,
`(1 - a) J + a E`, where `a` is the share of time and area, `J` the light of the scene and `E` that of the
particle (Garg and Nayar, "Vision and Rain", IJCV 2007). Near particles are large, fast and out of focus. Far
ones are small, many, and hidden by what stands in front of them.
"""

import math

import torch

from ..blur import convolve, gaussian_blur
from ..draw import Draw
from ..fields import fractal_noise, sides, splat, stream
from .chance import require

# Points of one call of splat. The coordinates of more points would take gigabytes on large pictures.
_POINTS = 500_000
# Distance of each layer, from 1 (far) to 0 (near), and its share of the particles. Numbers fall with the
# square of the size.
_LAYERS = ((0.9, 1.0), (0.55, 0.42), (0.28, 0.16), (0.12, 0.05))
_STAMPS = 2


def draw_rain(draw: Draw, amount: float | None = None) -> dict:
    """Draw rain of `amount` 0..1 (None: any; 0.3 is a shower, 1 a cloudburst).

    `length` and `width` are those of streaks at a middle distance, in pixels. `angle` is degrees from the
    vertical.
    """
    return {
        "kind": "rain",
        "amount": draw.uniform(0.05, 1.0) if amount is None else amount,
        # Streaks grow with the time of exposure, from drops (4 pixels) to long threads.
        "length": round(4.0 * 22.0 ** draw.uniform(0.0, 1.0), 6),
        "width": draw.uniform(0.5, 1.6),
        "angle": draw.uniform(-40.0, 40.0),
        "turn": draw.uniform(0.5, 7.0),
        "light": _sky(draw, 0.55, 1.2),
        "veil": draw.uniform(0.0, 1.0) if draw.uniform() < 0.7 else 0.0,
        "near": draw.uniform(0.0, 1.0),
    }


def draw_snow(draw: Draw, amount: float | None = None) -> dict:
    """Draw snow of `amount` 0..1 (None: any; 0.3 is a flurry, 1 a blizzard).

    `size` scales the flakes. `length` is how far a flake at a middle distance falls, in pixels.
    """
    return {
        "kind": "snow",
        "amount": draw.uniform(0.05, 1.0) if amount is None else amount,
        "size": draw.uniform(0.6, 1.7),
        "length": round(0.5 + 16.0 * draw.uniform() ** 3, 6),
        "angle": draw.uniform(-70.0, 70.0),
        "turn": draw.uniform(5.0, 35.0),
        "light": _sky(draw, 0.8, 1.3),
        "veil": draw.uniform(0.0, 1.0) if draw.uniform() < 0.6 else 0.0,
        "near": draw.uniform(0.0, 1.0),
    }


_KNEE = 0.8


def amount_in_camera(severity: float, usual: float, power: float, most: float) -> float:
    """Return how much falls in a camera at `severity` in 0..1.

    Up to the severity `_KNEE` it is `usual * severity ** power`, fitted so that it costs as many decibels as
    the plain form of the kind. From there it climbs to `most` at severity 1.
    """
    amount = usual * min(severity, _KNEE) ** power
    beyond = max(0.0, (severity - _KNEE) / (1.0 - _KNEE))
    return round(amount * (most / amount) ** beyond if amount > 0.0 else 0.0, 6)


def apply_particles(light: torch.Tensor, params: dict, seed: int, depth: torch.Tensor) -> torch.Tensor:
    """Let rain or snow fall through linear `light` (`B 3 H W`).

    `depth` is `B 1 H W` or `1 1 H W`, 0 near to 1 far.
    """
    air = torch.tensor(params["light"]).to(light).view(1, 3, 1, 1)
    cover = particle_cover(params, seed, *sides(light), depth.cpu()).to(light)
    return light + (air - light) * cover


def particle_cover(params: dict, seed: int, height: int, width: int, depth: torch.Tensor) -> torch.Tensor:
    """Return `B 1 H W` in 0..1: the share of the exposure for which particles hide each place.

    Particles too far to be seen one by one count as a veil. The result is the truth for a map of rain or
    snow. `depth` is on the CPU. Raises ValueError for an unknown kind, or an amount outside of 0..4.
    """
    if params["kind"] not in ("rain", "snow"):
        raise ValueError(f"camera: unknown particles {params['kind']!r}; expected rain or snow")
    amount, kind = params["amount"], params["kind"]
    require(
        kind,
        params,
        amount=(0, 4),
        length=(0, 400),
        angle=(-3600, 3600),
        turn=(0, 360),
        veil=(0, 10),
        near=(0, 4),
    )
    require(kind, params, **({"width": (0.05, 20)} if kind == "rain" else {"size": (0.2, 8)}))
    generator = stream(seed)
    # Particles that are too far and too small to be seen one by one form a veil. It thickens with distance
    # and has gusts.
    gusts = 0.6 + 0.8 * fractal_noise(height, width, generator, octaves=3)
    seen = torch.exp(-amount * params["veil"] * 0.55 * gusts * depth)
    layer = _streaks if kind == "rain" else _flakes
    # Something falls in front of the nearest ground too, so near distances count as larger.
    open_air = depth.clamp_min(0.0) ** 0.4
    for distance, crowd in _LAYERS:
        if distance < 0.2:
            crowd *= 2.0 * params["near"]
        if crowd > 0.0 and amount > 0.0:
            alpha = layer(height, width, params, distance, crowd, generator)
            # The step is soft, because a layer stands for particles of several distances.
            before = ((open_air - distance) * 4.0 + 1.0).clamp(0.0, 1.0)
            seen = seen * (1.0 - alpha * before)
    return 1.0 - seen


def _streaks(
    height: int, width: int, params: dict, distance: float, crowd: float, generator: torch.Generator
) -> torch.Tensor:
    """Return the cover `H W` of one layer of rain."""
    amount, grow = params["amount"], 0.5 / (0.1 + distance)
    length, sigma = params["length"] * grow, max(0.4, params["width"] * grow * 0.5)
    longest = min(length * 1.4, 400.0)
    # Long streaks cover more than short ones, so there are fewer of them in rain of the same amount.
    density = 130.0 * crowd * amount**0.8 * (24.0 / (params["length"] + 8.0)) ** 0.7
    margin = longest / 2.0 + 2.0
    count = max(1, round(density * (height + 2 * margin) * (width + 2 * margin) / 1e4))
    points = max(4, math.ceil(longest / 0.8))
    canvas = torch.zeros(height, width)
    for start in range(0, count, max(1, _POINTS // points)):
        size = min(count - start, max(1, _POINTS // points))
        x, y, stretch, turn, bright, beat = torch.rand(6, size, 1, generator=generator)
        tilt = torch.randn(size, 1, generator=generator)
        x, y = x * (width + 2 * margin) - margin, y * (height + 2 * margin) - margin
        own = longest * (0.45 + 0.55 * stretch)
        heading = torch.deg2rad(params["angle"] + tilt * params["turn"] * 0.5)
        place = torch.linspace(-0.5, 0.5, points)[None]
        # The shutter cuts streaks off at both ends. Drops oscillate while they fall, which gives the streaks
        # knots.
        ends = ((0.5 - place.abs()) * own / (2.0 * sigma + 1.0)).clamp(0.0, 1.0)
        knots = 1.0 + 0.35 * torch.sin((place * (2.0 + 5.0 * beat) + turn) * 2.0 * math.pi)
        weight = ends * knots * (0.15 + 0.85 * bright**2) * (own / points)
        canvas += splat(
            height, width, x + place * own * heading.sin(), y + place * own * heading.cos(), weight
        )
    line = gaussian_blur(canvas[None, None], sigma)[0, 0] * (math.sqrt(2.0 * math.pi) * sigma)
    # The longer the way of a drop during the exposure, the shorter it covers each pixel. Defocus spreads near
    # drops as well.
    opacity = min(
        0.95,
        (0.5 + 0.6 * amount) * (20.0 / (params["length"] + 14.0)) ** 0.5 * min(1.0, (0.8 / sigma) ** 0.5),
    )
    return 1.0 - torch.exp(-line * opacity * min(1.0, 6.0 * amount))


def _flakes(
    height: int, width: int, params: dict, distance: float, crowd: float, generator: torch.Generator
) -> torch.Tensor:
    """Return the cover `H W` of one layer of snow.

    Stamps with the size and the ragged outline of a flake spread the paths of the flakes.
    """
    amount, grow = params["amount"], params["size"] * 0.5 / (0.1 + distance)
    density = 190.0 * crowd * amount / params["size"]
    length = params["length"] * 0.5 / (0.1 + distance)
    out = torch.ones(height, width)
    for stamp in range(_STAMPS):
        radius = grow * (0.75 + 0.9 * stamp)
        reach = math.ceil(radius * 1.6 + 1.5)
        margin = reach + length
        count = max(
            1, round(density * (0.65, 0.35)[stamp] * (height + 2 * margin) * (width + 2 * margin) / 1e4)
        )
        points = max(1, math.ceil(length * 1.2))
        canvas = torch.zeros(height, width)
        for start in range(0, count, max(1, _POINTS // points)):
            size = min(count - start, max(1, _POINTS // points))
            x, y, bright, sway = torch.rand(4, size, 1, generator=generator)
            tilt = torch.randn(size, 1, generator=generator)
            x, y = x * (width + 2 * margin) - margin, y * (height + 2 * margin) - margin
            heading = torch.deg2rad(params["angle"] + tilt * params["turn"])
            place = torch.linspace(-0.5, 0.5, points)[None] if points > 1 else torch.zeros(1, 1)
            swing = length * 0.07 * torch.sin((place + sway) * 2.0 * math.pi)
            path_x = x + place * length * heading.sin() + swing * heading.cos()
            path_y = y + place * length * heading.cos() - swing * heading.sin()
            weight = (0.35 + 0.65 * bright) / points
            canvas += splat(height, width, path_x, path_y, weight.expand(size, points))
        kernel = _stamp(radius, reach, distance, generator)
        spread = convolve(canvas[None, None], kernel / kernel.sum())[0, 0] * kernel.sum()
        # A moving flake spreads the same light over more pixels. Defocus thins out near flakes.
        opacity = 0.95 * min(1.0, 0.45 + distance)
        out = out * torch.exp(-1.6 * spread.clamp_min(0.0) * opacity * min(1.0, 6.0 * amount))
    return 1.0 - out


def _stamp(radius: float, reach: int, distance: float, generator: torch.Generator) -> torch.Tensor:
    """Return the cover `K K` of one flake: a ragged disc, sharp at a middle distance and soft when near."""
    fine = 3 if radius < 4.0 else 1
    side = 2 * reach + 1
    axis = (torch.arange(side * fine, dtype=torch.float32) + 0.5) / fine - reach - 0.5
    ragged = 0.75 + 0.5 * fractal_noise(side * fine, side * fine, generator, octaves=2, cells=3)
    away = (axis[:, None] ** 2 + axis[None] ** 2).sqrt() * (ragged if radius > 1.2 else 1.0)
    soft = 0.5 if distance > 0.2 else max(0.8, 0.35 * radius)
    cover = torch.sigmoid((radius - away) * 2.5 / soft) * (away < reach).float()
    if fine > 1:
        cover = torch.nn.functional.avg_pool2d(cover[None, None], fine)[0, 0]
    return cover


def _sky(draw: Draw, low: float, high: float) -> list:
    level, warm = draw.uniform(low, high), draw.uniform(-0.06, 0.06)
    return [round(level * (1.0 + warm), 6), round(level, 6), round(level * (1.0 - warm), 6)]
