"""Damaged batches that other processes make in advance, so that a GPU does not wait for them.

Drawing and damaging crops is work for processors. One core makes about 8 megapixels a second; a GPU trains on
five times as many.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from . import distributed
from .batches import DrawState, fresh_crops
from .data import Photographs
from .pairs import Pairs
from .restoration import Batch, damage
from .seeds import seeded

PREFETCHED = 2
"""Batches that each worker process holds ready."""

Request = tuple[int, int]
"""The samples of a batch of all processes, and the side of its crops in pixels."""

Requests = Callable[[int], Request]
"""`requests(number)` -> what batch `number` is to be. Called when the batch is begun, not when it is used."""


@dataclass(frozen=True)
class Source(Dataset):
    """A data set of damaged batches.

    damage_options: keywords of `restoration.damage`. `seed`, the name of the `stage` and the batch's number
    together decide everything that is random in a batch.
    """

    photographs: Photographs
    pairs: Pairs | None
    pair_share: float
    damage_options: Mapping[str, Any]
    seed: int
    stage: str

    def __getitem__(self, asked: tuple[int, Request]) -> tuple[Tensor, ...]:
        """The fields of a `Batch`, its pictures in fp16 so that less is sent between processes."""
        number, (count, side) = asked
        generator = seeded(self.seed, self.stage, number)
        draw = fresh_crops(self.photographs, self.pairs, self.pair_share, "cpu")
        clean, real = draw(count, side, generator)
        batch = damage(clean, generator, **self.damage_options, **real)
        batch = replace(batch, lq=batch.lq.half(), target=batch.target.half())
        return tuple(getattr(batch, field.name) for field in fields(Batch))


class Prefetcher:
    """A `batches.Draw` whose batches `workers` processes make. `requests` decides their sizes, not the
    caller.

    Batches come in the order of their numbers: from 0, or in a resumed run from the first one that has not
    been used. When several processes train, the workers are forked, so that they know which rows are theirs.
    """

    def __init__(self, source: Source, requests: Requests, workers: int, device: str):
        self.source, self.requests, self.workers, self.device = source, requests, workers, device
        self.number = 0

    @cached_property
    def _batches(self) -> Iterator[list[Tensor]]:
        return iter(DataLoader(
            self.source, batch_size=None, sampler=_NumberedRequests(self.requests, self.number),
            num_workers=self.workers, prefetch_factor=PREFETCHED, pin_memory=self.device == "cuda",
            multiprocessing_context="fork" if distributed.world() > 1 else None,
        ))  # fmt: skip

    def __call__(self, count: int, side: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Batch]]:
        """The targets, and the whole batch as `made` for `restoration.damage`. The arguments are not used."""
        parts = (part.to(self.device, non_blocking=True).float() for part in next(self._batches))
        made = Batch(*parts)
        self.number += 1
        return made.target, {"made": made}

    def state(self) -> DrawState:
        """The number of the next batch."""
        return DrawState({"number": self.number})

    def restore(self, step: int, state: DrawState | None) -> None:
        """Continue with the next batch. Where its number is not known it is `step`: no step uses more than
        one.

        Raises RuntimeError when workers are making batches already.
        """
        if "_batches" in vars(self):
            raise RuntimeError(
                "training: batches are being made already; a run is restored before its first step"
            )
        self.number = state.numbers["number"] if state else step


class _NumberedRequests(Sampler):
    """Numbers the requests, beginning at `first`. Endless."""

    def __init__(self, requests: Requests, first: int):
        self.requests, self.first = requests, first

    def __iter__(self) -> Iterator[tuple[int, Request]]:
        return ((number, self.requests(number)) for number in itertools.count(self.first))


def batch_requests(
    crops: Callable[[float, int], tuple[int, int]], scale: float, progress: Callable[[], float]
) -> Requests:
    """The requests of a stage with these `crops`: `scale` times its samples, of the size that fits `progress`
    when the batch is begun."""

    def requests(number: int) -> Request:
        side, count = crops(progress(), number)
        return distributed.divisible(count * scale), side

    return requests
