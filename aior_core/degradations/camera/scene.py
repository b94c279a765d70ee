"""The scene's air: haze, fog, rain and snow in radiance, by distance."""

import torch

from ..draw import Draw
from ..fields import fractal_noise, stream
from .chance import require
from .depth import draw_depth, follow_edges, given_depth, make_depth
from .development import gaussian
from .particles import apply_particles, draw_rain, draw_snow, particle_cover

NO_SCENE = {"depth": None, "haze": None, "rain": None, "snow": None}


def draw_haze(draw: Draw, beta: float | None = None, indoor: bool = False) -> dict:
    """Draw haze of optical thickness ``beta`` over the whole depth (None: 0.1 to 2.5).

    Airlight goes from yellow smog over grey to blue distance, in linear light; one in ten is night.
    ``patches`` makes fog uneven, ``split`` lets blue fade sooner than red, as thin haze does; ``glow`` is the
    share of light that fog scatters around its way.
    """
    beta = round(0.1 * 25.0 ** draw.uniform(), 6) if beta is None else beta
    # Display values of 0.7 to 1 are linear 0.45 to 1; a quarter is darker, as under trees or in the evening.
    level = draw.uniform(0.45, 1.0) if draw.uniform() < 0.75 else draw.uniform(0.12, 0.5)
    hue = draw.uniform(-1.0, 1.0) ** 3
    air = [level * (1.0 + 0.12 * hue), level, level * (1.0 - 0.28 * hue)]
    fog = draw.uniform() < 0.4
    return {
        "beta": beta,
        "air": [round(min(1.2, part), 6) for part in air],
        "patches": draw.uniform(0.2, 0.9) if fog else draw.uniform(0.0, 0.2),
        "split": 0.0 if fog or indoor else draw.uniform(0.0, 0.35),
        "glow": draw.uniform(0.1, 0.6) if fog else 0.0,
        "reach": draw.uniform(0.01, 0.06),
    }


def draw_scene(
    draw: Draw, haze: float | None = None, rain: float | None = None, snow: float | None = None
) -> dict:
    """Draw a geometry and the weather in it: haze of thickness ``haze``, rain and snow of these amounts; what
    is None is not there.
    """
    indoor = haze is not None and rain is None and snow is None and draw.uniform() < 0.3
    return {
        "depth": draw_depth(draw, indoor),
        "haze": draw_haze(draw, haze, indoor) if haze is not None else None,
        "rain": draw_rain(draw, rain) if rain is not None else None,
        "snow": draw_snow(draw, snow) if snow is not None else None,
    }


def apply_scene(
    light: torch.Tensor,
    params: dict,
    seed: int,
    depth: torch.Tensor | None = None,
    weather=(),
    guide: torch.Tensor | None = None,
) -> torch.Tensor:
    """Lay the weather over ``light`` (``B 3 H W``, linear, any height): haze first, then what falls before
    it.

    ``depth`` is a depth picture (see `given_depth`) that takes the place of the drawn geometry; ``guide`` is
    a display picture whose edges a drawn geometry follows. ``weather`` are more functions ``light, depth,
    seed -> light``, called in turn. With no weather the light is returned as it is.
    """
    falls = [params[name] for name in ("rain", "snow") if params[name] is not None]
    if params["haze"] is None and not falls and not weather:
        return light
    far = scene_depth(params, seed, *light.shape[-2:], depth, guide)
    if params["haze"] is not None:
        light = lay_haze(light, params["haze"], seed + 1, far.to(light))
    for index, fall in enumerate(falls):
        light = apply_particles(light, fall, seed + 2 + index, far)
    for index, more in enumerate(weather):
        light = more(light, far.to(light), seed + 10 + index)
    return light


def scene_depth(
    params: dict,
    seed: int,
    height: int,
    width: int,
    depth: torch.Tensor | None = None,
    guide: torch.Tensor | None = None,
) -> torch.Tensor:
    """``B 1 H W`` depth on the CPU: the one that is given, the one that was drawn (along the edges of
    ``guide``), or one half where neither is.
    """
    if depth is not None:
        return given_depth(depth.float().cpu(), height, width)
    if params["depth"] is None:
        return torch.full((1, 1, height, width), 0.5)
    drawn = make_depth(params["depth"], seed, height, width)[None, None]
    return follow_edges(drawn, guide.float().cpu()) if guide is not None else drawn


def transmission(params: dict, seed: int, depth: torch.Tensor) -> torch.Tensor:
    """``B 3 H W``: the share of each colour's light that haze lets through; ``depth`` is ``B 1 H W``. 1 minus
    it is the truth for a map of haze.

    Raises ValueError when beta is no number in 0..50.
    """
    require("haze", params, beta=(0, 50), patches=(0, 1), split=(0, 0.9), glow=(0, 1), reach=(0, 0.2))
    beta = params["beta"]
    density = 1.0
    if params["patches"] > 0.0:
        cloud = fractal_noise(*depth.shape[-2:], stream(seed), octaves=4, cells=2).to(depth)
        density = 1.0 + params["patches"] * (cloud - 0.5) * 2.0
    # Red, green, blue: thin haze scatters short waves more.
    spread = torch.tensor([1.0 - params["split"], 1.0, 1.0 + params["split"]]).to(depth).view(1, 3, 1, 1)
    return torch.exp(-beta * depth * density * spread)


def weather_cover(
    params: dict,
    seed: int,
    height: int,
    width: int,
    depth: torch.Tensor | None = None,
    guide: torch.Tensor | None = None,
) -> dict:
    """``{"haze" | "rain" | "snow": B 1 H W in 0..1}``: the share of the scene's light that each takes, for
    the weather that is there.
    """
    falls = [name for name in ("rain", "snow") if params[name] is not None]
    if params["haze"] is None and not falls:
        return {}
    far = scene_depth(params, seed, height, width, depth, guide)
    covers = {}
    if params["haze"] is not None:
        covers["haze"] = 1.0 - transmission(params["haze"], seed + 1, far)[:, 1:2]
    for index, name in enumerate(falls):
        covers[name] = particle_cover(params[name], seed + 2 + index, height, width, far)
    return covers


def lay_haze(light: torch.Tensor, params: dict, seed: int, depth: torch.Tensor) -> torch.Tensor:
    """Koschmieder's law in linear light: ``J t + A (1 - t)``."""
    passed = transmission(params, seed, depth)
    if params["glow"] > 0.0:
        # Light that fog scatters forward arrives beside its way, more of it the thicker the fog: a wide, soft
        # halo.
        sigma = max(0.5, params["reach"] * min(light.shape[-2:]))
        share = params["glow"] * (1.0 - passed)
        light = light * (1.0 - share) + _wide(light, sigma) * share
    air = torch.tensor(params["air"]).to(light).view(1, 3, 1, 1)
    return light * passed + air * (1.0 - passed)


def _wide(light: torch.Tensor, sigma: float) -> torch.Tensor:
    """A wide Gaussian at a quarter of the size, which nobody can tell from the real one."""
    if sigma < 6.0 or min(light.shape[-2:]) < 32:
        return gaussian(light, sigma)
    height, width = light.shape[-2:]
    small = torch.nn.functional.interpolate(light, size=(height // 4, width // 4), mode="area")
    return torch.nn.functional.interpolate(
        gaussian(small, sigma / 4.0), size=(height, width), mode="bilinear", align_corners=False
    )
