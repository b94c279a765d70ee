"""The sensor: shot and read noise on a Bayer mosaic, hot pixels, noise of whole rows, digitisation,
demosaicing.

The picture here is raw camera RGB: linear, before white balance, 0 is black, and 1 is a full site. The noise
is the Poisson-Gauss model of Foi, Trimeche, Katkovnik and Egiazarian (IEEE TIP 2008) with the variance `a x +
b`.
"""

import math

import torch

from ..draw import Draw
from .chance import digits, normal, rand, randn, require, streams
from .demosaic import DEMOSAICS, PATTERNS, demosaic, mosaic

NO_SENSOR = {
    "iso": 100.0, "a": [0.0] * 3, "b": [0.0] * 3, "rows": 0.0, "hot": 0.0, "bits": 16,
    "pattern": "rggb", "demosaic": "none",
}  # fmt: skip

# A log-linear law of our own, fitted to several thousand published camera profiles: green's a at ISO 1600,
# its power of the ISO, and the spread between cameras. Most cameras are near the law. A fifth are older or
# smaller sensors.
_A_AT_1600, _A_POWER = 3.8e-5, 0.87
_USUAL, _SMALL = (-0.25, 0.5), (1.0, 0.8)
# Read noise: ln b = 1.25 ln a - 3.1, with a wide spread.
_B_POWER, _B_OFFSET, _B_SPREAD = 1.25, -3.1, 1.0


def draw_sensor(draw: Draw, iso: float | None = None) -> dict:
    """Draw a sensor at `iso` (None: from 100 to 51,200, evenly in stops).

    `a` and `b` hold three numbers for R, G and B. All channels of one sensor have nearly the same, because
    they count the same electrons. (Profiles taken after white balance show twice the values for red and blue.
    That is the gain, not the sensor.)
    """
    iso = float(iso) if iso is not None else round(100.0 * 2.0 ** draw.uniform(0.0, 9.0), 1)
    mean, deviation = _SMALL if draw.uniform() < 0.22 else _USUAL
    log_a = math.log(_A_AT_1600) + _A_POWER * math.log(iso / 1600.0) + normal(draw, mean, deviation)
    log_b = _B_POWER * log_a + _B_OFFSET + normal(draw, 0.0, _B_SPREAD)
    a = [math.exp(log_a + normal(draw, 0.0, 0.1)) for _ in range(3)]
    b = [math.exp(log_b + normal(draw, 0.0, 0.3)) for _ in range(3)]
    loud = draw.uniform() < 0.3
    return {
        "iso": iso,
        "a": [digits(value) for value in a],
        "b": [digits(value) for value in b],
        # Read noise that a whole row shares, as a share of the read noise of a site. It is visible from about
        # 0.1 on.
        "rows": draw.uniform(0.1, 0.5) if loud else draw.uniform(0.0, 0.08),
        "hot": digits(10.0 ** draw.uniform(-5.5, -3.7)) if draw.uniform() < 0.25 else 0.0,
        "bits": draw.choice((10, 12, 14), (0.3, 0.4, 0.3)),
        "pattern": draw.choice(PATTERNS),
        "demosaic": draw.choice(DEMOSAICS, (0.03, 0.4, 0.27, 0.3)),
    }


def scale_noise(params: dict, factor: float) -> dict:
    """Return the same sensor with `factor` times the variance: `a` and `b` grow alike."""
    return {
        **params,
        "a": [digits(x * factor) for x in params["a"]],
        "b": [digits(x * factor) for x in params["b"]],
    }


def apply_sensor(raw: torch.Tensor, params: dict, seed: int, noisy: bool = True) -> torch.Tensor:
    """Record `raw` (`B 3 H W`, from 0) and return it demosaiced, in the same shape; 1 is a full site.

    The result may be slightly negative, because raw files keep what noise takes below black. `noisy=False`
    gives what the same sensor would record without noise, with the same loss of detail. Random fields come
    from the CPU and are the same on every device. Raises ValueError unless `a` and `b` hold three values
    each, none negative.
    """
    a, b = (_three(params, name).to(raw).view(1, 3, 1, 1) for name in ("a", "b"))
    require("the sensor", params, rows=(0, 100), hot=(0, 1), bits=(1, 24))
    on_mosaic = params["demosaic"] != "none"
    level = raw.clamp_min(0.0)
    if on_mosaic:
        pattern = params["pattern"]
        level = mosaic(level, pattern)
        a, b = (mosaic(x.expand(1, 3, *raw.shape[-2:]), pattern) for x in (a, b))
    level = _record(level, a, b, params, seed) if noisy else level
    steps = 2.0 ** params["bits"] - 1.0
    level = (level.clamp_max(1.0) * steps).round() / steps
    return demosaic(level, params["pattern"], params["demosaic"]) if on_mosaic else level


def _record(level: torch.Tensor, a: torch.Tensor, b: torch.Tensor, params: dict, seed: int) -> torch.Tensor:
    generators = streams(seed, level.shape[0])
    field, read = (randn(generators, *level.shape[1:]).to(level) for _ in range(2))
    # The skewness of a Poisson count is 1 / sqrt(count). The quadratic term of Cornish and Fisher gives this
    # skewness, and the linear one is reduced so that the variance stays exact. (torch.poisson would draw
    # another number of random numbers when a rate differs in its last digit, and everything after it would
    # differ between devices.)
    skew = (a / (36.0 * level.clamp_min(1e-9))).sqrt().clamp_max(0.35)
    shot = field * (1.0 - 2.0 * skew**2).sqrt() + skew * (field**2 - 1.0)
    noisy = level + shot * (a * level).sqrt() + read * b.sqrt()
    if params["rows"] > 0.0:
        rows = randn(generators, 1, level.shape[-2], 1).to(level)
        noisy = noisy + rows * (params["rows"] * b.mean().sqrt())
    if params["hot"] > 0.0:
        chance, height = (rand(generators, *level.shape[1:]).to(level) for _ in range(2))
        noisy = noisy + (chance < params["hot"]).to(level) * (0.1 + 0.9 * height)
    return noisy


def _three(params: dict, name: str) -> torch.Tensor:
    values = params[name]
    if len(values) != 3 or not all(math.isfinite(x) and x >= 0.0 for x in values):
        raise ValueError(
            f"camera: {name} of the sensor is {values}; expected three numbers from 0 on, for R, G and B"
        )
    return torch.tensor(values, dtype=torch.float32)
