"""Damaged batches made ahead by processes of their own, so that a GPU does not wait for them.

Drawing and damaging crops is work for processors, of which one makes about 8 megapixels a second; a GPU learns from five times as many.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from . import distributed
from .data import Photographs
from .loop import fresh
from .pairs import Pairs
from .restoration import Batch, damage

PREFETCHED = 2
"""Batches that each process is ahead."""

Request = tuple[int, int]
"""How many samples a batch of all processes has, and their side."""


@dataclass(frozen=True)
class Source(Dataset):
    """What batches are made of; `mix` are keywords of `restoration.damage`. A batch's number decides all that is random in it."""

    photographs: Photographs
    pairs: Pairs | None
    pair_share: float
    mix: Mapping
    seed: int

    def __getitem__(self, asked: tuple[int, Request]) -> tuple[Tensor, ...]:
        """The parts of a `Batch`, pictures in fp16 to travel lighter."""
        number, (count, side) = asked
        generator = torch.Generator().manual_seed(number + (self.seed << 32))
        clean, real = fresh(self.photographs, self.pairs, self.pair_share, "cpu")(count, side, generator)
        batch = damage(clean, generator, **self.mix, **real)
        return tuple(getattr(replace(batch, lq=batch.lq.half(), target=batch.target.half()), field.name) for field in fields(Batch))


class Ahead:
    """A `loop.Draw` whose batches `workers` processes make, in the order of `requests` and not as they are asked for then.

    In what is trained by several processes they are forked, so that they know which rows are theirs.
    """

    def __init__(self, source: Source, requests: Iterable[Request], workers: int, device: str):
        self.source, self.requests, self.workers, self.device = source, requests, workers, device

    @cached_property
    def _batches(self) -> Iterator[list[Tensor]]:
        return iter(DataLoader(
            self.source, batch_size=None, sampler=_Endless(self.requests), num_workers=self.workers, prefetch_factor=PREFETCHED,
            pin_memory=self.device == "cuda", multiprocessing_context="fork" if distributed.world() > 1 else None,
        ))  # fmt: skip

    def __call__(self, count: int, side: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Batch]]:
        """The wished pictures, and as `made` what `restoration.damage` is to take for them."""
        parts = (part.to(self.device, non_blocking=True).float() for part in next(self._batches))
        made = Batch(*parts)
        return made.target, {"made": made}


@dataclass(frozen=True)
class _Endless:
    """A sampler that numbers what is asked."""

    requests: Iterable[Request]

    def __iter__(self) -> Iterator[tuple[int, Request]]:
        return iter(enumerate(self.requests))


def requests(crops: Callable[[float, int], tuple[int, int]], scale: float, progress: Callable[[], float]) -> Iterator[Request]:
    """What a stage with these `crops` will ask for, `scale` times as many samples, each when it is to be begun."""
    step = 0
    while True:
        side, count = crops(progress(), step)
        yield distributed.world() * max(1, round(count * scale / distributed.world())), side
        step += 1
