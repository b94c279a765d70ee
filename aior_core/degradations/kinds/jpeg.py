"""JPEG: blocks, rings, and colours that run."""

from ..camera.transport import apply_transport, draw_transport, transport_labels
from ..degradation import Degradation
from ..draw import Draw
from ..jpeg import compress_jpeg
from ..photograph import NestedStyle
from ..published import of_kind

FILE = {
    "quality": (0.0, 100.0),
    "size": (0.05, 3.0),
    "luma": (1, 255),
    "chroma": (1, 255),
    "shift": (0, 64),
    "scale": (1.0, 16.0),
}


def _draw_file(draw: Draw, severity: float) -> dict:
    """Draw a file as cameras and programs write it, coded once or twice."""
    quality = 100.0 - 90.0 * severity
    return {"quality": round(quality, 4), **draw_transport(draw, quality)}


def _draw_sent(draw: Draw, severity: float) -> dict:
    """Draw what a messenger makes of a picture: smaller, coded, and shown at the old size."""
    quality, scale = 100.0 - 90.0 * severity, draw.uniform(1.3, 3.0)
    return {"quality": round(quality, 4), "scale": scale, **draw_transport(draw, quality, scale)}


def _send(picture, params: dict, seed: int):
    return apply_transport(picture, params, seed)


def _smaller(params: dict) -> dict:
    return {"low_resolution": min(1.0, (transport_labels(params)["scale"] - 1.0) / 3.0)}


CAMERA = NestedStyle(
    "jpeg",
    "tables, subsampling and second coding as of cameras and programs",
    _draw_file,
    _send,
    FILE,
    severities=(0.02, 1.0),
    share=4.0,
)
SENT = NestedStyle(
    "jpeg",
    "reduced, coded and enlarged, as messengers send pictures",
    _draw_sent,
    _send,
    FILE,
    severities=(0.1, 1.0),
    said=_smaller,
)
SUBSAMPLINGS = ("4:2:0", "4:4:4")


def _sample(draw: Draw) -> tuple[float, dict]:
    severity = draw.uniform(*DEGRADATION.severities)
    style = {"subsampling": draw.choice(SUBSAMPLINGS, (0.75, 0.25))}
    if draw.uniform() < 0.33:
        severity = draw.uniform(7.0 / 9.0, 1.0)  # quality 10 to 30: above it there is little to repair
    return severity, style


DEGRADATION = Degradation(
    name="jpeg",
    number=7,
    label="JPEG",
    steered="JPEG blocks and ringing",
    trained="JPEG compression",
    meaning="quality 10",
    primary="quality",
    line=(100.0, -90.0),
    whole=True,
    severities=(1.0 / 9.0, 1.0),
    mild=(5.0 / 90.0, 1.0 / 3.0),
    rank=5,
    typical={"subsampling": "4:2:0"},
    sample=_sample,
    apply=compress_jpeg,
    styles={"camera": CAMERA, "messenger": SENT, **of_kind("jpeg")},
    limits={"quality": (1.0, 100.0)},
    choices={"subsampling": SUBSAMPLINGS},
    shares={
        "any": 0.72 / 7.0,
        "training": 0.15,
        "training of three": 0.06,
        "keep": 0.1,
        "maps": 0.07,
        "tone": 0.02,
        "polish": 0.4,
        "hold": 0.03,
    },
    validation={"jpeg10": (0.6, {"quality": 10})},
    anchor_start=-0.2,
)
