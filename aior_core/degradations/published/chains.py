"""Second-order chains: blur, resizing, noise and JPEG, twice.

Pictures that are taken, sent, stored and sent again go through such chains. Severity scales every step, and
at 1 the ranges are those of the papers. A picture keeps its size: what was reduced is enlarged at the end.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from ..blur import convolve
from ..draw import Draw
from ..fields import stream
from ..jpeg import compress_jpeg
from .kernels import FORMS, kernel_of
from .plain import SUBSAMPLINGS
from .style import Style

STEPS = ("blur", "resize", "noise", "jpeg")
FILTERS = ("area", "bilinear", "bicubic")
_LARGEST = 1.5
"""No step enlarges a picture beyond this many times its own sides: twice as large, twice, takes 16 times the
memory."""
NOISES = ("color", "grey", "poisson", "grey_poisson")


def _noisy(picture: torch.Tensor, sigma: float, form: str, generator: torch.Generator) -> torch.Tensor:
    """Add noise of `sigma` of 255, Gaussian or Poisson, in colour or equal in all channels.

    The sigma of Poisson noise is that at mid-grey.
    """
    _, channels, height, width = picture.shape
    grey = form in ("grey", "grey_poisson")
    noise = torch.randn(1 if grey else channels, height, width, generator=generator).to(picture)
    if form.endswith("poisson"):
        light = picture.mean(1, keepdim=True) if grey else picture
        noise = noise * (2.0 * light.clamp(0.0, 1.0)).sqrt()
    return (picture + noise * (sigma / 255.0)).clamp(0.0, 1.0)


def _resized(picture: torch.Tensor, size: tuple, filter_name: str) -> torch.Tensor:
    if tuple(picture.shape[-2:]) == size:
        return picture
    if filter_name == "area":
        return F.interpolate(picture, size=size, mode="area")
    return F.interpolate(picture, size=size, mode=filter_name, align_corners=False, antialias=True).clamp(
        0.0, 1.0
    )


def _chained(picture: torch.Tensor, params: dict, seed: int) -> torch.Tensor:
    """Apply the steps in the order of `order`.

    The numbers 0 to 3 are `STEPS` for the first time, 4 to 7 for the second.
    """
    height, width = picture.shape[-2:]
    generator = stream(seed)
    current = picture.float()
    order = params["order"]
    if len(set(order)) != len(order) or any(number != int(number) for number in order):
        raise ValueError(f"degradations: order of a chain is {order}; expected whole numbers, each once")
    for number in order:
        step, turn = STEPS[int(number) % 4], int(number) // 4
        if step == "blur":
            shape = (params[name][turn] for name in ("sigma", "ratio", "angle", "beta"))
            current = convolve(current, kernel_of(params[f"form{turn}"], *shape)).clamp(0.0, 1.0)
        elif step == "resize":
            turned = zip(current.shape[-2:], (height, width))
            size = tuple(
                max(1, min(round(side * params["scale"][turn]), math.ceil(_LARGEST * own)))
                for side, own in turned
            )
            current = _resized(current, size, params[f"filter{turn}"])
        elif step == "noise":
            current = _noisy(current, params["noise"][turn], params[f"kind{turn}"], generator)
        elif params["quality"][turn] < 100:
            file = {"quality": params["quality"][turn], "subsampling": params[f"subsampling{turn}"]}
            current = compress_jpeg(current, file, 0)
    current = _resized(current, (height, width), "bicubic")
    return convolve(current, kernel_of("sinc", params["ringing"], 1.0, 0.0, 1.0)).to(picture.dtype)


def _labels(params: dict) -> dict:
    """Return the severities of the four kinds.

    They are those of the blurs and noises of both turns together, of the smallest size, and of the lowest
    quality.
    """
    first, second = params["scale"]
    scale = max(1.0, 1.0 / min(first, first * second))
    spread = (params["sigma"][0] ** 2 + (params["sigma"][1] / min(first, 1.0)) ** 2) ** 0.5
    noise = (params["noise"][1] ** 2 + (params["noise"][0] * min(1.0, second)) ** 2) ** 0.5
    said = {
        "blur": spread / 3.2,
        "low_resolution": (scale - 1.0) / 3.0,
        "noise": noise / 60.0,
        "jpeg": (100 - min(params["quality"])) / 90.0,
    }
    return {kind: round(min(1.0, severity), 6) for kind, severity in said.items() if severity > 0.0}


_LIMITS = {
    "order": (0, 7, 1, 8),
    "sigma": (0.0, 10.0, 2, 2),
    "ratio": (0.0, 1.0, 2, 2),
    "angle": (-180.0, 180.0, 2, 2),
    "beta": (0.2, 8.0, 2, 2),
    "scale": (0.05, 2.0, 2, 2),
    "noise": (0.0, 100.0, 2, 2),
    "quality": (1, 100, 2, 2),
    "ringing": (0.0, 4.0),
}
_CHOICES = {
    f"{name}{turn}": options
    for turn in (0, 1)
    for name, options in (
        ("form", FORMS),
        ("filter", FILTERS),
        ("kind", NOISES),
        ("subsampling", SUBSAMPLINGS),
    )
}


def _draw_turn(
    draw: Draw, severity: float, turn: int, sigma: float, scale: tuple, noise: float, forms: tuple
) -> dict:
    """Draw the parameters of one turn.

    `scale` holds the shares of enlarging and reducing, and the largest and smallest factor.
    """
    form = draw.choice(FORMS, forms)
    up, down, largest, smallest = scale
    factor = draw.choice(
        (draw.uniform(1.0, largest), draw.uniform(smallest, 1.0), 1.0), (up, down, 1.0 - up - down)
    )
    quality = draw.uniform(30.0, 95.0)
    return {
        f"form{turn}": form,
        "sigma": round(
            severity * (draw.uniform(1.0, 3.0) if form == "sinc" else draw.uniform(0.2, sigma)), 6
        ),
        "ratio": draw.uniform(0.2, 1.0) if draw.uniform() < 0.4 else 1.0,
        "angle": draw.uniform(-90.0, 90.0),
        "beta": draw.uniform(1.0, 2.0) if form == "plateau" else draw.uniform(0.5, 4.0),
        # The severity is a share of the logarithm: half as severe is the square root of the factor.
        "scale": round(factor**severity, 6),
        f"filter{turn}": draw.choice(FILTERS),
        "noise": round(severity * draw.uniform(1.0, noise), 6),
        f"kind{turn}": draw.choice(NOISES, (0.35, 0.25, 0.25, 0.15)),
        "quality": int(round(100.0 - severity * (100.0 - quality))),
        f"subsampling{turn}": draw.choice(SUBSAMPLINGS, (0.8, 0.2)),
    }


def _both(first: dict, second: dict) -> dict:
    """Join two turns: a parameter without a number in its name becomes a list of two."""
    return {
        **{name: value for turn in (first, second) for name, value in turn.items() if name[-1] in "01"},
        **{name: [first[name], second[name]] for name in first if name[-1] not in "01"},
    }


def _shuffled(draw: Draw, items: list) -> list:
    order = list(items)
    for last in range(len(order) - 1, 0, -1):
        other = draw.index([1.0] * (last + 1))
        order[last], order[other] = order[other], order[last]
    return order


def _draw_realesrgan(draw: Draw, severity: float) -> dict:
    forms = (0.63, 0.13, 0.14, 0.1)
    first = _draw_turn(draw, severity, 0, 3.0, (0.2, 0.7, 1.5, 0.25), 30.0, forms)
    second = _draw_turn(draw, severity, 1, 1.5, (0.3, 0.4, 1.2, 0.5), 25.0, forms)
    if draw.uniform() < 0.2:
        second["sigma"] = 0.0
    # The last resizing comes before JPEG and ringing, or after JPEG.
    order = [0, 1, 2, 3, 4, 5, 6, 7] if draw.uniform() < 0.5 else [0, 1, 2, 3, 4, 6, 7, 5]
    ringing = severity * draw.uniform(1.0, 2.5) if draw.uniform() < 0.8 else 0.0
    return {"order": order, **_both(first, second), "ringing": round(ringing, 6)}


def _draw_bsrgan(draw: Draw, severity: float) -> dict:
    forms = (1.0, 0.0, 0.0, 0.0)
    first = _draw_turn(draw, severity, 0, 2.8, (0.2, 0.7, 2.0, 0.25), 25.0, forms)
    second = _draw_turn(draw, severity, 1, 2.8, (0.2, 0.7, 1.5, 0.5), 25.0, forms)
    # One noise and one JPEG are part of the shuffle. The last step is always JPEG.
    if draw.uniform() < 0.5:
        second["noise"] = 0.0
    order = [*_shuffled(draw, [0, 1, 2, 3, 4, 5, 6]), 7]
    return {"order": order, **_both(first, second), "ringing": 0.0}


STYLES = {
    "realesrgan": Style(
        "mixture",
        "Wang et al., Real-ESRGAN, ICCVW 2021: twice blur, resizing, noise and JPEG, with filters that ring",
        _draw_realesrgan,
        _chained,
        _LIMITS,
        _CHOICES,
        (0.2, 1.0),
        said=_labels,
    ),
    "bsrgan": Style(
        "mixture",
        "Zhang et al., Designing a Practical Degradation Model (BSRGAN), ICCV 2021: shuffled, JPEG last",
        _draw_bsrgan,
        _chained,
        _LIMITS,
        _CHOICES,
        (0.2, 1.0),
        said=_labels,
    ),
}
