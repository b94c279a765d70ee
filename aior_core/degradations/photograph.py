"""Damage where the world makes it: in linear light, between one undoing of the tone curve and one
development.

A recipe's `camera` says how light became the picture (a colour matrix with white balance, a tone curve, how
much brighter than white its lamps were) and how far things are. By itself it changes nothing. Steps whose
style is a `CameraStyle` act on that light one after the other: haze lies deeper on what is far, lamps above
white keep their light through a blur, and noise is that of a sensor, correlated by demosaicing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from .camera.chance import normal
from .camera.curves import SRGB, draw_tone, tone, untone
from .camera.depth import draw_depth, follow_edges, make_depth
from .camera.development import NO_DEVELOPMENT, apply_development, draw_color, draw_development
from .camera.labels import noise_of_grey
from .camera.sensor import draw_sensor
from .camera.shot import NO_SHOT, record, with_noise
from .camera.shot import undevelop as undone
from .draw import Draw
from .limits import require_seed, require_tree
from .published.style import Style

UNREDUCED, QUIET = 0.5, 0.1
"""Severities above which noise is not reduced, and below which there are no hot pixels, which would be all of
it, and detail is kept."""
_NEARLY_WHITE = 0.9
"""Linear light, 0.95 in sRGB."""
PATCH = 112
"""Side of the grey patch that noise is measured on."""
CAMERA_PARTS = {"color", "tone", "white", "depth", "seed"}
CAMERA_LIMITS = {
    "gamma": (0.05, 20.0),
    "shoulder": (0.01, 100.0),
    "contrast": (0.2, 5.0),
    "saturation": (0.2, 3.0),
    "white": (0.0, 30.0),
    "matrix": (-10.0, 10.0),
    "boxes": (-10.0, 10.0),
    "ridges": (0, 16),
    "seed": (0, 2**63 - 1),
    "far": (0.01, 1.0),
    "near": (0.0, 1.0),
}


@dataclass(frozen=True)
class NestedStyle(Style):
    """A look whose parameters are dicts in dicts. `limits` are those of numbers by their names, wherever in
    `params` they stand."""

    def require(self, params: dict) -> None:
        require_tree(params, self.limits, f"a step of {self.kind}")


@dataclass(frozen=True)
class CameraStyle(NestedStyle):
    """A look that acts on linear light (`B 3 H W`, sRGB primaries, 0 is black, 1 white, lamps above) inside
    the recipe's camera.

    `drawn` is `(draw, severity, camera) -> params`; `damage` is `(light, params, seed, depth) -> light`,
    depth `B 1 H W` from 0 (near) to 1 (far) where `takes_depth`, else None; `where` is `(params, seed, depth)
    -> H W` in 0..1.
    """

    linear = True

    def draw(self, draw: Draw, severity: float, camera: dict | None = None) -> dict:
        """Parameters at `severity` in 0..1 for a picture of `camera`."""
        return self.drawn(draw, severity, camera)

    def apply(
        self, picture: torch.Tensor, params: dict, seed: int, *, depth: torch.Tensor | None
    ) -> torch.Tensor:
        return self.damage(picture, params, seed, depth)

    def truth(
        self, params: dict, seed: int, height: int, width: int, *, depth: torch.Tensor | None = None
    ) -> torch.Tensor:
        depth = torch.zeros(1, 1, height, width) if depth is None else depth
        return torch.ones(height, width) if self.where is None else self.where(params, seed, depth)


@dataclass(frozen=True)
class SensorStyle(CameraStyle):
    """A look that ends the pass: light is recorded and developed, as noise reduction and sharpening act on
    display values.

    `damage` is `(light, params, seed, camera) -> display values`.
    """

    def shoot(self, light: torch.Tensor, params: dict, seed: int, camera: dict) -> torch.Tensor:
        """Light (`B 3 H W`) -> display values in 0..1, with noise, the same on every picture."""
        return each_alike(lambda one: self.damage(one, params, seed, camera), light)


def each_alike(damage: Callable[[torch.Tensor], torch.Tensor], pictures: torch.Tensor) -> torch.Tensor:
    """`damage` done to each picture of `B 3 H W` alone: the camera's noise is another on every picture of a
    batch, a recipe's is not."""
    return torch.cat([damage(one) for one in pictures.split(1)])


def draw_camera(draw: Draw) -> dict:
    """Draw how a camera sees, how bright lamps are, and the geometry of what is before it."""
    return {
        "color": draw_color(draw),
        "tone": draw_tone(draw),
        "white": round(math.exp(normal(draw, 1.0, 0.7, 2.0)) - 0.5, 6) if draw.uniform() < 0.6 else 0.0,
        "depth": draw_depth(draw),
        "seed": draw.seed(),
    }


