"""How fast a run is, what it logged since its last report, and when its next checkpoint is due."""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

from .stages import Logs


class Meter:
    """Averages since the last report, each over the steps that had it."""

    def __init__(self):
        self.begun = time.monotonic()
        self.steps, self.samples, self.sums, self.counts = 0, 0, defaultdict(float), Counter()

    def add(self, logs: Logs, samples: int) -> None:
        self.steps, self.samples = self.steps + 1, self.samples + samples
        self.counts.update(logs.keys())
        for key, value in logs.items():
            self.sums[key] = self.sums[key] + value

    def averages(self) -> Logs:
        means = {key: value / self.counts[key] for key, value in self.sums.items()}
        return {
            key: mean.item() if isinstance(mean, Tensor) and mean.ndim == 0 else mean
            for key, mean in means.items()
        }

    def per_second(self, count: int) -> float:
        return count / max(1e-9, time.monotonic() - self.begun)


class Watchful:
    """Says when a checkpoint is due, so that a kill costs the work of `save_seconds` at most, as far as the
    last step and look foretell."""

    def __init__(self, save_seconds: float):
        self.save_seconds, self.last = save_seconds, time.monotonic()
        self.took = {"step": 0.0, "look": math.inf}

    def must_save(self, looking: bool) -> bool:
        """Whether the next step, with a look at the validation pictures before it or not, would come too
        late."""
        ahead = self.took["step"] + (self.took["look"] if looking else 0.0)
        return time.monotonic() - self.last + ahead > self.save_seconds

    def saved(self) -> None:
        self.last = time.monotonic()

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        begun = time.monotonic()
        yield
        self.took[what] = time.monotonic() - begun
