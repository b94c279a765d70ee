"""What a shot did, measured: labels in the units in which faults are wanted, and maps of where they are."""

import torch

from .curves import untone
from .development import apply_development, from_raw, to_raw
from .exposure import missing_stops
from .optics import blur_map
from .scene import scene_depth, weather_cover
from .sensor import apply_sensor
from .transport import transport_labels

# Seeds of a shot's stages, from the shot's own.
SEEDS = {"scene": 101, "optics": 211, "sensor": 307, "white": 401, "patch": 503}
_GREY = 0.5
# Smoothed noise varies from patch to patch: one of this side is right to some per cent.
_LABEL_PATCH = 144


def shot_labels(
    params: dict,
    seed: int,
    height: int,
    width: int,
    depth: torch.Tensor | None = None,
    picture: torch.Tensor | None = None,
) -> dict:
    """What the shot did, measured, in the units of `WANTED`: kinds that did nothing are 0 (scale 1, quality
    None).

    Noise is the standard deviation, of 255, over all channels, of a developed mid-grey patch before
    transport, hot pixels left out. Blur is the mean spread, ``blur_most`` the strongest; low light the mean
    of missing stops less what the development gave back; haze the mean optical thickness.
    """
    scene, way = params["scene"], transport_labels(params["transport"])
    field = _blur_field(params, seed, height, width, depth, picture)
    covers = weather_cover(scene, seed + SEEDS["scene"], height, width, depth, picture)
    stops = (
        missing_stops(params["exposure"], min(height, 64), min(width, 64)).mean().item()
        - params["development"]["gain"]
    )
    noise = (
        noise_of_grey(params, seed + SEEDS["patch"], _LABEL_PATCH) if params["sensor"] is not None else 0.0
    )
    haze = -torch.log((1.0 - covers["haze"]).clamp_min(1e-6)).mean().item() if "haze" in covers else 0.0
    return {
        "noise": round(noise, 4),
        "blur": round(field.mean().item(), 4),
        "blur_most": round(field.max().item(), 4),
        "low_light": round(max(0.0, stops), 4),
        "haze": round(haze, 4),
        "rain": scene["rain"]["amount"] if scene["rain"] is not None else 0.0,
        "snow": scene["snow"]["amount"] if scene["snow"] is not None else 0.0,
        "low_resolution": way["scale"],
        "jpeg": way["quality"],
        "codings": way["codings"],
    }


def shot_maps(
    params: dict,
    seed: int,
    height: int,
    width: int,
    depth: torch.Tensor | None = None,
    picture: torch.Tensor | None = None,
) -> dict:
    """``{kind: H W in 0..1}``: where each fault is, as a share of what it is where it is strongest; only for
    kinds that are not everywhere alike.
    """
    covers = weather_cover(params["scene"], seed + SEEDS["scene"], height, width, depth, picture)
    maps = {name: cover.mean((0, 1)) for name, cover in covers.items()}
    if params["optics"]["things"] or params["optics"]["defocus"] is not None:
        maps["blur"] = _blur_field(params, seed, height, width, depth, picture)
    if params["exposure"]["lamps"]:
        maps["low_light"] = missing_stops(params["exposure"], height, width)
    return {name: field / field.max().clamp_min(1e-6) for name, field in maps.items()}


def noise_of_grey(params: dict, seed: int, side: int) -> float:
    """Standard deviation, of 255, of a developed patch whose clean display value is mid-grey, without hot
    pixels.

    Hot pixels are few and bright: how many fall into a patch would decide the result.
    """
    light = torch.full((1, 3, side, side), _grey_light(params) / 2.0 ** params["development"]["gain"])
    develop = {**params["development"], "cast": [1.0] * 3}
    recorded = apply_sensor(to_raw(light, develop["color"]), {**params["sensor"], "hot": 0.0}, seed)
    noise = apply_development(from_raw(recorded, develop["color"]), develop)
    return (noise.var((0, 2, 3)).mean().sqrt() * 255.0).item()


def _grey_light(params: dict) -> float:
    return untone(torch.full((1, 3, 1, 1), _GREY), params["development"]["tone"])[0, 1, 0, 0].item()


def _blur_field(params: dict, seed: int, height: int, width: int, depth, picture) -> torch.Tensor:
    optics, far = params["optics"], None
    if optics["defocus"] is not None:
        far = scene_depth(params["scene"], seed + SEEDS["scene"], height, width, depth, picture)
    return blur_map(optics, seed + SEEDS["optics"], height, width, far)
