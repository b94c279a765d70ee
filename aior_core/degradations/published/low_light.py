"""Low light as the published sets have it: a short exposure (LOL), a bent curve (synthetic sets), a night
with lamps.

The severity that is drawn is the exposure lost, `stops / 5` as in the kind, up to 4 stops (0.8). From there
it climbs to the 9 stops of LOL at 1.
"""

from __future__ import annotations

import math

import torch

from ..blur import gaussian_blur
from ..draw import Draw
from ..fields import fractal_noise, stream
from ..light import decode, encode
from .style import Style, color

_KNEE, _KNEE_STOPS, _MOST_STOPS = 0.8, 4.0, 9.0
_MID_GREY = 0.5


def stops_of(severity: float) -> float:
    """Return the stops of exposure lost at `severity` in 0..1."""
    if severity <= _KNEE:
        return round(severity * _KNEE_STOPS / _KNEE, 6)
    return round(_KNEE_STOPS + (severity - _KNEE) / (1.0 - _KNEE) * (_MOST_STOPS - _KNEE_STOPS), 6)


def severity_of(stops: float) -> float:
    """Return the severity in 0..1 that `stops` stand for; beyond 9 it is 1."""
    if stops <= _KNEE_STOPS:
        return max(0.0, stops) * _KNEE / _KNEE_STOPS
    return min(1.0, _KNEE + (stops - _KNEE_STOPS) / (_MOST_STOPS - _KNEE_STOPS) * (1.0 - _KNEE))


_SENSOR = {
    "stops": (0.0, 16.0),
    "tint": (0.1, 4.0, 3, 3),
    "shot": (0.0, 0.1),
    "read": (0.0, 0.1),
    "uneven": (0.1, 8.0, 3, 3),
    "shared": (0.0, 1.0),
    "soft": (0.0, 3.0),
    "black": (0.0, 0.1),
    "bend": (0.3, 3.0),
}


def _exposed(light: torch.Tensor, params: dict, share: float, generator: torch.Generator) -> torch.Tensor:
    """Return what the camera writes for the linear light of a short exposure.

    It has noise, a black level that is a little too high, and 8 bits. The variance is Poisson-Gauss, `shot *
    x + read^2`, times `uneven^2` of the channel (Foi et al., "Practical Poissonian-Gaussian Noise Modeling",
    TIP 2008). `shared` is the share of the variance that all channels have in common, which a colour matrix
    causes. `soft` is the Gaussian blur, in pixels, that demosaicing and noise reduction leave in the noise.
    """
    height, width = light.shape[-2:]
    noise = torch.randn(4, height, width, generator=generator)
    if params["soft"] > 0.0:
        noise = gaussian_blur(noise[None], params["soft"])[0]
        noise = noise / noise.std(correction=0).clamp_min(1e-6)
    noise = math.sqrt(1.0 - params["shared"]) * noise[:3] + math.sqrt(params["shared"]) * noise[3]
    deviation = (params["shot"] * light.clamp_min(0.0) + params["read"] ** 2).sqrt()
    noisy = light + noise.to(light) * deviation * color(params["uneven"], light) * share
    written = encode(noisy) - params["black"] * share
    return (written * 255.0).round().clamp(0.0, 255.0) / 255.0


def _curved(light: torch.Tensor, params: dict, share: float) -> torch.Tensor:
    """Apply a tone curve under which white stays white: `light^bend`."""
    return light.clamp_min(1e-8) ** (1.0 + (params["bend"] - 1.0) * share)


def _short_exposure(picture: torch.Tensor, params: dict, seed: int) -> torch.Tensor:
    """Keep `2^-stops` of the light, in a colour of its own."""
    share = min(1.0, params["stops"] / 3.0)
    tint = 1.0 + (color(params["tint"], picture.float()) - 1.0) * share
    light = _curved(decode(picture.float()), params, share) * tint * 2.0 ** -params["stops"]
    return _exposed(light, params, share, stream(seed)).to(picture.dtype)


def _bent(picture: torch.Tensor, params: dict, seed: int) -> torch.Tensor:
    """Darken display values to `scale * picture^gamma` and add noise to them.

    Most synthetic sets darken in this way.
    """
    _, channels, height, width = picture.shape
    share = min(1.0, params["stops"] / 3.0)
    dark = params["scale"] * picture.float().clamp_min(0.0).pow(params["gamma"])
    dark = dark * (1.0 + (color(params["tint"], dark) - 1.0) * share)
    noise = torch.randn(channels, height, width, generator=stream(seed)).to(dark)
    deviation = (params["shot"] * dark + params["read"] ** 2).sqrt()
    return (dark + noise * deviation * share).to(picture.dtype)


def _lamps(params: dict, generator: torch.Generator, height: int, width: int) -> torch.Tensor:
    """Return `H W` in 0..1: how much of their light the lamps keep at each place."""
    rows = torch.arange(height, dtype=torch.float32)[:, None]
    columns = torch.arange(width, dtype=torch.float32)[None]
    size = max(height, width)
    dark = torch.ones(height, width)
    for x, y, reach, strength in torch.rand(int(params["lamps"]), 4, generator=generator).tolist():
        radius = size * (0.06 + 0.3 * reach)
        distance = ((rows - y * height).square() + (columns - x * width).square()) / radius**2
        # The light of a lamp falls with the square of the distance, and things stand in its way.
        dark = dark * (1.0 - (0.4 + 0.6 * strength) / (1.0 + distance).square())
    shadows = fractal_noise(height, width, generator, octaves=3)
    return (1.0 - dark) * (0.6 + 0.4 * shadows)


