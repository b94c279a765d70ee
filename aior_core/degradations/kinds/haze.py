"""Haze by the atmospheric scattering model `I = J t + A (1 - t)`, `t = exp(-beta depth)` (Koschmieder).

The severity is beta over 1.3, and it saturates: in the published looks and in the camera beta climbs on to
2.8, and everything from 1.3 on has severity 1.
"""

import torch
import torch.nn.functional as F

from ..camera.haze import draw_haze, lay_haze, transmission
from ..degradation import Degradation
from ..draw import Draw
from ..fields import fractal_noise, plane, stream
from ..limits import ANGLE, SHARE, SMALL
from ..photograph import CameraStyle, light_in_camera
from ..published import of_kind
from ..published.haze import beta_of

_FARTHEST = 1.3
"""Distance of the farthest place of a given depth. Invented depths reach about as far."""


def add_haze(
    picture: torch.Tensor, params: dict, seed: int, depth: torch.Tensor | None = None
) -> torch.Tensor:
    """Lay haze of airlight `params["light"]` over `picture` (`B C H W`, 0..1) by an invented depth.

    The depth is a ramp (usually farther towards the top), fractal noise, and a cue from the picture: bright
    parts count as far, which ties the haze to the outlines of things. All of it is relative to the size of
    the picture. A `depth` that is given (`B 1 H W`, 0 near to 1 far) takes the place of all that.
    """
    height, width = picture.shape[-2:]
    generator = stream(seed)
    ramp = plane(height, width, params["angle"]) - 0.5
    rough = fractal_noise(height, width, generator, octaves=4) - 0.5
    level = 0.7 + 0.2 * torch.rand((), generator=generator)
    if depth is None:
        depth = (level + params["slope"] * ramp + params["rough"] * rough).to(picture)
        depth = depth + params["cue"] * (_brightness(picture) - 0.4)
    else:
        depth = _FARTHEST * depth.to(picture)
    through = torch.exp(-params["beta"] * depth.clamp(0.05, 2.0))
    light = torch.tensor(params["light"]).to(picture).view(1, -1, 1, 1)
    return picture * through + light * (1.0 - through)


def _brightness(picture: torch.Tensor) -> torch.Tensor:
    """Return `B 1 H W`: the mean of the channels, half of it smoothed, so that fine texture is no relief."""
    bright = picture.mean(1, keepdim=True)
    small = F.interpolate(bright, size=(8, 8), mode="area")
    smooth = F.interpolate(small, size=bright.shape[-2:], mode="bilinear", align_corners=False)
    return 0.5 * bright + 0.5 * smooth


def _draw_air(draw: Draw, severity: float, camera: dict | None) -> dict:
    air = draw_haze(draw, beta_of(severity))
    return {"beta": beta_of(severity), "air": {**air, "air": light_in_camera(air["air"], camera)}}


CAMERA = CameraStyle(
    "haze",
    "haze and fog in radiance, by distance, with airlight from yellow to blue",
    _draw_air,
    lambda light, params, seed, depth: lay_haze(light, params["air"], seed, depth),
    {"beta": (0.0, 20.0), "air": (0.0, 4.0), "patches": SHARE, "split": SHARE, "glow": SHARE, "reach": SHARE},
    severities=(0.1, 1.0),
    where=lambda params, seed, depth: 1.0 - transmission(params["air"], seed, depth)[0, 1],
    share=3.0,
    takes_depth=True,
)


def _sample(draw: Draw) -> tuple[float, dict]:
    return draw.uniform(*DEGRADATION.severities), {
        "light": draw.light(0.7, 0.97, 0.03),
        "angle": draw.uniform(-150.0, -30.0) if draw.uniform() < 0.8 else draw.uniform(0.0, 360.0),
        "slope": draw.uniform(0.1, 1.0),
        "rough": draw.uniform(0.1, 0.6),
        "cue": draw.uniform(0.0, 0.5),
    }


DEGRADATION = Degradation(
    name="haze",
    number=5,
    label="haze",
    steered="Haze and fog",
    trained="haze",
    meaning="an optical thickness of 1.3 over the depth range: far parts keep a fifth of their light",
    primary="beta",
    line=(0.0, 1.3),
    severities=(0.1, 1.0),
    mild=(0.05, 0.2),
    rank=0,
    typical={"light": [0.86, 0.87, 0.88], "angle": -90.0, "slope": 0.7, "rough": 0.35, "cue": 0.3},
    sample=_sample,
    apply=add_haze,
    takes_depth=True,
    styles={"camera": CAMERA, **of_kind("haze")},
    limits={
        "beta": (0.0, 50.0),
        "light": SMALL,
        "angle": ANGLE,
        "slope": SMALL,
        "rough": SMALL,
        "cue": SMALL,
    },
    colors=("light",),
    shares={
        "any": 0.72 / 7.0,
        "training": 0.11,
        "training of three": 0.2,
        "keep": 0.1,
        "maps": 0.2,
        "tone": 0.26,
        "polish": 0.0,
        "hold": 0.3,
    },
    validation={"haze": (0.6, {})},
    anchor_start=-8.0,
)
