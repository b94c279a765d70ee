"""Point spread functions: Gaussian, disc, polygon of an aperture's blades, path of a moving camera or thing.

The `sigma` of a function is its spread: the standard deviation, in pixels and per axis, of where the light of
a point lands. A disc of radius r has r / 2, and an even straight path of length L has L / 4.9. So equal sigma
means an equal amount of blur for every shape.
"""

import math

import torch
import torch.nn.functional as F

from ..draw import Draw
from ..fields import splat, stream
from .chance import normal

SHAPES = ("gaussian", "disc", "polygon", "path")
# Longer paths would take kernels larger than pictures.
_LARGEST_SIGMA = 128.0


def draw_psf(draw: Draw, sigma: float | None = None, shape: str | None = None) -> dict:
    """Draw a point spread function of `sigma` and `shape` (None: any).

    Without `sigma` it is 0.4 to 13 pixels, small values more often; 13 is a path of 64 pixels.
    """
    shape = shape or draw.choice(SHAPES, (0.3, 0.12, 0.13, 0.45))
    if sigma is None:
        top = 13.0 if shape == "path" else 5.0
        sigma = round(0.4 * (top / 0.4) ** draw.uniform(), 6)
    params = {"shape": shape, "sigma": sigma}
    if shape == "gaussian":
        # Every second one is stretched, as by a lens away from its axis or by a slight shake.
        stretched = draw.uniform() < 0.5
        params |= {"stretch": draw.uniform(1.2, 3.0) if stretched else 1.0, "angle": draw.uniform(0.0, 180.0)}
    elif shape == "polygon":
        params |= {"blades": int(draw.uniform(5.0, 9.999)), "angle": draw.uniform(0.0, 360.0)}
    elif shape == "path":
        params |= {"angle": draw.uniform(0.0, 360.0)}
        # Things move straight and evenly. Hands shake, turn back and rest.
        if draw.uniform() < 0.4:
            params |= {"bend": draw.uniform(0.0, 0.3), "shake": 0.0, "rest": draw.uniform(0.0, 0.2)}
        else:
            shake = abs(normal(draw, 0.0, 0.25))
            params |= {"bend": draw.uniform(0.3, 2.0), "shake": shake, "rest": draw.uniform(0.2, 1.5)}
    return params