def _night(picture: torch.Tensor, params: dict, seed: int) -> torch.Tensor:
    """Make a night.

    Where no lamp reaches, `2^-stops` of the light is left in the colour of the sky. Near a lamp more is left,
    in the colour of the lamp.
    """
    generator = stream(seed)
    share = min(1.0, params["stops"] / 3.0)
    lit = _lamps(params, generator, *picture.shape[-2:]).to(picture.device)
    ambient = 2.0 ** -params["stops"]
    sky = 1.0 + (color(params["tint"], picture.float()) - 1.0) * share
    lamp = 1.0 + (color(params["lamp"], picture.float()) - 1.0) * share
    near = lit * 2.0 ** (-params["stops"] * params["dim"])
    light = _curved(decode(picture.float()), params, share) * (ambient * sky * (1.0 - lit) + near * lamp)
    return _exposed(light, params, share, generator).to(picture.dtype)


def _where_night(params: dict, seed: int, height: int, width: int) -> torch.Tensor:
    lit = _lamps(params, stream(seed), height, width)
    stops = params["stops"]
    if stops <= 0.0:
        return torch.ones(height, width)
    left = 2.0**-stops * (1.0 - lit) + lit * 2.0 ** (-stops * params["dim"])
    return (-torch.log2(left) / stops).clamp(0.0, 1.0)


def _logarithmic(draw: Draw, low: float, high: float) -> float:
    return float(f"{math.exp(draw.uniform(math.log(low), math.log(high))):.6g}")


def _cast(draw: Draw, strength: float) -> list:
    """Draw the gains of a wrong white balance; green is 1."""
    red, blue = (draw.uniform(-1.0, 1.0) * draw.uniform() * draw.uniform() * strength for _ in range(2))
    return [round(math.exp(red), 6), 1.0, round(math.exp(blue), 6)]


def _draw_sensor(draw: Draw, severity: float) -> dict:
    return {
        "stops": stops_of(severity),
        "tint": _cast(draw, 1.3),
        "shot": _logarithmic(draw, 1e-5, 4e-4),
        "read": _logarithmic(draw, 8e-5, 6e-4),
        "uneven": [draw.uniform(1.0, 2.0), 1.0, draw.uniform(0.9, 1.6)],
        "shared": draw.uniform(0.05, 0.8),
        "soft": draw.choice((0.0, draw.uniform(0.3, 0.8)), (0.75, 0.25)),
        "black": draw.uniform(0.0, 0.005),
        "bend": draw.uniform(0.9, 1.35),
    }


def _draw_bent(draw: Draw, severity: float) -> dict:
    stops = round(5.0 * severity, 6)
    # Gamma and scale share the work, so that mid-grey becomes what the stops say.
    grey = encode(decode(torch.tensor(_MID_GREY)) * 2.0**-stops).item()
    scale = round((grey / _MID_GREY) ** draw.uniform(0.0, 0.4), 6)
    return {
        "stops": stops,
        "gamma": round(math.log(grey / scale) / math.log(_MID_GREY), 6),
        "scale": scale,
        "tint": _cast(draw, 0.4),
        "shot": _logarithmic(draw, 1e-5, 3e-3),
        "read": _logarithmic(draw, 2e-3, 3e-2),
    }


def _draw_night(draw: Draw, severity: float) -> dict:
    return {
        **_draw_sensor(draw, severity),
        "tint": [draw.uniform(0.6, 1.0), draw.uniform(0.8, 1.0), draw.uniform(1.0, 1.5)],
        "lamp": [draw.uniform(1.0, 1.25), 1.0, draw.uniform(0.35, 1.0)],
        "lamps": draw.index((0.0, 0.35, 0.3, 0.2, 0.15)),
        "dim": draw.uniform(0.15, 0.45),
    }


STYLES = {
    "lol": Style(
        "low_light",
        "Wei et al., Deep Retinex Decomposition for Low-Light Enhancement, BMVC 2018: a short exposure",
        _draw_sensor,
        _short_exposure,
        _SENSOR,
        severities=(0.7, 1.0),
    ),
    "gamma_light": Style(
        "low_light",
        "Lore et al., LLNet, PR 2017; Lv et al., MBLLEN, BMVC 2018, AGLLNet, IJCV 2021: gamma and noise",
        _draw_bent,
        _bent,
        {
            "stops": (0.0, 16.0),
            "gamma": (0.5, 10.0),
            "scale": (0.0, 1.0),
            "tint": (0.1, 4.0, 3, 3),
            "shot": (0.0, 0.1),
            "read": (0.0, 0.2),
        },
        severities=(0.2, 1.0),
    ),
    "night": Style(
        "low_light",
        "Li et al., LEDNet, ECCV 2022, for what night scenes are: dark, with lamps and noise",
        _draw_night,
        _night,
        {**_SENSOR, "lamp": (0.1, 4.0, 3, 3), "lamps": (0, 64), "dim": (0.0, 1.0)},
        severities=(0.4, 1.0),
        where=_where_night,
    ),
}
