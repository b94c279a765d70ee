"""Lines that fall through a picture: separate streaks, drawn one by one, and textures of motion-blurred
noise.
"""

from __future__ import annotations

import math

import torch

from ..blur import gaussian_blur
from ..fields import sides, splat

_STEP = 0.7
_POINTS = 2_000_000
"""Points of streaks that are placed at once. It bounds the memory."""


def streaks(
    height: int,
    width: int,
    generator: torch.Generator,
    *,
    cover: float,
    angles: list,
    spread: float,
    length: list,
    thick: list,
    faint: float = 0.5,
    taper: float = 0.2,
) -> torch.Tensor:
    """Return a layer `H W` of separate streaks whose mean square over many pictures is 1.

        cover: area of the streaks over that of the picture.
        angles: lean from the vertical in degrees, one per direction of the rain.
        spread: standard deviation of single streaks from their direction, in degrees.
        length: shortest and longest, in pixels.
        thick: thinnest and thickest, in pixels: the full width at half maximum of the Gaussian cross-section.
        faint: brightness of the faintest streak over that of the brightest.
        taper: share of the length over which either end fades.

    More `cover` adds streaks to those that less of it draws. A layer without cover is 0.
    """
    if cover <= 0.0:
        return torch.zeros(height, width)
    low, high = length
    sigmas = [max(0.5, value / 2.355) for value in thick]
    mean_length, body = (low + high) / 2.0, 1.0 - taper
    per_area = cover / (mean_length * body * (thick[0] + thick[1]) / 2.0)
    margin = high / 2.0 + 3.0 * sigmas[1]
    tall, wide = height + 2.0 * margin, width + 2.0 * margin
    count = max(1, round(per_area * tall * wide))
    direction = torch.tensor(angles)[torch.arange(count) // 2 % len(angles)]
    drawn = torch.cat((torch.rand(count, 6, generator=generator), direction[:, None]), 1)
    layer = torch.zeros(height, width)
    # Two canvases, one per thickness, because one blur applies to a whole canvas.
    for group, sigma in enumerate(sigmas):
        canvas = torch.zeros(height, width)
        for part in drawn[group::2].split(max(1, int(_POINTS * _STEP / high))):
            x, y, stretch, turn, other, bright, lean = part.t()[..., None]
            reach = low + (high - low) * stretch
            # The sum of two uniform numbers is close to a normal one, and bounded.
            heading = torch.deg2rad(lean + (turn + other - 1.0) * spread * math.sqrt(6.0))
            points = torch.linspace(-0.5, 0.5, max(4, math.ceil(high / _STEP)))[None]
            profile = ((0.5 - points.abs()) / max(taper, 1e-3)).clamp(0.0, 1.0)
            weight = profile * (faint + (1.0 - faint) * bright) * (reach / points.shape[1])
            along_x, along_y = points * reach * heading.sin(), points * reach * heading.cos()
            canvas += splat(height, width, x * wide - margin + along_x, y * tall - margin + along_y, weight)
        # Sharing a point among four pixels has spread it by a variance of 1/6 already.
        blur = math.sqrt(sigma**2 - 1.0 / 6.0)
        layer += gaussian_blur(canvas[None, None], blur)[0, 0] * (math.sqrt(2.0 * math.pi) * sigma)
    return layer / _root_mean_square(per_area, mean_length, sigmas, faint, taper)


def _root_mean_square(per_area: float, length: float, sigmas: list, faint: float, taper: float) -> float:
    """Return the root mean square of streaks of peak 1 at random places.

    It follows from Campbell's theorem for the mean and variance of a shot-noise field.
    """
    sigma = sum(sigmas) / len(sigmas)
    mean_light, mean_square_light = (1.0 + faint) / 2.0, (1.0 + faint + faint**2) / 3.0
    variance = per_area * mean_square_light * length * (1.0 - 4.0 / 3.0 * taper) * sigma * math.sqrt(math.pi)
    mean = per_area * mean_light * length * (1.0 - taper) * sigma * math.sqrt(2.0 * math.pi)
    return math.sqrt(variance + mean**2)


def blurred_specks(
    height: int,
    width: int,
    generator: torch.Generator,
    *,
    grain: float,
    angle: float,
    length: float,
    sparse: float,
) -> torch.Tensor:
    """Return `H W` of mean 0 and variance 1: specks of noise, blurred along a line, as rain in an image
    editor.

    grain: size of the specks, in pixels.
        angle: lean of the line from the vertical, in degrees.
        length: of the line, in pixels.
        sparse: share of places without a speck; 0 is plain white noise.

    Both blurs are done in the frequency domain. They wrap around, which stationary noise does not show.
    """
    specks = torch.rand(height, width, generator=generator)
    specks = ((specks - sparse) / max(1.0 - sparse, 1e-3)).clamp_min(0.0)
    response = _line_response(height, width, angle, length, grain / 2.355)
    response[0, 0] = 0.0
    field = torch.fft.irfft2(torch.fft.rfft2(specks) * response, s=(height, width))
    return field / field.std(correction=0).clamp_min(1e-6)


def line_blurred(layer: torch.Tensor, angle: float, length: float) -> torch.Tensor:
    """Blur `H W` along a line of `length` pixels that leans by `angle` degrees from the vertical.

    Light that leaves at one border enters at the other, which does not matter where things lie at random.
    """
    if length <= 0.0:
        return layer
    response = _line_response(*sides(layer), angle, length, 0.0)
    return torch.fft.irfft2(torch.fft.rfft2(layer) * response, s=layer.shape)


def _line_response(height: int, width: int, angle: float, length: float, sigma: float) -> torch.Tensor:
    """Return the frequency response, in the order of `rfft2`, of a line and a Gaussian of `sigma` pixels."""
    down, right = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None]
    lean = math.radians(angle)
    line = torch.sinc((down * math.cos(lean) + right * math.sin(lean)) * length)
    return line * torch.exp(-2.0 * (math.pi * sigma) ** 2 * (down.square() + right.square()))
