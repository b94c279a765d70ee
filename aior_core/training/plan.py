"""Plans: how a budget of time is spent on the stages (training.md section 3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType


@dataclass(frozen=True)
class Leg:
    """One stage and its minutes."""

    stage: str
    minutes: float


@dataclass(frozen=True)
class Plan:
    """`fresh` begins with nothing; `repeat` goes on from weights, whose autoencoder and tone curve stay and whose denoiser fusion trains further."""

    fresh: tuple[Leg, ...]
    repeat: tuple[Leg, ...]


def in_all(legs: tuple[Leg, ...], minutes: float) -> tuple[Leg, ...]:
    """The same legs, made longer or shorter alike so that they take `minutes` in all."""
    whole = sum(leg.minutes for leg in legs)
    return tuple(replace(leg, minutes=leg.minutes * minutes / whole) for leg in legs)


PLANS: Mapping[str, Plan] = MappingProxyType({
    "gpu-25min": Plan(
        fresh=(Leg("autoencoder", 3.5), Leg("detail", 8.5), Leg("prior", 2.0), Leg("fusion", 3.5), Leg("joint", 3.5), Leg("tone", 1.0), Leg("keep", 0.5), Leg("maps", 1.0)),
        repeat=(Leg("together", 19.5), Leg("fusion", 2.5), Leg("keep", 0.5), Leg("maps", 1.0)),
    ),
    "cpu-2h": Plan(
        fresh=(Leg("autoencoder", 20.0), Leg("detail", 52.0), Leg("prior", 8.0), Leg("fusion", 12.0), Leg("joint", 5.0), Leg("tone", 10.0), Leg("keep", 5.0), Leg("maps", 8.0)),
        repeat=(Leg("detail", 82.0), Leg("fusion", 20.0), Leg("joint", 5.0), Leg("keep", 5.0), Leg("maps", 8.0)),
    ),
})  # fmt: skip
"""The GPU plan leaves two of its minutes for reading pictures, validating and saving."""
