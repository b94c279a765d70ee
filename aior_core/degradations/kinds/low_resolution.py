"""Low resolution: reduced by a factor and enlarged again to the same size."""

import torch
import torch.nn.functional as F

from ..camera.transport import KERNELS as REDUCING
from ..camera.transport import apply_transport
from ..degradation import Degradation
from ..draw import Draw
from ..photograph import NestedStyle
from ..published import of_kind


def lower_resolution(picture: torch.Tensor, params: dict, seed: int) -> torch.Tensor:
    """Reduce `picture` (`B C H W`, 0..1) by `params["scale"]` with an antialiased kernel, and enlarge it
    bicubically.

    Sizes that the factor does not divide are rounded, as image editors do. Nothing is random, so `seed` is
    unused.
    """
    height, width = picture.shape[-2:]
    small = (max(1, round(height / params["scale"])), max(1, round(width / params["scale"])))
    if small == (height, width):
        return picture
    if params["kernel"] == "area":
        reduced = F.interpolate(picture, size=small, mode="area")
    else:
        reduced = F.interpolate(
            picture, size=small, mode=params["kernel"], align_corners=False, antialias=True
        )
    return F.interpolate(reduced.clamp(0.0, 1.0), size=(height, width), mode="bicubic", align_corners=False)


def _draw_reduction(draw: Draw, severity: float) -> dict:
    """Draw a reduction by any kernel, after the sensor, and an enlargement by another."""
    scale = 1.0 + 3.0 * severity
    reduced = {
        "do": "resize",
        "size": round(1.0 / scale, 6),
        "kernel": draw.choice(REDUCING, (0.3, 0.2, 0.2, 0.2, 0.1)),
    }
    return {
        "scale": round(scale, 6),
        "steps": [reduced],
        "enlarge": draw.choice(REDUCING, (0.45, 0.25, 0.0, 0.2, 0.1)),
    }


REDUCED = NestedStyle(
    "low_resolution",
    "reduced by any kernel after the sensor, enlarged by another",
    _draw_reduction,
    lambda picture, params, seed: apply_transport(picture, params, seed),
    {"scale": (1.0, 16.0), "size": (0.05, 1.0)},
    severities=(0.1, 1.0),
    share=4.0,
    rank=4.5,
)
KERNELS = ("bicubic", "area", "bilinear")


def _sample(draw: Draw) -> tuple[float, dict]:
    severity = draw.uniform(*DEGRADATION.severities)
    style = {"kernel": draw.choice(KERNELS, (0.5, 0.3, 0.2))}
    if draw.uniform() < 0.5:
        severity = draw.choice((1.0 / 3.0, 2.0 / 3.0, 1.0))  # whole factors are what people meet most
    return severity, style


DEGRADATION = Degradation(
    name="low_resolution",
    number=2,
    label="low resolution",
    steered="Low resolution",
    trained="low resolution",
    meaning="four times smaller, and enlarged again",
    primary="scale",
    line=(1.0, 3.0),
    severities=(1.0 / 3.0, 1.0),
    mild=(0.08, 0.25),
    rank=3,
    typical={"kernel": "bicubic"},
    sample=_sample,
    apply=lower_resolution,
    styles={"reduced": REDUCED, **of_kind("low_resolution")},
    limits={"scale": (1.0, 64.0)},
    choices={"kernel": KERNELS},
    shares={
        "any": 0.72 / 7.0,
        "training": 0.08,
        "training of three": 0.05,
        "keep": 0.06,
        "maps": 0.12,
        "tone": 0.02,
        "polish": 0.12,
        "hold": 0.05,
    },
    validation={"x4": (1.0, {"scale": 4, "kernel": "bicubic"})},
)
