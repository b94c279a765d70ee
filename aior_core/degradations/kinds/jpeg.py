"""JPEG: blocks, rings, and colours that run."""

from ..degradation import Degradation
from ..draw import Draw
from ..jpeg import compress_jpeg

SUBSAMPLINGS = ("4:2:0", "4:4:4")


def _sample(draw: Draw) -> tuple[float, dict]:
    severity = draw.uniform(*DEGRADATION.severities)
    style = {"subsampling": draw.choice(SUBSAMPLINGS, (0.75, 0.25))}
    if draw.uniform() < 0.33:
        severity = draw.uniform(7.0 / 9.0, 1.0)  # quality 10 to 30: above it there is little to repair
    return severity, style


DEGRADATION = Degradation(
    name="jpeg", number=7, label="JPEG", steered="JPEG blocks and rings", trained="JPEG compression",
    meaning="quality 10",
    primary="quality", line=(100.0, -90.0), whole=True, severities=(1.0 / 9.0, 1.0), rank=5,
    typical={"subsampling": "4:2:0"},
    sample=_sample, apply=compress_jpeg,
    limits={"quality": (1.0, 100.0)}, choices={"subsampling": SUBSAMPLINGS},
    shares={
        "any": 0.72 / 7.0, "training": 0.15, "training of three": 0.06, "keep": 0.1, "maps": 0.07, "tone": 0.02,
        "polish": 0.4, "hold": 0.03,
    },
    validation={"jpeg10": (0.6, {"quality": 10})},
    anchor_start=-0.2,
)  # fmt: skip
