"""Sensor noise: Gaussian, signal-dependent (Poisson-Gauss), and grey (equal in all channels)."""

import torch

from ..degradation import Degradation
from ..draw import Draw
from ..fields import stream
from ..film import apply_grain, draw_grain
from ..photograph import NestedStyle, SensorStyle, draw_noise, each_alike, shoot
from ..published import of_kind

# Share of a Poisson-Gauss noise's variance that grows with the signal.
_SHOT_SHARE = 0.8


def add_noise(picture: torch.Tensor, params: dict, seed: int) -> torch.Tensor:
    """Add noise of `params["sigma"] / 255` to `picture` (`B C H W`, 0..1); the caller clamps.

    "poisson" has the variance `sigma^2 (0.2 + 0.8 * 2x)`, so that mid-grey has exactly sigma. It is the
    Gaussian approximation of the Poisson-Gauss model (Foi et al., IEEE TIP 2008).
    """
    _, channels, height, width = picture.shape
    sigma = params["sigma"] / 255.0
    model = params["model"]
    drawn = 1 if model == "grey" else channels
    noise = torch.randn(drawn, height, width, generator=stream(seed)).to(picture)
    if model == "poisson":
        return (
            picture
            + noise * sigma * (picture * (2.0 * _SHOT_SHARE) + (1.0 - _SHOT_SHARE)).clamp_min(0.0).sqrt()
        )
    return picture + noise * sigma


CAMERA = SensorStyle(
    "noise",
    "noise of a sensor, demosaiced, reduced and sharpened",
    draw_noise,
    shoot,
    {
        "sigma": (0.0, 255.0),
        "a": (0.0, 10.0),
        "b": (0.0, 10.0),
        "rows": (0.0, 10.0),
        "hot": (0.0, 0.1),
        "bits": (4, 16),
        "levels": (0, 4),
        "soft": (0.0, 6.0),
        "smooth": (0.0, 6.0),
        "amount": (0.0, 5.0),
        "luma": (0.0, 10.0),
        "chroma": (0.0, 10.0),
        "noise": (0.0, 100.0),
    },
    severities=(1.0 / 60.0, 0.5),
    share=4.0,
)
FILM = NestedStyle(
    "noise",
    "grain of film: correlated, strongest in mid-tones",
    lambda draw, severity: {
        "sigma": round(60.0 * severity, 6),
        "grain": draw_grain(draw, round(60.0 * severity, 6), draw.uniform() < 0.4),
    },
    lambda picture, params, seed: each_alike(lambda one: apply_grain(one, params["grain"], seed), picture),
    {
        "sigma": (0.0, 255.0),
        "size": (0.2, 8.0),
        "clumps": (0.0, 1.0),
        "peak": (0.05, 0.95),
        "color": (0.0, 1.0),
    },
    severities=(0.03, 0.45),
)
MODELS = ("gaussian", "poisson", "grey")


def _sample(draw: Draw) -> tuple[float, dict]:
    """Draw noise of which half is plain colour Gaussian, the case that the literature measures.

    Half of that is not clipped, as in the literature.
    """
    severity = draw.uniform(*DEGRADATION.severities)
    if draw.uniform() < 0.5:
        style = {"model": "gaussian", "clip": draw.uniform() < 0.5}
        # A third more of the hardest noise, where there is most left to learn.
        severity = (draw.uniform(35.0, 55.0) if draw.uniform() < 0.33 else draw.uniform(5.0, 55.0)) / 60.0
    else:
        style = {"model": draw.choice(MODELS, (0.2, 0.5, 0.3)), "clip": True}
    return severity, style


DEGRADATION = Degradation(
    name="noise",
    number=0,
    label="noise",
    steered="Noise and film grain",
    trained="noise",
    meaning="sigma 60 of 255 at mid-grey",
    primary="sigma",
    line=(0.0, 60.0),
    severities=(1.0 / 60.0, 1.0),
    mild=(1.0 / 60.0, 0.1),
    rank=4,
    typical={"model": "gaussian", "clip": True},
    sample=_sample,
    apply=add_noise,
    styles={"camera": CAMERA, "film": FILM, **of_kind("noise")},
    limits={"sigma": (0.0, 1000.0)},
    choices={"model": MODELS, "clip": (True, False)},
    shares={
        "any": 0.28,
        "training": 0.32,
        "training of three": 0.3,
        "keep": 0.36,
        "maps": 0.13,
        "tone": 0.26,
        "polish": 0.36,
        "hold": 0.15,
    },
    validation={"noise15": (15 / 60, {}), "noise25": (25 / 60, {}), "noise50": (50 / 60, {})},
    anchor_start=-0.25,
)
