"""Development: white balance, colour matrix, saturation, tone curve, noise reduction and sharpening.

`to_raw` and `from_raw` are exact inverses, and so are `curves.tone` and `curves.untone`. A camera without any
fault therefore returns the picture. The curve and the matrix decide how damage looks: where noise is strong,
which colour it has, and how lamps clip.
"""

import math

import torch
import torch.nn.functional as F

from ..blur import gaussian_blur
from ..draw import Draw
from ..jpeg import from_ycc, to_ycc
from .chance import normal, require
from .curves import slopes, tone, untone

# Typical matrix from white-balanced camera RGB to linear sRGB. The rows sum to 1. It is the rounded mean of
# several hundred published matrices. A camera's own matrix differs in the strength of all off-diagonals and a
# little in each of them.
_MATRIX = ((1.61, -0.49, -0.12), (-0.16, 1.55, -0.39), (0.01, -0.45, 1.44))
NO_COLOR = {
    "white": [1.0, 1.0, 1.0],
    "matrix": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
    "saturation": 1.0,
}
NO_DENOISE = {"luma": 0.0, "chroma": 0.0, "soft": 0.0, "smooth": 0.0, "levels": 0, "noise": []}
NO_SHARPEN = {"amount": 0.0, "sigma": 1.0, "core": 0.0}
NOISE_LEVELS = 9
"""Number of display values, evenly from 0 to 1, at which a camera knows its noise."""
MOST_NOISE = 0.3
"""Largest standard deviation (0..1) that the camera's table of its own noise holds."""


def draw_color(draw: Draw) -> dict:
    """Draw the gains of red and blue between lamp light and shade, a colour matrix, and a saturation."""
    warmth = draw.uniform(-1.0, 1.0)
    red = math.exp(0.66 + 0.3 * warmth + normal(draw, 0.0, 0.13))
    # Lamp light has little blue. Its gain rises to three, and the noise of blue rises with it.
    blue = math.exp(0.52 - (0.34 if warmth > 0.0 else 0.42) * warmth + normal(draw, 0.0, 0.13))
    strength = max(0.2, normal(draw, 1.0, 0.25, 2.0))
    matrix = []
    for row in range(3):
        others = [
            _MATRIX[row][column] * strength + normal(draw, 0.0, 0.05, 2.0) if column != row else 0.0
            for column in range(3)
        ]
        matrix += [round(1.0 - sum(others) if column == row else others[column], 6) for column in range(3)]
    saturation = draw.uniform(0.9, 1.25)
    return {"white": [round(red, 6), 1.0, round(blue, 6)], "matrix": matrix, "saturation": saturation}


def draw_finish(draw: Draw) -> dict:
    """Draw `{"denoise": ..., "sharpen": ...}`: how a camera reduces noise and sharpens.

    A third of the cameras are phones, which do more of both.
    """
    strong = 1.4 if draw.uniform() < 0.35 else 1.0
    plain = draw.uniform() < 0.08
    luma = 0.0 if plain or draw.uniform() < 0.3 else round(draw.uniform(0.1, 0.6) * strong, 6)
    denoise = {
        # `luma` and `chroma` are thresholds in standard deviations of the noise. `soft` and `smooth` are the
        # spreads in pixels of the Gaussians that smooth luma and chroma. Chroma always loses more than luma.
        # Otherwise the channels would correlate negatively, which no camera file shows.
        "luma": luma,
        "chroma": 0.0 if plain else round(luma + draw.uniform(0.0, 0.4) * strong, 6),
        "soft": 0.0 if plain or draw.uniform() < 0.2 else draw.uniform(0.4, 0.8),
        "smooth": 0.0 if plain else round(draw.uniform(1.3, 3.3) + luma, 6),
        "levels": draw.choice((1, 2, 3), (0.6, 0.3, 0.1)),
        "noise": [],
    }
    if not plain:
        denoise = _exceptional(draw, denoise)
    sharpen = dict(NO_SHARPEN)
    if draw.uniform() < 0.7:
        sharpen = {
            "amount": round(draw.uniform(0.1, 0.7) * strong, 6),
            "sigma": draw.uniform(0.6, 1.4),
            "core": draw.uniform(0.0, 1.0),
        }
    return {"denoise": denoise, "sharpen": sharpen}


