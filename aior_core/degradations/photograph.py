"""Damage where the world makes it: in linear light, between one undoing of the tone curve and one development.

A recipe's `camera` says how light became the picture: a colour matrix with white balance, and a tone curve. By itself it changes nothing.
Steps whose style is a `CameraStyle` act on that light one after the other: lamps above white keep their light through a blur, and noise is
that of a sensor, white before demosaicing and correlated after it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .camera.curves import draw_tone, untone
from .camera.development import (
    NO_DENOISE,
    NO_DEVELOPMENT,
    NO_SHARPEN,
    apply_development,
    draw_color,
    draw_development,
    expected_noise,
    from_raw,
    to_raw,
)
from .camera.sensor import apply_sensor, draw_sensor, scale_noise
from .draw import Draw
from .limits import require_tree
from .published.style import Style

MID_GREY = 128 / 255
WORST_SIGMA = 60 / 255
"""Of noise of severity 1, at mid-grey in display values."""
UNREDUCED, QUIET = 0.5, 0.1
"""Severities above which noise is not reduced, and below which there are no hot pixels: they would be all of it; detail is kept there."""
LOUDEST = 0.1
"""Largest variance of a sensor's noise at white: two stops worse than the worst camera at its highest ISO."""
PATCH = 96
CAMERA_LIMITS = {"gamma": (0.05, 20.0), "shoulder": (0.01, 100.0), "contrast": (0.2, 5.0), "white": (0.05, 20.0), "saturation": (0.2, 3.0)}


@dataclass(frozen=True)
class NestedStyle(Style):
    """A look whose parameters are dicts in dicts. `limits` are those of numbers by their names, wherever in `params` they stand."""

    def require(self, params: dict) -> None:
        require_tree(params, self.limits, f"a step of {self.kind}")


@dataclass(frozen=True)
class CameraStyle(NestedStyle):
    """A look that acts on linear light (`B 3 H W`, sRGB primaries, 0 is black, 1 white, lamps above) inside the recipe's camera.

    `drawn` is `(draw, severity, camera) -> params`; `damage` is `(light, params, seed, camera, depth) -> light`.
    """

    linear = True

    def draw(self, draw: Draw, severity: float, camera: dict | None = None) -> dict:
        """Parameters at `severity` in 0..1 for a picture of `camera`."""
        return self.drawn(draw, severity, camera)

    def apply(self, picture: torch.Tensor, params: dict, seed: int, *, camera: dict, depth: torch.Tensor | None = None) -> torch.Tensor:
        return self.damage(picture, params, seed, camera, depth)


@dataclass(frozen=True)
class SensorStyle(CameraStyle):
    """A look that ends the pass: light is recorded and developed, as noise reduction and sharpening act on display values.

    `damage` is `(light, params, seed, camera) -> display values`.
    """

    def shoot(self, light: torch.Tensor, params: dict, seed: int, camera: dict) -> torch.Tensor:
        """Light (`B 3 H W`) -> display values in 0..1, with noise."""
        return self.damage(light, params, seed, camera)


def draw_camera(draw: Draw) -> dict:
    """Draw how a camera sees: its colour matrix and white balance, its saturation, and its tone curve."""
    return {"color": draw_color(draw), "tone": draw_tone(draw)}


def require_camera(camera: dict) -> None:
    """Raise ValueError unless this is a camera that `draw_camera` could have drawn, or nearly."""
    require_tree(camera, CAMERA_LIMITS, "the camera")
    if set(camera) != {"color", "tone"}:
        raise ValueError(f"degradations: the camera has {', '.join(map(str, camera))[:60]}; expected color and tone")


def undevelop(picture: torch.Tensor, camera: dict) -> torch.Tensor:
    """Display values 0..1 (`B 3 H W`) -> linear light in 0..1."""
    return untone(picture, camera["tone"])


def develop(light: torch.Tensor, camera: dict, finish: dict | None = None) -> torch.Tensor:
    """Linear light -> display values in 0..1. `finish`: what the development does about noise, `denoise` and `sharpen`."""
    finish = finish or {"denoise": NO_DENOISE, "sharpen": NO_SHARPEN}
    return apply_development(light, _development(camera, finish))


def shoot(light: torch.Tensor, params: dict, seed: int, camera: dict) -> torch.Tensor:
    """Linear light recorded by the sensor of `params` and developed, `B 3 H W` in 0..1.

    With `detail` "lost" demosaicing and noise reduction smear detail too, as in a telephone's files. With "kept" there is only the noise
    that they leave, as between two files of one camera: what all its files lack is no damage of this one.
    """
    raw = to_raw(light, camera["color"])
    noisy = develop(from_raw(apply_sensor(raw, params["sensor"], seed), camera["color"]), camera, params)
    if params["detail"] == "lost":
        return noisy
    quiet = develop(from_raw(apply_sensor(raw, params["sensor"], seed, noisy=False), camera["color"]), camera, params)
    return (develop(light, camera) + noisy - quiet).clamp(0.0, 1.0)


def draw_noise(draw: Draw, severity: float, camera: dict | None) -> dict:
    """A sensor, and what the development does about its noise, so that at mid-grey about `severity * 60` (of 255) is left.

    Demosaicing and noise reduction take some of what the sensor adds, so what is left is measured on a grey patch and the sensor is
    made as much noisier or quieter. `sigma` is what was measured in the end.
    """
    camera = camera or draw_camera(draw)
    development = draw_development(draw)
    finish = {"denoise": development["denoise"], "sharpen": development["sharpen"]}
    if severity > UNREDUCED:
        # So much is not left by a development that reduces noise.
        finish = {**finish, "denoise": {**NO_DENOISE, "smooth": finish["denoise"]["smooth"]}}
    sensor, wanted = draw_sensor(draw), severity * WORST_SIGMA
    if severity < QUIET:
        sensor = {**sensor, "hot": 0.0}
    seed = draw.seed()
    left = expected_noise(sensor, _development(camera, finish))
    for _ in range(5):
        # A curve that is flat at mid-grey shows little of any noise: there the sensor stays one that could be.
        most = LOUDEST / max(*sensor["a"], *sensor["b"], 1e-9)
        sensor = scale_noise(sensor, min(most, (wanted / max(left, 1e-6)) ** 2))
        expected = round(expected_noise(sensor, _development(camera, finish)), 6)
        finish = {**finish, "denoise": {**finish["denoise"], "noise": expected}}
        left = measured_noise({"detail": "lost", "sensor": sensor, **finish}, camera, seed)
        if abs(left / max(wanted, 1e-6) - 1) < 0.03:
            break
    detail = "kept" if severity < QUIET or draw.uniform() < 0.6 else "lost"
    return {"sigma": round(left * 255, 4), "detail": detail, "sensor": sensor, **finish}


def measured_noise(params: dict, camera: dict, seed: int, side: int = PATCH) -> float:
    """Standard deviation (0..1, mean over the channels) that camera noise has on a patch of mid-grey, in display values."""
    grey = torch.full((1, 3, side, side), MID_GREY)
    shown = shoot(undevelop(grey, camera), params, seed, camera)
    return shown.std(dim=(0, 2, 3), correction=0).square().mean().sqrt().item()


def _development(camera: dict, finish: dict) -> dict:
    return {**NO_DEVELOPMENT, **camera, "denoise": finish["denoise"], "sharpen": finish["sharpen"]}
