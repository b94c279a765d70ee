"""Damage in linear light, between one undoing of the tone curve and one development.

A recipe's `camera` says how light became the picture (a colour matrix with white balance, a tone curve, and
how much brighter than white its lamps were) and how far things are. By itself the camera changes nothing.
Steps whose style is a `CameraStyle` act on that light one after the other. So haze is denser over far things,
lamps above white keep their light through a blur, and noise is that of a sensor, correlated by demosaicing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .camera.chance import normal
from .camera.curves import SRGB, draw_tone, tone, untone
from .camera.development import NO_DENOISE, develop_light, draw_color, draw_finish
from .camera.recording import noise_of_grey, record, with_noise
from .camera.sensor import draw_sensor
from .depth import draw_depth, follow_edges, make_depth
from .draw import Draw
from .fields import sides, smooth_field, stream
from .limits import require_seed, require_tree
from .published.style import Style

UNREDUCED, QUIET = 0.5, 0.1
"""Noise above the first severity is not reduced. Below the second there are no hot pixels, because they would
be all of the noise, and detail is kept."""
PATCH = 112
"""Side of the grey patch on which noise is measured."""
_CLIPPED = 254.0 / 255.0 - 1e-6
"""Display value from which a channel counts as clipped: the light there may have been any height."""
_NEARLY_WHITE = 0.9
"""Linear light, 0.95 in sRGB."""
_PLAIN_WHEN_DARK = 0.85
"""Share of cameras with the standard tone curve among those whose exposure is too short."""
_LAMP_SEED = 401
"""What is added to the camera's seed for the field of lamps."""
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
    """A look whose parameters are nested dicts.

    `limits` are the ends of numbers by their names, wherever in `params` the names occur.
    """

    def require(self, params: Mapping) -> None:
        require_tree(params, self.limits, f"a step of {self.kind}")


