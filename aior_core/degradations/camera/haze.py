"""Haze and fog in radiance, by distance (Koschmieder's law)."""

import torch
import torch.nn.functional as F

from ..blur import gaussian_blur
from ..draw import Draw
from ..fields import fractal_noise, sides, stream
from .chance import require


def draw_haze(draw: Draw, beta: float | None = None) -> dict:
    """Draw haze of optical thickness `beta` over the whole depth (None: 0.1 to 2.5).

    Airlight goes from yellow smog over grey to blue distance, in linear light. `patches` makes fog uneven.
    `split` lets blue fade sooner than red, as thin haze does. `glow` is the share of light that fog scatters
    beside its way, and `reach` how far, as a share of the shorter side.
    """
    beta = round(0.1 * 25.0 ** draw.uniform(), 6) if beta is None else beta
    # Display values of 0.7 to 1 are 0.45 to 1 in linear light. A quarter of the haze is darker, as under
    # trees or in the evening.
    level = draw.uniform(0.45, 1.0) if draw.uniform() < 0.75 else draw.uniform(0.12, 0.5)
    hue = draw.uniform(-1.0, 1.0) ** 3
    air = [level * (1.0 + 0.12 * hue), level, level * (1.0 - 0.28 * hue)]
    fog = draw.uniform() < 0.4
    return {
        "beta": beta,
        "air": [round(min(1.2, part), 6) for part in air],
        "patches": draw.uniform(0.2, 0.9) if fog else draw.uniform(0.0, 0.2),
        "split": 0.0 if fog else draw.uniform(0.0, 0.35),
        "glow": draw.uniform(0.1, 0.6) if fog else 0.0,
        "reach": draw.uniform(0.01, 0.06),
    }


def transmission(params: dict, seed: int, depth: torch.Tensor) -> torch.Tensor:
    """Return `B 3 H W`: the share of each colour's light that haze lets through; `depth` is `B 1 H W`.

    1 minus it is the truth for a map of haze. Raises ValueError for a parameter beyond its limits.
    """
    require("haze", params, beta=(0, 50), patches=(0, 1), split=(0, 0.9), glow=(0, 1), reach=(0, 0.2))
    density: float | torch.Tensor = 1.0
    if params["patches"] > 0.0:
        cloud = fractal_noise(*sides(depth), stream(seed), octaves=4, cells=2).to(depth)
        density = 1.0 + params["patches"] * (cloud - 0.5) * 2.0
    # Red, green, blue: thin haze scatters short waves more.
    spread = torch.tensor([1.0 - params["split"], 1.0, 1.0 + params["split"]]).to(depth).view(1, 3, 1, 1)
    return torch.exp(-params["beta"] * depth * density * spread)


def lay_haze(light: torch.Tensor, params: dict, seed: int, depth: torch.Tensor) -> torch.Tensor:
    """Lay haze over linear light (`B 3 H W`) by `J t + A (1 - t)`; `depth` is `B 1 H W`."""
    passed = transmission(params, seed, depth)
    if params["glow"] > 0.0:
        # Light that fog scatters forward arrives beside its way, more of it in thicker fog: a wide, soft
        # halo.
        sigma = max(0.5, params["reach"] * min(light.shape[-2:]))
        share = params["glow"] * (1.0 - passed)
        light = light * (1.0 - share) + _wide(light, sigma) * share
    air = torch.tensor(params["air"]).to(light).view(1, 3, 1, 1)
    return light * passed + air * (1.0 - passed)


def _wide(light: torch.Tensor, sigma: float) -> torch.Tensor:
    """Blur by a Gaussian; a wide one at a quarter of the size, where the difference cannot be seen."""
    if sigma < 6.0 or min(light.shape[-2:]) < 32:
        return gaussian_blur(light, sigma, "reflect")
    height, width = light.shape[-2:]
    small = F.interpolate(light, size=(height // 4, width // 4), mode="area")
    return F.interpolate(
        gaussian_blur(small, sigma / 4.0, "reflect"),
        size=(height, width),
        mode="bilinear",
        align_corners=False,
    )
