"""Normal parameters, one random stream per picture of a batch, and a check of numbers that others wrote."""

import math

import torch

from ..draw import Draw
from ..fields import stream

_STRIDE = 1_000_003


def normal(draw: Draw, mean: float = 0.0, deviation: float = 1.0, reach: float = 3.0) -> float:
    """Draw a normally distributed number (Box and Muller) within `reach` standard deviations of `mean`."""
    radius = math.sqrt(-2.0 * math.log(max(draw.uniform(), 1e-6)))
    value = radius * math.cos(2.0 * math.pi * draw.uniform())
    return round(mean + deviation * min(reach, max(-reach, value)), 6)


def streams(seed: int, count: int) -> list:
    """Return `count` generators, one per picture of a batch.

    The picture at `index` gets the fields that it would get alone at the seed `seed + 1000003 * index`.
    """
    return [stream((int(seed) + index * _STRIDE) % 2**63) for index in range(count)]


def randn(generators: list, *shape: int) -> torch.Tensor:
    """Return standard normal numbers `B *shape`, from one generator per picture, on the CPU."""
    return torch.stack([torch.randn(*shape, generator=generator) for generator in generators])


def rand(generators: list, *shape: int) -> torch.Tensor:
    """Return uniform numbers in 0..1 `B *shape`, from one generator per picture, on the CPU."""
    return torch.stack([torch.rand(*shape, generator=generator) for generator in generators])


def digits(value: float) -> float:
    """Round to six significant digits: variances are too small for a fixed number of decimals."""
    return float(f"{value:.6g}")


def require(what: str, params: dict, **limits: tuple) -> None:
    """Raise ValueError unless each named parameter of `what` is a number within its `(low, high)`.

    Parameters are text that anybody can have written: a flake of 10^9 pixels would take all memory.
    """
    for name, (low, high) in limits.items():
        value = params[name]
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        if not number or not low <= value <= high:
            raise ValueError(
                f"camera: {name} of {what} is {str(value)[:60]}; expected a number in {low:g}..{high:g}"
            )
