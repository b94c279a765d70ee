"""One shot: a finished picture is taken back to light, photographed again with faults, developed and sent.

Display values -> scene light (tone curve undone, what was white made brighter than white) -> weather ->
optics -> exposure -> camera RGB -> sensor -> camera RGB back to light -> development -> transport. Each may
do nothing; with all of them off the picture comes back.
"""

import math

import torch
import torch.nn.functional as F

from ..draw import Draw
from ..fields import smooth_field, stream
from .chance import normal
from .curves import SRGB, untone
from .development import (
    NO_DEVELOPMENT,
    NOISE_LEVELS,
    apply_development,
    draw_development,
    expected_noise,
    from_raw,
    to_raw,
)
from .exposure import NO_EXPOSURE, apply_exposure, draw_exposure
from .labels import SEEDS, noise_of_grey, shot_labels, shot_maps
from .optics import NO_OPTICS, apply_optics, draw_optics
from .scene import NO_SCENE, apply_scene, draw_scene, scene_depth
from .sensor import apply_sensor, draw_sensor, scale_noise
from .transport import NO_TRANSPORT, apply_transport, draw_transport

__all__ = [
    "NO_SHOT",
    "WANTED",
    "apply_shot",
    "draw_shot",
    "neutral_shot",
    "photograph",
    "shot_labels",
    "shot_maps",
    "undevelop",
    "with_noise",
]

NO_SHOT = {
    "white": 0.0, "scene": NO_SCENE, "optics": NO_OPTICS, "exposure": NO_EXPOSURE, "sensor": None,
    "development": NO_DEVELOPMENT, "transport": NO_TRANSPORT, "noise_only": False,
}  # fmt: skip
# What can be wanted, and in which unit.
WANTED = {
    "noise": "standard deviation of 255 at mid-grey",
    "blur": "spread in pixels",
    "low_resolution": "how many times smaller",
    "rain": "amount 0..1",
    "snow": "amount 0..1",
    "haze": "optical thickness",
    "low_light": "stops",
    "jpeg": "quality 1..100",
}
# Display values from which a channel counts as clipped: light there may have been any height.
_CLIPPED = 254.0 / 255.0 - 1e-6
_PATCH = 80
# Noise before reduction, in units of what is left and of 255, above which reduction is made weaker instead.
_MOST_REMOVED, _MOST_BEFORE = 2.2, 20.0


def draw_shot(draw: Draw, wanted: dict) -> dict:
    """Draw a shot with these faults, and nothing that is not named but the camera's own manner.

    ``wanted`` gives kinds of `WANTED` with their primary quantity. A shot with noise or low light has a
    sensor and usually the JPEG of a camera (quality 80 to 99 for the most part). Raises ValueError at another
    name.
    """
    unknown = set(wanted) - set(WANTED)
    if unknown:
        raise ValueError(
            f"camera: cannot draw {', '.join(sorted(unknown))}; expected some of {', '.join(WANTED)}"
        )
    params = {**NO_SHOT, "development": draw_development(draw)}
    if "low_light" in wanted and draw.uniform() < 0.85:
        # Steep curves of film would turn a dark scene black.
        params["development"] = {**params["development"], "tone": dict(SRGB)}
    params["white"] = round(math.exp(normal(draw, 1.0, 0.7, 2.0)) - 0.5, 6) if draw.uniform() < 0.6 else 0.0
    if {"haze", "rain", "snow"} & set(wanted):
        params["scene"] = draw_scene(draw, **{name: wanted.get(name) for name in ("haze", "rain", "snow")})
    if "blur" in wanted:
        params["optics"] = draw_optics(draw, wanted["blur"])
    if "low_light" in wanted:
        params["exposure"] = draw_exposure(draw, wanted["low_light"])
        if draw.uniform() < 0.3:
            # The camera saw even less and brightened it, with the noise.
            params = _brightened(params, draw.uniform(0.5, 3.0))
        if draw.uniform() < 0.3:
            cast = [round(math.exp(normal(draw, 0.0, 0.12)), 6) for _ in range(3)]
            params["development"] = {**params["development"], "cast": cast}
    if "noise" in wanted or ("low_light" in wanted and draw.uniform() < 0.75):
        # Dark pictures come at every sensitivity; at the highest ones a camera would have exposed longer.
        iso = None if "noise" in wanted else round(100.0 * 2.0 ** draw.uniform(0.0, 7.0), 1)
        params["sensor"] = draw_sensor(draw, iso)
        params["noise_only"] = draw.uniform() < 0.6
        params = (
            with_noise(_calmer(params, wanted["noise"]), wanted["noise"], draw.seed())
            if "noise" in wanted
            else _told_of_noise(params)
        )
    else:
        # Without a sensor there is nothing to reduce and no reason to sharpen.
        plain = {name: NO_DEVELOPMENT[name] for name in ("denoise", "sharpen")}
        params["development"] = {**params["development"], **plain}
    params["transport"] = _draw_way(draw, wanted, params["sensor"] is not None)
    return params