def point_spread(params: dict, seed: int) -> torch.Tensor:
    """Return a kernel `K K` (K odd, sum 1, on the CPU) with its centre of gravity in the middle.

    Sigma 0 gives a single 1. Raises ValueError for an unknown shape, or a sigma that is not a number in
    0..128.
    """
    sigma, shape = params["sigma"], params["shape"]
    if not (math.isfinite(sigma) and 0.0 <= sigma <= _LARGEST_SIGMA):
        raise ValueError(
            f"camera: sigma of a blur is {sigma}; expected a number of pixels in 0..{_LARGEST_SIGMA:g}"
        )
    if shape not in SHAPES:
        raise ValueError(f"camera: unknown blur {shape!r}; expected one of {', '.join(SHAPES)}")
    if sigma < 0.05:
        return torch.ones(1, 1)
    # On a grid of pixels the spread of a small shape is not quite the nominal one. One correction makes it
    # right. Below 0.6 pixels a part of the light stays where it is.
    base = max(sigma, 0.6)
    kernel = _shape(base, params, seed)
    if sigma < 3.0:
        kernel = _shape(base * base / spread(kernel), params, seed)
    share = (sigma / spread(kernel)) ** 2
    if share < 1.0:
        kernel = kernel * share
        kernel[kernel.shape[0] // 2, kernel.shape[0] // 2] += 1.0 - share
    return kernel


def _shape(sigma: float, params: dict, seed: int) -> torch.Tensor:
    if params["shape"] == "gaussian":
        return _gaussian(sigma, params["stretch"], params["angle"])
    if params["shape"] == "path":
        return _path(sigma, params, seed)
    return _aperture(
        sigma, params.get("blades", 0) if params["shape"] == "polygon" else 0, params.get("angle", 0.0)
    )


def spread(kernel: torch.Tensor) -> float:
    """Return the sigma of a kernel of sum 1: the square root of its mean variance per axis, in pixels."""
    axis = torch.arange(kernel.shape[0], dtype=torch.float64)
    weights = kernel.double()
    variance = 0.0
    for share in (weights.sum(0), weights.sum(1)):
        mean = (share * axis).sum()
        variance += (share * (axis - mean) ** 2).sum().item() / 2.0
    return math.sqrt(max(0.0, variance))


def _gaussian(sigma: float, stretch: float, angle: float) -> torch.Tensor:
    # The mean of the variances along and across is sigma squared.
    across = sigma * math.sqrt(2.0 / (1.0 + stretch**2))
    along = across * stretch
    reach = max(1, math.ceil(3.2 * along))
    axis = torch.arange(-reach, reach + 1, dtype=torch.float32)
    turn = math.radians(angle)
    u = axis[None] * math.cos(turn) + axis[:, None] * math.sin(turn)
    v = axis[:, None] * math.cos(turn) - axis[None] * math.sin(turn)
    kernel = torch.exp(-0.5 * ((u / along) ** 2 + (v / max(across, 0.3)) ** 2))
    return kernel / kernel.sum()


def _aperture(sigma: float, corners: int, angle: float) -> torch.Tensor:
    radius = 2.0 * sigma
    reach = max(1, math.ceil(radius * (1.25 if corners else 1.0) + 0.5))
    fine = 4
    axis = (torch.arange((2 * reach + 1) * fine, dtype=torch.float32) + 0.5) / fine - reach - 0.5
    distance = (axis[:, None] ** 2 + axis[None] ** 2).sqrt()
    if corners:
        # Distance to the side in this direction, scaled so that the polygon has the area of the disc.
        sector = 2.0 * math.pi / corners
        direction = torch.atan2(
            axis[:, None].expand_as(distance), axis[None].expand_as(distance)
        ) - math.radians(angle)
        inner = torch.remainder(direction, sector) - sector / 2.0
        distance = distance * inner.cos() / math.sqrt(math.pi / (corners * math.tan(math.pi / corners)))
    inside = (distance <= radius).float()
    kernel = F.avg_pool2d(inside[None, None], fine)[0, 0]
    return kernel / kernel.sum()


def _path(sigma: float, params: dict, seed: int) -> torch.Tensor:
    generator = stream(seed)
    count = max(24, math.ceil(sigma * 30.0))
    bends, rests, shakes = (torch.randn(6, generator=generator) for _ in range(3))
    jitter = torch.randn(2, 24, generator=generator)

    def along(knots: torch.Tensor) -> torch.Tensor:
        return F.interpolate(knots[None, None], size=count, mode="linear", align_corners=True)[0, 0]

    heading = (
        math.radians(params["angle"])
        + along(bends * params["bend"]).cumsum(0) / count * 3.0
        + along(shakes * params["shake"])
    )
    speed = torch.exp(along(rests * params["rest"]))
    x, y = ((part * speed).cumsum(0) for part in (heading.cos(), heading.sin()))
    scale = (x.max() - x.min() + y.max() - y.min()) * 0.12 * params["shake"]
    x, y = x + along(jitter[0]) * scale, y + along(jitter[1]) * scale
    x, y = x - x.mean(), y - y.mean()
    # A pixel is one pixel wide. Its own variance (a twelfth of a square pixel) belongs to the spread, and so
    # does that of sharing points among four pixels.
    own = 1.0 / 6.0
    factor = math.sqrt(max(sigma**2 - own, 0.0) / max(((x**2).mean() + (y**2).mean()).item() / 2.0, 1e-12))
    x, y = x * factor, y * factor
    reach = max(1, math.ceil(max(x.abs().max().item(), y.abs().max().item())) + 1)
    size = 2 * reach + 1
    kernel = splat(size, size, x + reach, y + reach, torch.ones(count))
    return kernel / kernel.sum()
