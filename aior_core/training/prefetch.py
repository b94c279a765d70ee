"""Damaged batches made ahead by processes of their own, so that a GPU does not wait for them.

Drawing and damaging crops is work for processors, of which one makes about 8 megapixels a second; a GPU
learns from five times as many.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from . import distributed
from .data import Photographs
from .draws import Remembered, fresh
from .pairs import Pairs
from .restoration import Batch, damage
from .seeds import seeded

PREFETCHED = 2
"""Batches that each process is ahead."""

Request = tuple[int, int]
"""How many samples a batch of all processes has, and their side."""

Ask = Callable[[int], Request]
"""`ask(number)`: what batch `number` is to be. It is called when the batch is begun, not when it is used."""


@dataclass(frozen=True)
class Source(Dataset):
    """What batches are made of; `mix` are keywords of `restoration.damage`.

    `seed`, the name of the `stage` and a batch's number together decide everything that is random in it.
    """

    photographs: Photographs
    pairs: Pairs | None
    pair_share: float
    mix: Mapping
    seed: int
    stage: str

    def __getitem__(self, asked: tuple[int, Request]) -> tuple[Tensor, ...]:
        """The parts of a `Batch`, pictures in fp16 to travel lighter."""
        number, (count, side) = asked
        generator = seeded(self.seed, self.stage, number)
        clean, real = fresh(self.photographs, self.pairs, self.pair_share, "cpu")(count, side, generator)
        batch = damage(clean, generator, **self.mix, **real)
        return tuple(
            getattr(replace(batch, lq=batch.lq.half(), target=batch.target.half()), field.name)
            for field in fields(Batch)
        )


class Prefetcher:
    """A `loop.Draw` whose batches `workers` processes make. `ask` decides their sizes, not the caller of the
    draw.

    Batches come in the order of their numbers, from 0 or, in a run that goes on, from the first that the run
    has not used yet. In what is trained by several processes the workers are forked, so that they know which
    rows are theirs.
    """

    def __init__(self, source: Source, ask: Ask, workers: int, device: str):
        self.source, self.ask, self.workers, self.device = source, ask, workers, device
        self.number = 0

    @cached_property
    def _batches(self) -> Iterator[list[Tensor]]:
        return iter(DataLoader(
            self.source, batch_size=None, sampler=_Numbered(self.ask, self.number), num_workers=self.workers,
            prefetch_factor=PREFETCHED, pin_memory=self.device == "cuda",
            multiprocessing_context="fork" if distributed.world() > 1 else None,
        ))  # fmt: skip

    def __call__(self, count: int, side: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Batch]]:
        """The wished pictures, and as `made` what `restoration.damage` is to take for them."""
        parts = (part.to(self.device, non_blocking=True).float() for part in next(self._batches))
        made = Batch(*parts)
        self.number += 1
        return made.target, {"made": made}

    def remembered(self) -> Remembered:
        """The number of the next batch."""
        return Remembered({"number": self.number})

    def go_on(self, step: int, memory: Remembered | None) -> None:
        """Go on with the next batch; where its number is not known, with `step`, as no step uses more than
        one batch.

        Raises RuntimeError when batches are being made already.
        """
        if "_batches" in vars(self):
            raise RuntimeError(
                "training: batches are being made already; a run is restored before its first step"
            )
        self.number = memory.numbers["number"] if memory else step


@dataclass(frozen=True)
class _Numbered:
    """A sampler that numbers what is asked, from `first` on."""

    ask: Ask
    first: int

    def __iter__(self) -> Iterator[tuple[int, Request]]:
        return ((number, self.ask(number)) for number in itertools.count(self.first))


def asking(
    crops: Callable[[float, int], tuple[int, int]], scale: float, progress: Callable[[], float]
) -> Ask:
    """What a stage with these `crops` asks for: `scale` times its samples, of the size that fits `progress`
    when it is asked."""

    def ask(number: int) -> Request:
        side, count = crops(progress(), number)
        return distributed.whole(count * scale), side

    return ask
