"""Recording: what a sensor and the development after it make of linear light, and how much noise they leave.

A finish is `{"color": ..., "tone": ..., "denoise": ..., "sharpen": ...}`: the colours and the tone curve of
the recipe's camera, with the noise reduction and the sharpening of the step.
"""

import math

import torch

from .curves import untone
from .development import NOISE_LEVELS, develop_light, expected_noise, from_raw, to_raw
from .sensor import apply_sensor, scale_noise

_GREY = 0.5
"""Display value of the patch on which noise is measured."""
_PATCH = 80
"""Side of the patch while the sensor's noise is searched."""
_MOST_REMOVED, _MOST_BEFORE = 2.2, 20.0
"""Noise before reduction, over what is wanted and of 255. Above both the reduction is made weaker instead."""
_ROUNDS, _NEAR, _MOST_BITS = 8, 0.03, 16


def record(light: torch.Tensor, sensor: dict, finish: dict, seed: int, *, noise_only: bool) -> torch.Tensor:
    """Record linear light (`B 3 H W`, from 0) and develop it to display values in 0..1.

    With `noise_only` the picture itself stays as sharp as it was. Only the noise has passed mosaic, noise
    reduction and sharpening, as where the truth is the mean of many shots of the same camera.
    """
    color, curve = finish["color"], finish["tone"]
    steps = finish["denoise"], finish["sharpen"]
    raw = to_raw(light, color)
    display = develop_light(from_raw(apply_sensor(raw, sensor, seed), color), curve, *steps)
    if not noise_only:
        return display
    quiet = develop_light(from_raw(apply_sensor(raw, sensor, seed, noisy=False), color), curve, *steps)
    return (develop_light(light, curve) + display - quiet).clamp(0.0, 1.0)


def noise_of_grey(sensor: dict, finish: dict, seed: int, side: int = _PATCH) -> float:
    """Measure the standard deviation, of 255 and over the channels, on a developed patch of mid-grey.

    Hot pixels are left out. They are few and bright, so their number in the patch would decide the result.
    """
    grey = untone(torch.full((1, 3, 1, 1), _GREY), finish["tone"])[0, 1, 0, 0].item()
    light = torch.full((1, 3, side, side), grey)
    patch = record(light, {**sensor, "hot": 0.0}, finish, seed, noise_only=False)
    return (patch.var((0, 2, 3)).mean().sqrt() * 255.0).item()


def with_noise(sensor: dict, finish: dict, sigma: float, seed: int) -> tuple[dict, dict]:
    """Return `(sensor, finish)` whose developed noise at mid-grey is about `sigma` (of 255, above 0).

    The sensor's variance is scaled, and the noise reduction is told of it. Where the reduction would leave
    too little whatever the sensor does, it is made weaker. Raises ValueError unless `sigma` is in 0..255.
    """
    if not (math.isfinite(sigma) and 0.0 < sigma <= 255.0):
        raise ValueError(
            f"camera: noise of {sigma} is wanted; expected a standard deviation above 0 and up to 255"
        )
    # The first guess comes from the formula. Measurements on a grey patch correct it.
    unit = expected_noise(sensor, finish["color"], finish["tone"], 3)[1]
    sensor, finish = _noisier(sensor, finish, (1.5 * sigma / 255.0 / unit) ** 2)
    for _ in range(_ROUNDS):
        ratio = sigma / max(noise_of_grey(sensor, finish, seed), 1e-3)
        if abs(ratio - 1.0) < _NEAR:
            break
        denoise = finish["denoise"]
        before = denoise["noise"][NOISE_LEVELS // 2] * 255.0
        if ratio > 1.0 and before > max(_MOST_REMOVED * sigma, _MOST_BEFORE):
            # Ever more noise before ever more reduction would clip in the channels and tint the picture.
            weaker = {name: round(denoise[name] * 0.6, 6) for name in ("luma", "chroma", "soft")}
            finish = {**finish, "denoise": {**denoise, **weaker}}
        sensor, finish = _noisier(sensor, finish, min(2.0, max(0.1, ratio)) ** 2)
    return sensor, finish


def _noisier(sensor: dict, finish: dict, factor: float) -> tuple[dict, dict]:
    """Scale the sensor's variance by `factor`.

    The camera knows its noise and sets the thresholds of its reduction by it. The converter gets enough bits
    for the noise of mid-grey to reach one step, as in real cameras: noise below that would depend on where a
    level lies between two steps.
    """
    sensor = scale_noise(sensor, factor)
    grey = untone(torch.full((1, 3, 1, 1), _GREY), finish["tone"])[0, 1, 0, 0].item()
    sigma = math.sqrt(min(a * grey + b for a, b in zip(sensor["a"], sensor["b"])))
    fine = min(_MOST_BITS, math.ceil(-math.log2(max(sigma, 1e-6))))
    sensor = {**sensor, "bits": max(sensor["bits"], fine)}
    noise = expected_noise(sensor, finish["color"], finish["tone"])
    return sensor, {**finish, "denoise": {**finish["denoise"], "noise": noise}}
