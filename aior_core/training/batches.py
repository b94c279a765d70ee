"""Where a stage's batches come from, and what such a source has to save so that a killed run resumes with the
next batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from . import distributed
from .data import Photographs, draw_batch
from .pairs import Pairs, draw_mixed

Draw = Callable[[int, int, torch.Generator], tuple[Any, dict]]
"""`draw(count, side, generator)` -> this process's rows of a batch of `count` samples of `side` x `side`
pixels: the stage's `clean`, and further keywords of its step."""


@dataclass(frozen=True)
class DrawState:
    """The state of a source of batches: `numbers` that JSON can hold, and `tensors` of all processes
    together."""

    numbers: dict[str, Any]
    tensors: dict[str, Tensor] = field(default_factory=dict)


@runtime_checkable
class StatefulDraw(Protocol):
    """A source of batches that depends on more than the generator it is given."""

    def state(self) -> DrawState:
        """What a checkpoint has to hold. All processes call this together."""

    def restore(self, step: int, state: DrawState | None) -> None:
        """Restore a state before the first draw of a run that resumes after `step` steps. `state` is None
        where the checkpoint holds none."""


def fresh_crops(photographs: Photographs, pairs: Pairs | None, pair_share: float, device: str) -> Draw:
    """Clean crops that are never the same, and which of them are real pairs. The generator alone decides."""

    def draw(count: int, size: int, generator: torch.Generator) -> tuple[Tensor, dict]:
        rows = distributed.rows(count)
        if pairs is None:
            return draw_batch(photographs, count, size, generator, rows=rows).to(device), {}
        clean, real = draw_mixed(photographs, pairs, pair_share, count, size, generator, rows=rows)
        return clean.to(device), {"real": real.to(device)}

    return draw
