"""Blur: of a lens out of focus, of a soft lens, of a camera that moved."""

from ..blur import apply_blur
from ..degradation import Degradation
from ..draw import Draw
from ..limits import ANGLE, SMALL

SHAPES = ("gaussian", "disc", "motion")


def _sample(draw: Draw) -> tuple[float, dict]:
    return draw.uniform(*DEGRADATION.severities), {
        "shape": draw.choice(SHAPES, (0.5, 0.2, 0.3)),
        "angle": draw.uniform(0.0, 180.0),
        "bend": draw.uniform(0.0, 1.0),
    }


DEGRADATION = Degradation(
    name="blur", number=1, label="blur", steered="Blur, of lens or motion", trained="blur",
    meaning="as wide as a Gaussian of 3.2 pixels: a disc of radius 6.4, a path of 16 pixels",
    primary="sigma", line=(0.0, 3.2), severities=(0.12, 1.0), rank=2,
    typical={"shape": "gaussian", "angle": 30.0, "bend": 0.4},
    sample=_sample, apply=apply_blur,
    limits={"sigma": (0.0, 32.0), "angle": ANGLE, "bend": SMALL}, choices={"shape": SHAPES},
    shares={
        "any": 0.72 / 7.0, "training": 0.17, "training of three": 0.08, "keep": 0.06, "maps": 0.2, "tone": 0.02,
        "polish": 0.12, "hold": 0.05,
    },
    validation={"blur": (0.5, {})},
)  # fmt: skip