def _exceptional(draw: Draw, denoise: dict) -> dict:
    """Let one noise reduction in eight leave no colour in the noise, and one in ten only blotches.

    Real camera files show both. The channels of their noise correlate by up to 0.98, and pixels at a distance
    of four by up to 0.38.
    """
    if draw.uniform() < 0.12:
        denoise = {**denoise, "chroma": max(denoise["chroma"], 1.0), "smooth": draw.uniform(4.0, 6.0)}
    if draw.uniform() < 0.1:
        luma = draw.uniform(0.8, 1.6)
        blotches = {"luma": luma, "chroma": max(denoise["chroma"], luma), "levels": draw.choice((2, 3))}
        denoise = {**denoise, **blotches, "soft": max(denoise["soft"], 0.6)}
    return denoise


def to_raw(light: torch.Tensor, color: dict) -> torch.Tensor:
    """Convert linear sRGB light (`B 3 H W`) to camera RGB: undo the matrix, then the white balance."""
    return _mix(light, torch.linalg.inv(_matrix(color))) / _row(color["white"], light)


def from_raw(raw: torch.Tensor, color: dict) -> torch.Tensor:
    """Convert camera RGB (`B 3 H W`) to linear sRGB light: white balance, then matrix."""
    return _mix(raw * _row(color["white"], raw), _matrix(color))


def expected_noise(sensor: dict, color: dict, curve: dict, levels: int = NOISE_LEVELS) -> list[float]:
    """Return the standard deviation (0..1) of the sensor's noise in developed green, before reduction.

    There is one value for each of `levels` display values, evenly from 0 to 1. A camera knows this much of
    its own noise, and it sets the thresholds of its noise reduction accordingly.
    """
    share = _matrix(color)[1].tolist()
    display = torch.linspace(0.0, 1.0, levels)[None, None].expand(1, 3, 1, levels)
    light = untone(display, curve)[0, 1, 0].tolist()
    noise = []
    for level, steep in zip(light, slopes(light, curve)):
        variance = 0.0
        for part, white, a, b in zip(share, color["white"], sensor["a"], sensor["b"]):
            variance += (part * white) ** 2 * (a * level / white + b)
        noise.append(round(min(MOST_NOISE, math.sqrt(variance) * steep), 8))
    return noise