@dataclass(frozen=True)
class CameraStyle(NestedStyle):
    """A look that acts on linear light inside the recipe's camera.

    Light is `B 3 H W` with sRGB primaries; 0 is black, 1 is white, and lamps are above 1.

    drawn: `(draw, severity, camera) -> params`.
    damage: `(light, params, seed, depth) -> light`. The depth is `B 1 H W` from 0 (near) to 1 (far) where
        `takes_depth` is set, and None otherwise.
    where: `(params, seed, depth) -> H W` in 0..1.
    """

    linear = True

    def draw(self, draw: Draw, severity: float, camera: dict | None = None) -> dict:
        """Draw parameters at `severity` in 0..1 for a picture of `camera`."""
        return self.drawn(draw, severity, camera)

    def apply(self, picture: torch.Tensor, params: dict, seed: int, **options) -> torch.Tensor:
        """Damage linear light (`B 3 H W`) and return light again. `options` is `depth`."""
        return self.damage(picture, params, seed, options.get("depth"))

    def truth(
        self, params: dict, seed: int, height: int, width: int, *, depth: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return `H W` in 0..1: the share of the damage at each place. Without a depth everything is near."""
        depth = torch.zeros(1, 1, height, width) if depth is None else depth
        return torch.ones(height, width) if self.where is None else self.where(params, seed, depth)


@dataclass(frozen=True)
class SensorStyle(CameraStyle):
    """A look that ends the pass through light: it records the light and develops it.

    Noise reduction and sharpening act on display values, so nothing can act on light after it.

    damage: `(light, params, seed, camera) -> display values`.
    """

    def shoot(self, light: torch.Tensor, params: dict, seed: int, camera: dict) -> torch.Tensor:
        """Turn light (`B 3 H W`) into display values in 0..1 with noise, the same on every picture."""
        return each_alike(lambda one: self.damage(one, params, seed, camera), light)


def each_alike(damage: Callable[[torch.Tensor], torch.Tensor], pictures: torch.Tensor) -> torch.Tensor:
    """Apply `damage` to each picture of `B 3 H W` alone.

    The camera's noise differs between the pictures of a batch. A recipe's noise does not.
    """
    return torch.cat([damage(one) for one in pictures.split(1)])


def draw_camera(draw: Draw, *, dark: bool = False) -> dict:
    """Draw how a camera sees, how bright lamps are, and the geometry of the scene in front of it.

    dark: whether the exposure will be too short. Most such cameras have the standard tone curve, because a
    steep one turns a dark scene black. A stop then costs as much as in the plain form of low light.
    """
    return {
        "color": draw_color(draw),
        "tone": draw_tone(draw, "srgb" if dark and draw.uniform() < _PLAIN_WHEN_DARK else None),
        "white": round(math.exp(normal(draw, 1.0, 0.7, 2.0)) - 0.5, 6) if draw.uniform() < 0.6 else 0.0,
        "depth": draw_depth(draw),
        "seed": draw.seed(),
    }


def require_camera(camera: dict) -> None:
    """Raise ValueError unless `camera` has the parts of `draw_camera`, each within its limits."""
    require_tree(camera, CAMERA_LIMITS, "the camera")
    if not isinstance(camera, dict) or set(camera) != CAMERA_PARTS:
        found = ", ".join(map(str, camera))[:60] if isinstance(camera, dict) else type(camera).__name__
        raise ValueError(f"degradations: the camera has {found}; expected {', '.join(sorted(CAMERA_PARTS))}")
    require_seed(camera["seed"], "the camera")


def undevelop(picture: torch.Tensor, camera: dict) -> torch.Tensor:
    """Turn display values in 0..1 (`B 3 H W`) into linear light, up to `1 + white` where they are clipped.

    A field of soft hills decides how bright the light is there, because lamps differ. Single clipped pixels,
    and areas where only one colour is clipped, hardly change: they are the crests of texture and of strong
    colours, not lamps.
    """
    light = untone(picture, camera["tone"])
    if camera["white"] <= 0.0:
        return light
    clipped = (picture >= _CLIPPED).to(picture)
    around = F.avg_pool2d(F.pad(clipped, (2,) * 4, mode="replicate"), 5, stride=1).mean(1, keepdim=True)
    hills = smooth_field(*sides(picture), stream(camera["seed"] + _LAMP_SEED), cells=4).to(light)
    return light * (1.0 + camera["white"] * hills * around**2 * clipped)


def develop(light: torch.Tensor, camera: dict) -> torch.Tensor:
    """Turn linear light into display values in 0..1. The inverse of `undevelop`."""
    return develop_light(light, camera["tone"])


def light_in_camera(color: list[float], camera: dict | None) -> list[float]:
    """Return the linear light that `camera` shows as the sRGB curve shows `color` (linear; 1 is white).

    Airlight, rain and snow are drawn by their brightness in a finished picture. A camera that keeps stops for
    highlights shows the same picture from less light. What is above `_NEARLY_WHITE` keeps its ratio to it,
    because under some curves twice as much light is hardly brighter. Without a camera `color` is returned.
    """
    if camera is None:
        return color
    within = torch.tensor(color, dtype=torch.float64).clamp(0.0, _NEARLY_WHITE).view(1, 3, 1, 1)
    shown = untone(tone(within, SRGB), camera["tone"]).flatten().tolist()
    return [round(part * max(1.0, asked / _NEARLY_WHITE), 6) for part, asked in zip(shown, color)]


def scene_depth(camera: dict, height: int, width: int, guide: torch.Tensor | None = None) -> torch.Tensor:
    """Return the camera's geometry as `B 1 H W` on the CPU, 0 near to 1 far.

    It follows the edges of `guide` (`B 3 H W`, display values) where that is given.
    """
    drawn = make_depth(camera["depth"], camera["seed"], height, width)[None, None]
    return drawn if guide is None else follow_edges(drawn, guide.float().cpu())


def shoot(light: torch.Tensor, params: dict, seed: int, camera: dict) -> torch.Tensor:
    """Record linear light by the sensor of `params` and develop it to `B 3 H W` in 0..1.

    With `detail` "lost" demosaicing and noise reduction smear detail too, as in a telephone's files. With
    "kept" only the noise has passed them, as between two files of one camera: what all files of a camera lack
    is no damage of this one.
    """
    kept = params["detail"] == "kept"
    return record(light, params["sensor"], _finish(params, camera), seed, noise_only=kept)


def draw_noise(draw: Draw, severity: float, camera: dict | None) -> dict:
    """Draw a sensor and a finish that leave about `60 * severity` (of 255) of noise at mid-grey.

    `sigma` is the noise that was measured in the end.
    """
    camera, finish, sensor = camera or draw_camera(draw), draw_finish(draw), draw_sensor(draw)
    if severity > UNREDUCED:
        # A development that reduces noise would not leave so much.
        finish = {**finish, "denoise": {**NO_DENOISE, "smooth": finish["denoise"]["smooth"]}}
    if severity < QUIET:
        sensor = {**sensor, "hot": 0.0}
    detail = "kept" if severity < QUIET or draw.uniform() < 0.6 else "lost"
    seed = draw.seed()
    if severity > 0.0:
        sensor, finish = with_noise(sensor, _finish(finish, camera), severity * 60.0, seed)
    else:
        sensor = {**sensor, "a": [0.0] * 3, "b": [0.0] * 3, "hot": 0.0}
    params = {
        "detail": detail,
        "sensor": sensor,
        "denoise": finish["denoise"],
        "sharpen": finish["sharpen"],
    }
    return {"sigma": round(measured_noise(params, camera, draw.seed()) * 255.0, 4), **params}


def measured_noise(params: dict, camera: dict, seed: int, side: int = PATCH) -> float:
    """Measure the standard deviation (0..1, over the channels) of camera noise on a mid-grey patch."""
    return noise_of_grey(params["sensor"], _finish(params, camera), seed, side) / 255.0


def _finish(params: dict, camera: dict) -> dict:
    """Return the finish of a step of noise in `camera`, as `camera.recording` takes it."""
    return {
        "color": camera["color"],
        "tone": camera["tone"],
        "denoise": params["denoise"],
        "sharpen": params["sharpen"],
    }
