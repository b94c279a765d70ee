"""For stages that leave the encoders as they are: damaged crops are encoded once and learnt from several times.

Encoding costs several times what a step of such a stage does. What is random in the stage itself (noise, time) is drawn anew every time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from . import distributed
from .networks import Networks
from .precision import autocast, fast_dtype
from .restoration import encoded

Fresh = Callable[[int, int, torch.Generator], tuple[Tensor, dict]]
"""`fresh(count, side, generator)`: this process's clean crops of a batch of `count`, and what `restoration.damage` is to be told of them."""


class Recall(ABC):
    """A `loop.Draw` of the newest `kept` samples, each learnt from `reused` times on average. `names`: of a sample's parts after the first."""

    names: tuple[str, ...]

    def __init__(self, kept: int, reused: int):
        self.kept, self.reused, self.calls = kept, reused, 0
        self.parts: tuple[Tensor, ...] = ()
        self.count, self.next = 0, 0

    def __call__(self, count: int, side: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Every `reused`-th time encode a batch of `count` new crops; then draw this process's part of such a batch from all: the first parts,
        and the others by name, fp32."""
        if self.calls % self.reused == 0:
            self.remember(self.encode(count, side, generator))
        self.calls += 1
        return self.recalled(count // distributed.world(), generator)

    def remember(self, new: tuple[Tensor, ...]) -> None:
        """Put samples, `b ...` of each part, in the place of the oldest; at most `kept` at once."""
        if not self.parts:
            self.parts = tuple(part.new_empty(self.kept, *part.shape[1:]) for part in new)
        new = tuple(part[-self.kept :] for part in new)
        rows = (self.next + torch.arange(len(new[0]), device=new[0].device)) % self.kept
        for part, own in zip(self.parts, new, strict=True):
            part[rows] = own
        self.next = (self.next + len(rows)) % self.kept
        self.count = min(self.kept, self.count + len(rows))

    def recalled(self, count: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """`count` of the samples that were encoded."""
        rows = torch.randint(self.count, (count,), generator=generator).to(self.parts[0].device)
        first, *others = (part[rows].float() for part in self.parts)
        return first, dict(zip(self.names, others, strict=True))

    @abstractmethod
    def encode(self, count: int, side: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """This process's part of `count` new samples, `b ...` of each part."""


class Latents(Recall):
    """What `fusion` learns from: a wished picture's latent `16 h w`, the damaged one's coarsest LQ `feature` `C h w`, and the `severities` to
    be removed, `K`."""

    names = ("feature", "severities")

    def __init__(self, networks: Networks, fresh: Fresh, device: str, *, kept: int = 1536, reused: int = 6, **mix):
        """`mix`: more keywords of `restoration.damage`."""
        super().__init__(kept, reused)
        self.networks, self.fresh, self.device, self.mix = networks, fresh, device, mix

    def encode(self, count: int, side: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        clean, real = self.fresh(count, side, generator)
        with autocast(self.device):
            latents, features, severities = encoded(self.networks, clean, generator, **self.mix, **real)
        small = fast_dtype(self.device)
        return latents.to(small), features.to(small), severities
