"""A replay buffer for stages whose encoders are frozen: damaged crops are encoded once and trained on several
times.

Encoding costs several times as much as a step of such a stage. What is random in the stage itself (noise,
noise level) is drawn anew every time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from . import distributed
from .batches import Draw, DrawState, StatefulDraw
from .networks import Networks
from .precision import autocast, fast_dtype
from .restoration import encode_for_fusion


class ReplayBuffer(ABC):
    """A `batches.Draw` of the newest `capacity` samples, each of which is trained on `reused` times on
    average.

    A sample has several parts. The first one is the stage's `clean`; `names` are the keywords of the others.
    """

    names: tuple[str, ...]

    def __init__(self, capacity: int, reused: int, device: str):
        self.capacity, self.reused, self.device, self.calls = capacity, reused, device, 0
        self.parts: tuple[Tensor, ...] = ()
        self.count, self.next = 0, 0

    def __call__(self, count: int, side: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Encode a batch of `count` new crops at every `reused`-th call; then sample this process's rows of a
        batch of `count` from the buffer. fp32."""
        if self.calls % self.reused == 0:
            self.add(self.encode(count, side, generator))
        self.calls += 1
        return self.sampled(count // distributed.world(), generator)

    def add(self, new: tuple[Tensor, ...]) -> None:
        """Overwrite the oldest samples by new ones, `b ...` of each part; of more than `capacity` the
        last."""
        if not self.parts:
            self.parts = tuple(part.new_empty(self.capacity, *part.shape[1:]) for part in new)
        new = tuple(part[-self.capacity :] for part in new)
        rows = (self.next + torch.arange(len(new[0]), device=new[0].device)) % self.capacity
        for part, own in zip(self.parts, new, strict=True):
            part[rows] = own
        self.next = (self.next + len(rows)) % self.capacity
        self.count = min(self.capacity, self.count + len(rows))

    def sampled(self, count: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """`count` random samples, drawn with replacement."""
        rows = torch.randint(self.count, (count,), generator=generator).to(self.parts[0].device)
        first, *others = (part[rows].float() for part in self.parts)
        return first, dict(zip(self.names, others, strict=True))

    def state(self) -> DrawState:
        """The samples of all processes, each part `B ...`, and the place of the next one."""
        # "kept" is the capacity; checkpoints of earlier versions call it so.
        numbers = {"calls": self.calls, "count": self.count, "next": self.next, "kept": self.capacity}
        tensors = {
            f"part{index}": distributed.gather(part[: self.count]) for index, part in enumerate(self.parts)
        }
        return DrawState(numbers, tensors)

    def restore(self, step: int, state: DrawState | None) -> None:
        """Put the samples back where they were. Without `state` the buffer stays empty and fills anew.

        Where the capacity has changed, the newest samples are kept.
        """
        if state is None or not state.tensors:
            return
        whole = [state.tensors[f"part{index}"] for index in range(len(state.tensors))]
        own = [part[distributed.rows(len(part))].to(self.device) for part in whole]
        before = state.numbers
        if before["kept"] != self.capacity and before["count"] == before["kept"]:
            # A full ring begins at its next place; oldest first, so that the newest samples win.
            own = [part.roll(-before["next"], 0) for part in own]
        self.add(tuple(own))
        self.calls = before["calls"]
        if before["kept"] == self.capacity:
            self.next = before["next"]

    @abstractmethod
    def encode(self, count: int, side: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """This process's rows of `count` new samples from crops of `side` pixels, `b ...` of each part."""


class LatentBuffer(ReplayBuffer):
    """The samples of `fusion`: the target's latent `16 h w`, the damaged picture's coarsest LQ `feature` `C h
    w`, and the `severities` to remove, `K`."""

    names = ("feature", "severities")

    def __init__(
        self,
        networks: Networks,
        fresh: Draw,
        device: str,
        *,
        capacity: int = 1536,
        reused: int = 6,
        **damage_options,
    ):
        """fresh: draws the clean crops, or damaged ones as `made`. damage_options: of
        `restoration.damage`."""
        super().__init__(capacity, reused, device)
        self.networks, self.fresh, self.damage_options = networks, fresh, damage_options

    def state(self) -> DrawState:
        """The buffer's state and, under "fresh", that of the source of its crops."""
        own = super().state()
        if not isinstance(self.fresh, StatefulDraw):
            return own
        return DrawState(own.numbers | {"fresh": self.fresh.state().numbers}, own.tensors)

    def restore(self, step: int, state: DrawState | None) -> None:
        super().restore(step, state)
        if isinstance(self.fresh, StatefulDraw):
            numbers = state.numbers.get("fresh") if state else None
            self.fresh.restore(step, DrawState(numbers) if numbers else None)

    def encode(self, count: int, side: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        clean, batch = self.fresh(count, side, generator)
        with autocast(self.device):
            latents, features, severities = encode_for_fusion(
                self.networks, clean, generator, **self.damage_options, **batch
            )
        small = fast_dtype(self.device)
        return latents.to(small), features.to(small), severities
