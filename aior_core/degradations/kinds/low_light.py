"""Low light: lost exposure, bent contrast, and the noise of a sensor that had few photons.

The severity is the stops that are missing over 5, and it saturates: 5 stops or more have severity 1. The
plain form ends there. In the camera and in the published looks the stops climb on to 9, as in the sets of the
field, and all of these count as 1.
"""

import torch

from ..camera.exposure import apply_exposure, draw_exposure, missing_stops
from ..degradation import Degradation
from ..draw import Draw
from ..fields import stream
from ..limits import SMALL
from ..photograph import CameraStyle
from ..published import of_kind
from ..published.low_light import stops_of

# A stop halves linear light. Pictures are stored with a gamma of about this.
_DISPLAY_GAMMA = 2.2


def lower_light(picture: torch.Tensor, params: dict, seed: int) -> torch.Tensor:
    """Darken `picture` (`B C H W`, 0..1) by `params["stops"]` and add shot and read noise.

    The caller clamps.
    """
    _, channels, height, width = picture.shape
    stops = params["stops"]
    share = min(1.0, stops / 5.0)
    tint = torch.tensor(params["tint"]).to(picture).view(1, -1, 1, 1)
    tint = 1.0 + (tint - 1.0) * share
    dark = (
        picture.clamp_min(0.0).pow(1.0 + params["contrast"] * share) * tint * 2.0 ** (-stops / _DISPLAY_GAMMA)
    )
    noise = torch.randn(channels, height, width, generator=stream(seed)).to(picture)
    deviation = (params["shot"] ** 2 * dark * 4.0 + params["read"] ** 2).sqrt()
    return dark + noise * deviation * share


def _draw_exposure(draw: Draw, severity: float, camera: dict | None) -> dict:
    return {"stops": stops_of(severity), "exposure": draw_exposure(draw, stops_of(severity))}


def _where(params: dict, seed: int, depth: torch.Tensor) -> torch.Tensor:
    missing = missing_stops(params["exposure"], *depth.shape[-2:])
    return missing / missing.max().clamp_min(1e-6)


CAMERA = CameraStyle(
    "low_light",
    "too short an exposure, with lamps and dark corners",
    _draw_exposure,
    lambda light, params, seed, depth: apply_exposure(light, params["exposure"], seed),
    {
        "stops": (0.0, 16.0),
        "vignette": (0.0, 8.0),
        "reach": (0.01, 10.0),
        "strength": (0.0, 1.0),
        "place": (-4.0, 5.0),
        "color": (0.0, 4.0),
    },
    severities=(0.15, 1.0),
    where=_where,
    share=2.0,
    averaged=True,
)


def _sample(draw: Draw) -> tuple[float, dict]:
    return draw.uniform(*DEGRADATION.severities), {
        "contrast": draw.uniform(0.0, 0.8),
        "tint": [draw.uniform(0.92, 1.08) for _ in range(3)],
        "shot": draw.uniform(0.005, 0.04),
        "read": draw.uniform(0.002, 0.03),
    }


DEGRADATION = Degradation(
    name="low_light",
    number=6,
    label="low light",
    steered="Low light",
    trained="low light",
    meaning="five stops of exposure lost",
    primary="stops",
    line=(0.0, 5.0),
    severities=(0.15, 1.0),
    mild=(0.05, 0.2),
    rank=1,
    typical={"contrast": 0.4, "tint": [1.0, 1.0, 1.0], "shot": 0.02, "read": 0.015},
    sample=_sample,
    apply=lower_light,
    styles={"camera": CAMERA, **of_kind("low_light")},
    limits={"stops": (0.0, 50.0), "contrast": SMALL, "tint": SMALL, "shot": SMALL, "read": SMALL},
    colors=("tint",),
    shares={
        "any": 0.72 / 7.0,
        "training": 0.06,
        "training of three": 0.06,
        "keep": 0.08,
        "maps": 0.07,
        "tone": 0.26,
        "polish": 0.0,
        "hold": 0.15,
    },
    validation={"low_light": (0.6, {})},
    anchor_start=-8.0,
)