def require_camera(camera: dict) -> None:
    """Raise ValueError unless this is a camera that `draw_camera` could have drawn, or nearly."""
    require_tree(camera, CAMERA_LIMITS, "the camera")
    if not isinstance(camera, dict) or set(camera) != CAMERA_PARTS:
        found = ", ".join(map(str, camera))[:60] if isinstance(camera, dict) else type(camera).__name__
        raise ValueError(f"degradations: the camera has {found}; expected {', '.join(sorted(CAMERA_PARTS))}")
    require_seed(camera["seed"], "the camera")


def undevelop(picture: torch.Tensor, camera: dict) -> torch.Tensor:
    """Display values 0..1 (`B 3 H W`) -> linear light, up to `1 + white` where they are clipped."""
    return undone(picture, {"development": camera, "white": camera["white"]}, camera["seed"])


def develop(light: torch.Tensor, camera: dict) -> torch.Tensor:
    """Linear light -> display values in 0..1. The inverse of `undevelop`."""
    return apply_development(light, {**NO_DEVELOPMENT, "color": camera["color"], "tone": camera["tone"]})


def light_in_camera(color: list, camera: dict | None) -> list:
    """Return the linear light that `camera` shows as the sRGB curve shows `color` (linear, 0 is black, 1 white).

    Airlight, rain and snow are drawn by how bright they are in a finished picture. A camera that keeps stops
    for highlights shows the same picture from less light. What is above `_NEARLY_WHITE` keeps its ratio to
    that: some curves show twice as much light as hardly brighter. Without a camera the colour is returned as
    it is.
    """
    if camera is None:
        return color
    within = torch.tensor(color, dtype=torch.float64).clamp(0.0, _NEARLY_WHITE).view(1, 3, 1, 1)
    shown = untone(tone(within, SRGB), camera["tone"]).flatten().tolist()
    return [round(part * max(1.0, asked / _NEARLY_WHITE), 6) for part, asked in zip(shown, color)]


def scene_depth(camera: dict, height: int, width: int, guide: torch.Tensor | None = None) -> torch.Tensor:
    """`B 1 H W` on the CPU, 0 near to 1 far: the camera's geometry, along the edges of `guide` (`B 3 H W`,
    display values) where it is given."""
    drawn = make_depth(camera["depth"], camera["seed"], height, width)[None, None]
    return drawn if guide is None else follow_edges(drawn, guide.float().cpu())


def shoot(light: torch.Tensor, params: dict, seed: int, camera: dict) -> torch.Tensor:
    """Linear light recorded by the sensor of `params` and developed, `B 3 H W` in 0..1.

    With `detail` "lost" demosaicing and noise reduction smear detail too, as in a telephone's files. With
    "kept" there is only the noise that they leave, as between two files of one camera: what all its files
    lack is no damage of this one.
    """
    return record(light, _shot(params, camera), seed)


def draw_noise(draw: Draw, severity: float, camera: dict | None) -> dict:
    """A sensor, and what the development does about its noise, so that at mid-grey about `severity * 60` (of
    255) is left.

    `sigma` is what was measured in the end.
    """
    camera, finish, sensor = camera or draw_camera(draw), draw_development(draw), draw_sensor(draw)
    if severity > UNREDUCED:
        # So much is not left by a development that reduces noise.
        finish = {**finish, "denoise": {**NO_DEVELOPMENT["denoise"], "smooth": finish["denoise"]["smooth"]}}
    if severity < QUIET:
        sensor = {**sensor, "hot": 0.0}
    detail = "kept" if severity < QUIET or draw.uniform() < 0.6 else "lost"
    params = {"detail": detail, "sensor": sensor, "denoise": finish["denoise"], "sharpen": finish["sharpen"]}
    found = with_noise(_shot(params, camera), severity * 60.0, draw.seed())
    if found["sensor"] is None:
        found = {**found, "sensor": {**sensor, "a": [0.0] * 3, "b": [0.0] * 3, "hot": 0.0}}
    params = {**params, "sensor": found["sensor"], "denoise": found["development"]["denoise"]}
    return {"sigma": round(measured_noise(params, camera, draw.seed()) * 255.0, 4), **params}


def measured_noise(params: dict, camera: dict, seed: int, side: int = PATCH) -> float:
    """Standard deviation (0..1, over the channels) that camera noise has on a patch of mid-grey, in display
    values."""
    return noise_of_grey(_shot(params, camera), seed, side) / 255.0


def _shot(params: dict, camera: dict) -> dict:
    """The parameters of `camera.shot` of a step of noise."""
    finish = {
        "denoise": params["denoise"],
        "sharpen": params["sharpen"],
        "color": camera["color"],
        "tone": camera["tone"],
    }
    return {
        **NO_SHOT,
        "development": {**NO_DEVELOPMENT, **finish},
        "sensor": params["sensor"],
        "noise_only": params["detail"] == "kept",
    }
