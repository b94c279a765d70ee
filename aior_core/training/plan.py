"""Plans: how a budget of time is spent on the stages (training.md section 3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType


@dataclass(frozen=True)
class StageBudget:
    """One stage and its minutes."""

    stage: str
    minutes: float


@dataclass(frozen=True)
class Plan:
    """`fresh` begins with nothing; `repeat` goes on from weights, whose autoencoder and tone curve stay and whose denoiser fusion trains further."""

    fresh: tuple[StageBudget, ...]
    repeat: tuple[StageBudget, ...]


def in_all(legs: tuple[StageBudget, ...], minutes: float) -> tuple[StageBudget, ...]:
    """The same legs, made longer or shorter alike so that they take `minutes` in all."""
    whole = sum(leg.minutes for leg in legs)
    return tuple(replace(leg, minutes=leg.minutes * minutes / whole) for leg in legs)


PLANS: Mapping[str, Plan] = MappingProxyType({
    "gpu-25min": Plan(
        fresh=(StageBudget("autoencoder", 3.5), StageBudget("detail", 8.5), StageBudget("prior", 2.0), StageBudget("fusion", 3.5), StageBudget("joint", 3.5), StageBudget("tone", 1.0), StageBudget("keep", 0.5), StageBudget("maps", 1.0)),
        repeat=(StageBudget("together", 19.5), StageBudget("fusion", 2.5), StageBudget("keep", 0.5), StageBudget("maps", 1.0)),
    ),
    "cpu-2h": Plan(
        fresh=(StageBudget("autoencoder", 20.0), StageBudget("detail", 52.0), StageBudget("prior", 8.0), StageBudget("fusion", 12.0), StageBudget("joint", 5.0), StageBudget("tone", 10.0), StageBudget("keep", 5.0), StageBudget("maps", 8.0)),
        repeat=(StageBudget("detail", 82.0), StageBudget("fusion", 20.0), StageBudget("joint", 5.0), StageBudget("keep", 5.0), StageBudget("maps", 8.0)),
    ),
})  # fmt: skip
"""The GPU plan leaves two of its minutes for reading pictures, validating and saving."""
