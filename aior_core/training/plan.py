"""Plans: how a budget of time is spent on the stages of training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

STAGE_NAMES = (
    "autoencoder",
    "detail",
    "restore",
    "prior",
    "together",
    "fusion",
    "joint",
    "polish",
    "tone",
    "keep",
    "maps",
)
"""The stages that the command line knows. Kept here because `stages` needs PyTorch and this module does
not."""


@dataclass(frozen=True)
class StageBudget:
    """One stage and its minutes."""

    stage: str
    minutes: float


@dataclass(frozen=True)
class Plan:
    """The stages of a whole training.

    fresh: starts from random weights. repeat: starts from trained weights, keeps their autoencoder and tone
    curve, and trains their denoiser further in `fusion`.
    """

    fresh: tuple[StageBudget, ...]
    repeat: tuple[StageBudget, ...]


def scaled(budgets: tuple[StageBudget, ...], minutes: float) -> tuple[StageBudget, ...]:
    """The same stages with their minutes scaled by one factor, so that they take `minutes` together."""
    total = sum(budget.minutes for budget in budgets)
    return tuple(replace(budget, minutes=budget.minutes * minutes / total) for budget in budgets)


def _budgets(**minutes: float) -> tuple[StageBudget, ...]:
    return tuple(StageBudget(stage, share) for stage, share in minutes.items())


PLANS: Mapping[str, Plan] = MappingProxyType({
    "gpu-25min": Plan(
        fresh=_budgets(
            autoencoder=3.5, detail=8.5, prior=2.0, fusion=3.5, joint=3.5, tone=1.0, keep=0.5, maps=1.0,
        ),
        repeat=_budgets(together=19.5, fusion=2.5, keep=0.5, maps=1.0),
    ),
    "cpu-2h": Plan(
        fresh=_budgets(
            autoencoder=20.0, detail=52.0, prior=8.0, fusion=12.0, joint=5.0, tone=10.0, keep=5.0, maps=8.0,
        ),
        repeat=_budgets(detail=82.0, fusion=20.0, joint=5.0, keep=5.0, maps=8.0),
    ),
})  # fmt: skip
"""The GPU plan leaves two of its minutes for reading pictures, validating and saving."""
