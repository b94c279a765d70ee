"""Real pairs: damaged pictures with their clean versions, mixed into the batches."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .data import Photographs, draw_cut, stack_crops, take


@dataclass(frozen=True)
class Pairs:
    """Damaged pictures and their clean versions, in the same order and of the same sizes."""

    lq: Photographs
    gt: Photographs


@dataclass(frozen=True)
class Real:
    """The real pairs of a batch.

    rows: for every row of the whole batch (of all processes) whether it is a real pair. lq: `B 3 H W` in
    -1..1, the damaged pictures of this process's rows; a row that is no real pair holds its clean picture.
    """

    rows: tuple[bool, ...]
    lq: Tensor

    def to(self, device: str) -> Real:
        return Real(self.rows, self.lq.to(device))


def draw_mixed(
    photographs: Photographs,
    pairs: Pairs,
    share: float,
    count: int,
    size: int,
    generator: torch.Generator,
    *,
    rows: slice = slice(None),
) -> tuple[Tensor, Real]:
    """Draw `count` clean crops, a `share` of them from real pairs, and return `rows` of them, `B 3 size size`
    in -1..1, with the damaged crops of the pairs.

    Pairs are cut, flipped and turned, but neither reduced nor recoloured, so that their damage stays as it
    is.
    """
    real = [torch.rand((), generator=generator).item() < share for _ in range(count)]
    cuts = [draw_cut(pairs.gt if r else photographs, size, generator, faithful=r) for r in real]
    drawn = list(zip(real, cuts))[rows]
    clean = stack_crops([take(pairs.gt if r else photographs, cut, size) for r, cut in drawn])
    lq = stack_crops([take(pairs.lq, cut, size) if r else picture for (r, cut), picture in zip(drawn, clean)])
    return clean, Real(tuple(real), lq)
