"""Where a stage's batches come from, and what such a source remembers so that a killed run goes on with the
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
"""`draw(count, side, generator)`: this process's part of a batch of `count`, as the stage's step takes it for
`clean`, and its keywords."""


@dataclass(frozen=True)
class Remembered:
    """What a source needs to go on: `numbers` that JSON can hold, and `tensors` of all processes together."""

    numbers: dict[str, Any]
    tensors: dict[str, Tensor] = field(default_factory=dict)


@runtime_checkable
class Remembers(Protocol):
    """A source of batches that depends on more than the generator it is given."""

    def remembered(self) -> Remembered:
        """What a checkpoint has to hold. All processes call this together."""

    def go_on(self, step: int, memory: Remembered | None) -> None:
        """Before the first draw of a run that goes on after `step` steps. Without `memory` the checkpoint
        held none."""


def fresh(photographs: Photographs, pairs: Pairs | None, pair_share: float, device: str) -> Draw:
    """Clean crops, never the same, with what to tell the step about real pairs among them. The generator
    decides everything."""

    def draw(count: int, size: int, generator: torch.Generator) -> tuple[Tensor, dict]:
        rows = distributed.rows(count)
        if pairs is None:
            return draw_batch(photographs, count, size, generator, rows=rows).to(device), {}
        clean, real = draw_mixed(photographs, pairs, pair_share, count, size, generator, rows=rows)
        return clean.to(device), {"real": real.to(device)}

    return draw