def develop_light(
    light: torch.Tensor, curve: dict, denoise: dict = NO_DENOISE, sharpen: dict = NO_SHARPEN
) -> torch.Tensor:
    """Develop linear sRGB light (`B 3 H W`, from 0) to display values in 0..1.

    Noise reduction and sharpening act on display values, on luma and chroma separately, as cameras do. Raises
    ValueError for a parameter beyond its limits.
    """
    require("sharpening", sharpen, amount=(0, 10), sigma=(0.1, 32), core=(0, 100))
    known = denoise["noise"]
    reduces = bool(known) and any(denoise[name] > 0.0 for name in ("luma", "chroma", "soft", "smooth"))
    if not reduces and sharpen["amount"] <= 0.0:
        return tone(light, curve)
    # Noise is reduced before it is clipped. If it were clipped first, red and blue, which have more of it,
    # would lose more at white and gain more at black: skies would turn green and shadows purple.
    planes = to_ycc(_tone_beyond(light, curve) if reduces else tone(light, curve))
    if reduces:
        planes = reduce_noise(planes, denoise)
    if sharpen["amount"] > 0.0:
        luma = _sharpen(planes[:, :1], sharpen, known[len(known) // 2] if known else 0.0)
        planes = torch.cat((luma, planes[:, 1:]), 1)
    return from_ycc(planes).clamp(0.0, 1.0)


def reduce_noise(planes: torch.Tensor, params: dict) -> torch.Tensor:
    """Shrink small wavelet coefficients of luma and chroma (`B 3 H W`), then smooth both.

    The transform is the undecimated one with the cubic B-spline (Starck, Fadili and Murtagh, "The Undecimated
    Wavelet Decomposition and its Reconstruction", IEEE TIP 2007). The soft thresholds follow the noise at
    each brightness and halve from level to level, so what is left is smooth and blotchy as in camera files.
    """
    require(
        "noise reduction", params, luma=(0, 10), chroma=(0, 10), soft=(0, 32), smooth=(0, 32), levels=(0, 6)
    )
    base, details = planes, []
    sigma = (
        _noise_at(planes[:, :1], params["noise"])
        if params["levels"] and (params["luma"] or params["chroma"])
        else 0.0
    )
    for level in range(params["levels"]):
        smoother = _spline(base, 2**level)
        limit = sigma * 0.5**level * _row((params["luma"], params["chroma"], params["chroma"]), base)
        detail = base - smoother
        details.append(detail.sign() * (detail.abs() - limit).clamp_min(0.0))
        base = smoother
    planes = base + sum(details) if details else base
    luma, chroma = planes[:, :1], planes[:, 1:]
    if params["soft"] > 0.0:
        luma = gaussian_blur(luma, params["soft"], "reflect")
    if params["smooth"] > 0.0:
        chroma = gaussian_blur(chroma, params["smooth"], "reflect")
    return torch.cat((luma, chroma), 1)


def _noise_at(luma: torch.Tensor, noise: list) -> torch.Tensor:
    """Look up the noise (`B 1 H W`) at the local mean of `luma` in a table over display values."""
    table = torch.tensor(noise).to(luma)
    place = _spline(_spline(luma, 1), 2).clamp(0.0, 1.0) * (len(noise) - 1)
    below = place.floor().clamp_max(len(noise) - 2)
    start = table[below.long()]
    return start + (table[below.long() + 1] - start) * (place - below)


def _tone_beyond(light: torch.Tensor, curve: dict) -> torch.Tensor:
    """Apply the tone curve to light in -1..2, continued by point reflection at its ends."""
    below, above = light < 0.0, light > 1.0
    display = tone(torch.where(below, -light, torch.where(above, 2.0 - light, light)), curve)
    return torch.where(below, -display, torch.where(above, 2.0 - display, display))


def _sharpen(luma: torch.Tensor, params: dict, noise: float) -> torch.Tensor:
    """Sharpen by an unsharp mask: add `amount` of what a Gaussian of `sigma` takes away."""
    detail = luma - gaussian_blur(luma, params["sigma"], "reflect")
    # Cameras leave the smallest differences alone (coring). Otherwise flat areas would sparkle.
    cored = detail.sign() * (detail.abs() - params["core"] * 0.3 * noise).clamp_min(0.0)
    return luma + params["amount"] * cored


def _spline(picture: torch.Tensor, step: int) -> torch.Tensor:
    """Smooth `B C H W` by the cubic B-spline with holes: taps 1 4 6 4 1 over 16, `step` pixels apart."""
    channels = picture.shape[1]
    taps = (torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16.0).to(picture)
    row, column = (taps.view(shape).expand(channels, *shape[1:]) for shape in ((1, 1, 1, 5), (1, 1, 5, 1)))
    wide = F.pad(picture, (2 * step, 2 * step, 0, 0), mode="replicate")
    smooth = F.conv2d(wide, row, dilation=(1, step), groups=channels)
    tall = F.pad(smooth, (0, 0, 2 * step, 2 * step), mode="replicate")
    return F.conv2d(tall, column, dilation=(step, 1), groups=channels)


def _matrix(color: dict) -> torch.Tensor:
    """Return `3 3` in double precision: the camera's matrix, then saturation."""
    grey = torch.tensor([0.2126, 0.7152, 0.0722], dtype=torch.float64).expand(3, 3)
    saturate = grey + color["saturation"] * (torch.eye(3, dtype=torch.float64) - grey)
    return saturate @ torch.tensor(color["matrix"], dtype=torch.float64).view(3, 3)


def _mix(picture: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    return torch.einsum("oc,bchw->bohw", matrix.to(picture), picture)


def _row(values, like: torch.Tensor) -> torch.Tensor:
    """Return numbers as `1 C 1 1`, of the dtype and device of `like`."""
    return torch.tensor(values).to(like).view(1, -1, 1, 1)
