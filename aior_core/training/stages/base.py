"""What every stage of training is: which parameters it trains, how fast, on which batches, by which loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ...degradations import KINDS
from ...models.config import CompactConfig
from ..batches import Draw
from ..data import Photographs
from ..networks import Networks
from ..pairs import Pairs
from ..prefetch import Prefetcher, Source, batch_requests
from ..run_log import Logs
from ..schedules import Schedule, constant_then_sqrt

Crops = Callable[[float, int], tuple[int, int]]
"""`crops(progress, step)` -> the side of the crops in pixels and the samples of one batch (of all processes).

`progress` is the share of the stage's time that is over, 0..1.
"""

Step = Callable[..., tuple[Tensor, Logs]]
"""`step(networks, clean, generator, **batch)` -> the loss (a scalar with gradients) and numbers to log."""

Validate = Callable[[Networks], Logs]

ANCHOR = ("daem.anchor",)
"""Stages that decode sampled latents keep the low-frequency anchor fixed. When it is trained there, it lets
go of the tones of all pictures a little, because some samples have lost theirs (validation: blur -0.8 dB,
clean -0.8 dB)."""


@dataclass(frozen=True)
class StageRun:
    """What one run of a stage brings along: the networks, the pictures, and the options of the command line.

    held_out: pictures for validation, empty where there are none. batch_scale: multiplies the samples of a
    batch. workers: processes that damage batches in advance, 0 for none. progress: returns the share of the
    stage's time that is over, 0..1.
    """

    networks: Networks
    config: CompactConfig
    photographs: Photographs
    held_out: Photographs
    pairs: Pairs | None
    device: str
    seed: int
    pair_share: float
    batch_scale: int
    workers: int
    progress: Callable[[], float]


@dataclass(frozen=True)
class Stage(ABC):
    """One stage of training. Stages are immutable; `dataclasses.replace` makes a variant.

    trains, fixed: prefixes of the parameters that are trained, and of those among them that are not. slow:
    prefixes of parameters that are trained at a tenth of the rate. learning_rate: AdamW's peak. muon: whether
    weights of convolutions are trained by Muon, see `optimizer`. ema_decay: of the weights' moving average,
    None for the run's default. exports: prefixes of what later runs take from this stage's checkpoint unless
    they are told otherwise. damages: whether the stage trains on pictures that `restoration.damage` makes, so
    that other processes can make them in advance. damage_options: keywords of `restoration.damage`. pairs:
    whether real pairs may be mixed into the batches.

    Raises ValueError for `weights` in `damage_options` that name a kind of damage which does not exist, or
    that give no kind a share: such a kind would silently never be trained.
    """

    name: str
    trains: tuple[str, ...]
    learning_rate: float
    crops: Crops
    exports: tuple[str, ...] = ()
    fixed: tuple[str, ...] = ()
    slow: tuple[str, ...] = ()
    schedule: Schedule = constant_then_sqrt
    muon: bool = True
    ema_decay: float | None = None
    damages: bool = False
    damage_options: Mapping[str, Any] = field(default_factory=dict)
    pairs: bool = False

    def __post_init__(self):
        weights = self.damage_options.get("weights")
        if weights is None:
            return
        unknown = sorted(set(weights) - set(KINDS))
        if unknown or not any(share > 0 for share in weights.values()):
            wrong = f"names unknown kinds ({', '.join(unknown)})" if unknown else "has no share above 0"
            raise ValueError(
                f"training: the mix of damages of stage {self.name} {wrong}; "
                f"expected shares of {', '.join(KINDS)}"
            )

    @abstractmethod
    def step(
        self, networks: Networks, clean: Any, generator: torch.Generator, **batch: Any
    ) -> tuple[Tensor, Logs]:
        """The loss of one batch, and numbers to log.

        clean: this process's rows of the batch, pictures `B 3 H W` in -1..1 unless `batches` gives something
        else. batch: what else `batches` gives (`made` or `real` for `restoration.damage`), and `choice`, if
        it has been drawn already.
        """

    def choose(self, generator: torch.Generator) -> str | None:
        """Draw which of its ways a step takes; None where a stage has one way only.

        A CUDA graph is captured for each way. Everything else that is random in a step has to be a tensor.
        """
        return None

    def prepare(self, run: StageRun, given: Mapping[str, Tensor], *, resumed: bool) -> Stage:
        """Called before the first step, with the starting weights in `run.networks`; returns the stage to
        run.

        given: the weights that came from files, by name. resumed: whether an unfinished run goes on.
        """
        return self

    def batches(self, run: StageRun) -> Draw | None:
        """Where batches come from; None for fresh crops, which the step damages itself."""
        if not (self.damages and run.workers):
            return None
        source = Source(
            run.photographs,
            run.pairs if self.pairs else None,
            run.pair_share,
            self.damage_options,
            run.seed,
            self.name,
        )
        requests = batch_requests(self.crops, run.batch_scale, run.progress)
        return Prefetcher(source, requests, run.workers, run.device)

    def validation(self, held_out: Photographs) -> Validate | None:
        """What is measured on pictures that are not trained on; None where nothing is."""
        return None

    def finish(self, run: StageRun) -> dict[str, Tensor]:
        """Called when the stage's time is used up; returns weights to write over those of the checkpoint."""
        return {}

    def with_perceptual(self, weight: float) -> Stage:
        """The same stage with a weight of its perceptual loss; unchanged where it has no such loss."""
        return self

    def with_damage(self, **options: Any) -> Stage:
        """The same stage with defaults for `damage_options`; options that the stage sets itself stay."""
        return replace(self, damage_options={**options, **self.damage_options})


def growing_crops(progress: float, step: int) -> tuple[int, int]:
    """Small crops teach texture fast. Haze and low light need large ones, as a small flat crop says nothing
    about them. So crops grow over the run and alternate between steps."""
    small, middle, large, largest = (64, 16), (128, 4), (192, 2), (256, 1)
    if progress < 0.2:
        return (small, middle, small, small)[step % 4]
    if progress < 0.6:
        return (middle, large, small, large)[step % 4]
    return (middle, large, largest, large)[step % 4]


@dataclass(frozen=True)
class FixedCrops:
    """`count` crops of `side` x `side` pixels at every step. A class, so that a stage can be pickled."""

    side: int
    count: int

    def __call__(self, progress: float, step: int) -> tuple[int, int]:
        return self.side, self.count
