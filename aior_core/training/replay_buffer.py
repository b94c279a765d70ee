"""For stages that leave the encoders as they are: damaged crops are encoded once and learnt from several
times.

Encoding costs several times what a step of such a stage does. What is random in the stage itself (noise,
time) is drawn anew every time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from . import distributed
from .draws import Draw, Remembered, Remembers
from .networks import Networks
from .precision import autocast, fast_dtype
from .restoration import encode_for_fusion


class ReplayBuffer(ABC):
    """A `loop.Draw` of the newest `kept` samples, each learnt from `reused` times on average. `names`: of a
    sample's parts after the first."""

    names: tuple[str, ...]

    def __init__(self, kept: int, reused: int, device: str):
        self.kept, self.reused, self.device, self.calls = kept, reused, device, 0
        self.parts: tuple[Tensor, ...] = ()
        self.count, self.next = 0, 0

    def __call__(self, count: int, side: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Every `reused`-th time encode a batch of `count` new crops; then draw this process's part of such a
        batch from all: the first parts, and the others by name, fp32."""
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

    def remembered(self) -> Remembered:
        """The samples of all processes, each part `B ...`, and the place of the next one."""
        numbers = {"calls": self.calls, "count": self.count, "next": self.next, "kept": self.kept}
        tensors = {
            f"part{index}": distributed.gather(part[: self.count]) for index, part in enumerate(self.parts)
        }
        return Remembered(numbers, tensors)

    def go_on(self, step: int, memory: Remembered | None) -> None:
        """Put the samples back where they lay. Without `memory` there are none, and encoding begins anew.

        Where another number of samples is kept now, the newest ones go on.
        """
        if memory is None or not memory.tensors:
            return
        whole = [memory.tensors[f"part{index}"] for index in range(len(memory.tensors))]
        own = [part[distributed.rows(len(part))].to(self.device) for part in whole]
        before = memory.numbers
        if before["kept"] != self.kept:
            # Oldest first: the ring is full where its next place is not simply the end.
            own = [
                part.roll(-before["next"], 0) if before["count"] == before["kept"] else part for part in own
            ]
        self.remember(tuple(own))
        self.calls = before["calls"]
        if before["kept"] == self.kept:
            self.next = before["next"]

    @abstractmethod
    def encode(self, count: int, side: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """This process's part of `count` new samples, `b ...` of each part."""


class Latents(ReplayBuffer):
    """What `fusion` learns from: a wished picture's latent `16 h w`, the damaged one's coarsest LQ `feature`
    `C h w`, and the `severities` to be removed, `K`."""

    names = ("feature", "severities")

    def __init__(
        self, networks: Networks, fresh: Draw, device: str, *, kept: int = 1536, reused: int = 6, **mix
    ):
        """`fresh` draws the clean crops; `mix`: more keywords of `restoration.damage`."""
        super().__init__(kept, reused, device)
        self.networks, self.fresh, self.mix = networks, fresh, mix

    def remembered(self) -> Remembered:
        """What `fresh` remembers too."""
        own = super().remembered()
        return (
            Remembered(own.numbers | {"fresh": self.fresh.remembered().numbers}, own.tensors)
            if isinstance(self.fresh, Remembers)
            else own
        )

    def go_on(self, step: int, memory: Remembered | None) -> None:
        super().go_on(step, memory)
        if isinstance(self.fresh, Remembers):
            held = memory.numbers.get("fresh") if memory else None
            self.fresh.go_on(step, Remembered(held) if held else None)

    def encode(self, count: int, side: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        clean, real = self.fresh(count, side, generator)
        with autocast(self.device):
            latents, features, severities = encode_for_fusion(
                self.networks, clean, generator, **self.mix, **real
            )
        small = fast_dtype(self.device)
        return latents.to(small), features.to(small), severities