def with_noise(params: dict, sigma: float, seed: int) -> dict:
    """The same shot with its sensor's variance scaled until the developed noise at mid-grey is ``sigma`` (of
    255), to some per cent.

    Where noise reduction leaves too little whatever the sensor does, it is made weaker. The result says so in
    its parameters; `shot_labels` measures what came out.
    """
    if not (math.isfinite(sigma) and 0.0 <= sigma <= 255.0):
        raise ValueError(f"camera: noise of {sigma} is wanted; expected a standard deviation in 0..255")
    if sigma == 0.0:
        return {**params, "sensor": None}
    # The first guess comes from the formula; looks at a grey patch correct it.
    unit = expected_noise(params["sensor"], params["development"], 3)[1]
    params = _told_of_noise(
        {**params, "sensor": scale_noise(params["sensor"], (1.5 * sigma / 255.0 / unit) ** 2)}
    )
    most = max(_MOST_REMOVED * sigma, _MOST_BEFORE)
    for _ in range(6):
        ratio = sigma / max(noise_of_grey(params, seed, _PATCH), 1e-3)
        if abs(ratio - 1.0) < 0.03:
            break
        develop = params["development"]
        if ratio > 1.0 and develop["denoise"]["noise"][NOISE_LEVELS // 2] * 255.0 > most:
            # Ever more noise behind ever more reduction would clip in the channels and tint the picture.
            weaker = {name: round(develop["denoise"][name] * 0.6, 6) for name in ("luma", "chroma", "soft")}
            develop = {**develop, "denoise": {**develop["denoise"], **weaker}}
        factor = min(2.0, max(0.1, ratio)) ** 2
        params = _told_of_noise(
            {**params, "development": develop, "sensor": scale_noise(params["sensor"], factor)},
        )
    return params


def apply_shot(
    picture: torch.Tensor, params: dict, seed: int, depth: torch.Tensor | None = None, weather=()
) -> tuple:
    """``(picture, labels)``: ``picture`` (``B 3 H W``, sRGB 0..1) photographed again, and what `shot_labels`
    measures.

    ``depth`` and ``weather`` go to `apply_scene`; ``depth`` is used for defocus too.
    """
    out = photograph(picture, params, seed, depth, weather)
    return out, shot_labels(params, seed, *picture.shape[-2:], depth, picture)


def photograph(
    picture: torch.Tensor, params: dict, seed: int, depth: torch.Tensor | None = None, weather=()
) -> torch.Tensor:
    """The picture of `apply_shot` alone."""
    develop = params["development"]
    light = undevelop(picture, params, seed)
    light = apply_scene(light, params["scene"], seed + SEEDS["scene"], depth, weather, picture)
    optics = params["optics"]
    if optics["defocus"] is not None:
        far = scene_depth(params["scene"], seed + SEEDS["scene"], *light.shape[-2:], depth, picture).to(light)
        light = apply_optics(light, optics, seed + SEEDS["optics"], far)
    else:
        light = apply_optics(light, optics, seed + SEEDS["optics"])
    light = apply_exposure(light, params["exposure"]).clamp(0.0, 1.0)
    if params["sensor"] is None:
        display = apply_development(light, develop)
    else:
        display = record(light, params, seed + SEEDS["sensor"])
    return apply_transport(display, params["transport"])


def undevelop(picture: torch.Tensor, params: dict, seed: int) -> torch.Tensor:
    """Scene light of ``picture`` (``B 3 H W``, display 0..1): the tone curve undone, and what is clipped made
    up to ``1 + white`` times brighter.

    How much is a field of some soft hills: not every lamp is equally bright. Single clipped pixels, and areas
    where only one colour is clipped, are hardly changed: these are the crests of texture and of strong
    colours, not lamps.
    """
    light = untone(picture, params["development"]["tone"])
    if params["white"] <= 0.0:
        return light
    clipped = (picture >= _CLIPPED).to(picture)
    around = F.avg_pool2d(F.pad(clipped, (2,) * 4, mode="replicate"), 5, stride=1).mean(1, keepdim=True)
    hills = smooth_field(*picture.shape[-2:], stream(seed + SEEDS["white"]), cells=4).to(light)
    return light * (1.0 + params["white"] * hills * around**2 * clipped)


def record(light: torch.Tensor, params: dict, seed: int) -> torch.Tensor:
    """Sensor and development. ``noise_only`` adds what noise changes to the picture that a sensor with a site
    per colour and pixel would give.

    So the noise has been through mosaic, noise reduction and sharpening, and the picture has not: as where
    the truth is the mean of many shots of the same camera.
    """
    color, develop, sensor = params["development"]["color"], params["development"], params["sensor"]
    raw = to_raw(light, color)
    display = apply_development(from_raw(apply_sensor(raw, sensor, seed), color), develop)
    if not params["noise_only"]:
        return display
    quiet = apply_development(from_raw(apply_sensor(raw, sensor, seed, noisy=False), color), develop)
    plain = apply_development(
        light, {**develop, "denoise": NO_DEVELOPMENT["denoise"], "sharpen": NO_DEVELOPMENT["sharpen"]}
    )
    return (plain + display - quiet).clamp(0.0, 1.0)


def _told_of_noise(params: dict) -> dict:
    """The camera knows its noise and sets the thresholds of noise reduction by it."""
    develop = params["development"]
    noise = expected_noise(params["sensor"], develop)
    return {**params, "development": {**develop, "denoise": {**develop["denoise"], "noise": noise}}}


def _calmer(params: dict, sigma: float) -> dict:
    """Cameras smooth chroma more where noise is stronger: people forgive grain and not coloured spots."""
    denoise = params["development"]["denoise"]
    denoise = {**denoise, "smooth": max(denoise["smooth"], 1.2)} if sigma > 10.0 else denoise
    smooth = round(denoise["smooth"] * min(2.5, max(1.0, sigma / 8.0) ** 0.8), 6)
    return {**params, "development": {**params["development"], "denoise": {**denoise, "smooth": smooth}}}


def _brightened(params: dict, stops: float) -> dict:
    exposure = {**params["exposure"], "stops": round(params["exposure"]["stops"] + stops, 6)}
    return {**params, "exposure": exposure, "development": {**params["development"], "gain": stops}}


def _draw_way(draw: Draw, wanted: dict, file_of_camera: bool) -> dict:
    if "jpeg" in wanted or "low_resolution" in wanted:
        way = draw_transport(
            draw, wanted.get("jpeg"), wanted.get("low_resolution"), None if "jpeg" in wanted else False
        )
        if "jpeg" not in wanted and draw.uniform() < 0.7:
            way = {**way, "steps": [step for step in way["steps"] if step["do"] == "resize"]}
        return way
    if file_of_camera and draw.uniform() < 0.7:
        return draw_transport(draw, twice=False)
    return {**NO_TRANSPORT, "steps": [{"do": "round"}] if draw.uniform() < 0.8 else []}


def neutral_shot(draw: Draw) -> dict:
    """A drawn camera with every fault off: `photograph` returns the picture to within 1/255. For tests, and
    to start from.
    """
    develop = draw_development(draw)
    return {
        **NO_SHOT,
        "white": 2.0,
        "development": {**NO_DEVELOPMENT, "color": develop["color"], "tone": develop["tone"]},
    }
