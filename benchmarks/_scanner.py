"""The scan of an old slide: faded dyes, dust, fibres and scratches. The restorer has never seen this damage.

It is synthetic, works on tensors, and is the same for the same seed. A slide is a positive: what lies on it
stops the light and what is scraped off it lets all light through, so specks are dark or bright.
"""

from __future__ import annotations

import math

import torch
from kornia.filters import gaussian_blur2d
from torch import Tensor

AREA = 256 * 256
"""Area in pixels for which the numbers of specks and fibres are given."""


def _uniform(generator: torch.Generator, low: float, high: float, *shape: int) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator)


def scan(picture: Tensor, seed: int) -> Tensor:
    """The scan of a clean slide, both `1 3 H W`, -1..1."""
    generator = torch.Generator().manual_seed(seed)
    light = fade((picture + 1) / 2, generator)
    light = scratch(light, generator)
    light = soil(light, generator)
    return light.clamp(0, 1) * 2 - 1


def fade(light: Tensor, generator: torch.Generator) -> Tensor:
    """Dyes lose density, cyan most, so that red increases; and the base turns yellow. `1 3 H W`, 0..1.

    Density is -log10 of the transmitted light. Each dye absorbs one channel: cyan red, magenta green, yellow
    blue.
    """
    kept = torch.stack([_uniform(generator, *span) for span in ((0.45, 0.65), (0.75, 0.9), (0.6, 0.8))])
    stain = torch.stack([_uniform(generator, *span) for span in ((0.0, 0.02), (0.02, 0.05), (0.08, 0.16))])
    density = -torch.log10(light.clamp_min(0.005))
    return 10 ** -(density * kept[:, None, None] + stain[:, None, None])


def scratch(light: Tensor, generator: torch.Generator) -> Tensor:
    """Two to five long, nearly vertical scratches, coloured by the layers that they go through."""
    height, width = light.shape[2:]
    rows, columns = torch.arange(height)[:, None], torch.arange(width)[None]
    for _ in range(int(_uniform(generator, 2, 6))):
        start, lean, sway, phase = (
            _uniform(generator, *span).item()
            for span in ((0, width), (-0.06, 0.06), (0.0, 1.5), (0, 2 * math.pi))
        )
        centre = start + lean * rows + sway * torch.sin(rows / height * 2 * math.pi + phase)
        thickness = _uniform(generator, 0.5, 1.1).item()
        depth = 0.65 + 0.35 * torch.sin(rows / height * _uniform(generator, 6, 30).item() + phase)
        cover = depth * torch.exp(-(((columns - centre) / thickness) ** 2) / 2)
        tint = torch.stack(
            [_uniform(generator, 0.6, 1.0), _uniform(generator, 0.85, 1.0), _uniform(generator, 0.6, 1.0)]
        )
        light = torch.lerp(
            light, tint[None, :, None, None].expand_as(light), cover[None, None].expand_as(light)
        )
    return light


def soil(light: Tensor, generator: torch.Generator) -> Tensor:
    """Dark and bright specks of dust and a few curled fibres, slightly out of focus."""
    height, width = light.shape[2:]
    specks = round(40 * height * width / AREA)
    fibres = max(1, round(3 * height * width / AREA))
    for shade, share in ((0.04, 0.6), (0.97, 0.4)):
        cover = torch.zeros(height, width)
        for _ in range(round(specks * share)):
            _speck(cover, generator)
        for _ in range(round(fibres * share)):
            _fibre(cover, generator)
        cover = gaussian_blur2d(cover[None, None], (5, 5), (0.6, 0.6)).clamp(0, 1)
        light = torch.lerp(light, torch.full_like(light, shade), cover.expand_as(light))
    return light


def _speck(cover: Tensor, generator: torch.Generator) -> None:
    """One speck: an ellipse with a ragged border."""
    height, width = cover.shape
    radius = 0.7 + 3.0 * torch.rand((), generator=generator).item() ** 3
    turn, stretch = _uniform(generator, 0, math.pi).item(), _uniform(generator, 1.0, 2.2).item()
    reach = math.ceil(radius * stretch) + 1
    row, column = int(_uniform(generator, 0, height)), int(_uniform(generator, 0, width))
    rows = torch.arange(max(0, row - reach), min(height, row + reach + 1))
    columns = torch.arange(max(0, column - reach), min(width, column + reach + 1))
    y, x = (rows - row)[:, None].float(), (columns - column)[None].float()
    along, across = (
        (x * math.cos(turn) + y * math.sin(turn)) / stretch,
        y * math.cos(turn) - x * math.sin(turn),
    )
    distance = (along.square() + across.square()).sqrt() + _uniform(
        generator, -0.4, 0.4, len(rows), len(columns)
    )
    inside = cover[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    torch.maximum(inside, (radius + 0.5 - distance).clamp(0, 1), out=inside)


def _fibre(cover: Tensor, generator: torch.Generator) -> None:
    """One fibre: a curve through three random points, about a pixel wide."""
    height, width = cover.shape
    length = _uniform(generator, 20, 60).item()
    start = _uniform(generator, 0, 1, 2) * torch.tensor([height, width])
    bend, end = (
        start + _uniform(generator, -length, length, 2),
        start + _uniform(generator, -length, length, 2),
    )
    t = torch.linspace(0, 1, 400)[:, None]
    path = ((1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * end).round().long()
    path = path[(path[:, 0] >= 0) & (path[:, 0] < height) & (path[:, 1] >= 0) & (path[:, 1] < width)]
    cover[path[:, 0], path[:, 1]] = 0.9
