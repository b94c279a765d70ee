"""Blur: of a lens out of focus, of a soft lens, of a camera that moved.

The severity is sigma over 3.2 pixels, and it saturates: a blur of 3.2 pixels or more has severity 1. The
plain form ends there. In the camera the sigma climbs on to 13 pixels, a path of 64, and all of these count as
1.
"""

from ..blur import apply_blur
from ..camera.optics import apply_optics, blur_map, draw_optics
from ..degradation import Degradation
from ..draw import Draw
from ..fields import sides
from ..limits import ANGLE, SMALL
from ..photograph import CameraStyle
from ..published import of_kind

_KNEE, _WIDEST = 0.8, 13.0
"""Up to the severity `_KNEE` sigma is 3.2 times the severity. From there it climbs to `_WIDEST`, a path of 64
pixels."""


def sigma_of(severity: float) -> float:
    """Return the spread in pixels of a blur in the camera, for the severity that is asked for."""
    usual = DEGRADATION.line[1] * min(severity, _KNEE)
    return round(
        usual * (_WIDEST / usual) ** max(0.0, (severity - _KNEE) / (1.0 - _KNEE)) if usual > 0.0 else 0.0, 6
    )


def _draw_optics(draw: Draw, severity: float, camera: dict | None) -> dict:
    return {"sigma": sigma_of(severity), "optics": draw_optics(draw, sigma_of(severity))}


def _where(params: dict, seed: int, depth):
    spread = blur_map(params["optics"], seed, *sides(depth), depth)
    return spread / spread.max().clamp_min(1e-6)


CAMERA = CameraStyle(
    "blur",
    "lens and motion in linear light: whole, of single things, by distance",
    _draw_optics,
    lambda light, params, seed, depth: apply_optics(light, params["optics"], seed, depth),
    {
        "sigma": (0.0, 64.0),
        "stretch": (0.2, 4.0),
        "blades": (0, 12),
        "bend": SMALL,
        "shake": SMALL,
        "rest": SMALL,
        "size": (0.01, 3.0),
    },
    severities=(0.12, 1.0),
    where=_where,
    share=4.0,
    takes_depth=True,
    averaged=True,
)
SHAPES = ("gaussian", "disc", "motion")


def _sample(draw: Draw) -> tuple[float, dict]:
    return draw.uniform(*DEGRADATION.severities), {
        "shape": draw.choice(SHAPES, (0.5, 0.2, 0.3)),
        "angle": draw.uniform(0.0, 180.0),
        "bend": draw.uniform(0.0, 1.0),
    }


DEGRADATION = Degradation(
    name="blur",
    number=1,
    label="blur",
    steered="Blur from lens or motion",
    trained="blur",
    meaning="as wide as a Gaussian of 3.2 pixels: a disc of radius 6.4, a path of 16 pixels",
    primary="sigma",
    line=(0.0, 3.2),
    severities=(0.12, 1.0),
    mild=(0.125, 0.25),
    rank=2,
    typical={"shape": "gaussian", "angle": 30.0, "bend": 0.4},
    sample=_sample,
    apply=apply_blur,
    styles={"camera": CAMERA, **of_kind("blur")},
    limits={"sigma": (0.0, 32.0), "angle": ANGLE, "bend": SMALL},
    choices={"shape": SHAPES},
    shares={
        "any": 0.72 / 7.0,
        "training": 0.17,
        "training of three": 0.08,
        "keep": 0.06,
        "maps": 0.2,
        "tone": 0.02,
        "polish": 0.12,
        "hold": 0.05,
    },
    validation={"blur": (0.5, {})},
)
