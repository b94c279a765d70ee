"""For stages that leave the encoders as they are: damaged crops are encoded once and learnt from several times.

Encoding costs several times what a step of such a stage does. What is random in the stage itself (noise, time) is drawn anew every time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable

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
        self.reused = reused
        self.seen: deque[tuple[Tensor, ...]] = deque(maxlen=kept)

    def __call__(self, count: int, side: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Encode some new crops, then draw this process's part of a batch of `count` from all: the first parts, and the others by name, fp32."""
        world = distributed.world()
        self.seen.extend(self.encode(-(-count // (self.reused * world)) * world if self.seen else count, side, generator))
        return self.recalled(count // world, generator)

    def recalled(self, count: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """`count` of the samples that were encoded."""
        rows = torch.randint(len(self.seen), (count,), generator=generator).tolist()
        first, *others = (torch.stack(each).float() for each in zip(*(self.seen[row] for row in rows)))
        return first, dict(zip(self.names, others, strict=True))

    @abstractmethod
    def encode(self, count: int, side: int, generator: torch.Generator) -> Iterable[tuple[Tensor, ...]]:
        """This process's part of `count` new samples."""


class Latents(Recall):
    """What `fusion` learns from: a wished picture's latent `16 h w`, the damaged one's coarsest LQ `feature` `C h w`, and the `severities` to
    be removed, `K`."""

    names = ("feature", "severities")

    def __init__(self, networks: Networks, fresh: Fresh, device: str, *, kept: int = 1536, reused: int = 6, **mix):
        """`mix`: more keywords of `restoration.damage`."""
        super().__init__(kept, reused)
        self.networks, self.fresh, self.device, self.mix = networks, fresh, device, mix

    def encode(self, count: int, side: int, generator: torch.Generator) -> Iterable[tuple[Tensor, ...]]:
        clean, real = self.fresh(count, side, generator)
        with autocast(self.device):
            latents, features, severities = encoded(self.networks, clean, generator, **self.mix, **real)
        small = fast_dtype(self.device)
        return zip(latents.to(small).contiguous(), features.to(small).contiguous(), severities)
