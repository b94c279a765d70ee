"""How fast a run is, the means of what it logs, and when its next checkpoint is due."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

from .run_log import Logs


class Meter:
    """Means since the last report, each over the steps that logged it."""

    def __init__(self):
        self.begun = time.monotonic()
        self.steps, self.samples = 0, 0
        self.sums: Logs = {}
        self.counts: Counter[str] = Counter()

    def add(self, logs: Logs, samples: int) -> None:
        self.steps, self.samples = self.steps + 1, self.samples + samples
        self.counts.update(logs.keys())
        for key, value in logs.items():
            self.sums[key] = self.sums.get(key, 0.0) + value

    def means(self) -> Logs:
        """Numbers as floats; histograms stay tensors."""
        means = {key: value / self.counts[key] for key, value in self.sums.items()}
        return {
            key: mean.item() if isinstance(mean, Tensor) and mean.ndim == 0 else mean
            for key, mean in means.items()
        }

    def per_second(self, count: int) -> float:
        return count / max(1e-9, time.monotonic() - self.begun)


class SaveTimer:
    """Says when a checkpoint is due, so that a kill costs the work of `save_seconds` at most.

    It assumes that the next step and the next validation take as long as the last ones.
    """

    def __init__(self, save_seconds: float):
        self.save_seconds, self.last = save_seconds, time.monotonic()
        self.took = {"step": 0.0, "validation": math.inf}

    def is_due(self, validating: bool) -> bool:
        """Whether saving after the next step would be too late; `validating`: a validation comes before
        it."""
        coming = self.took["step"] + (self.took["validation"] if validating else 0.0)
        return time.monotonic() - self.last + coming > self.save_seconds

    def saved(self) -> None:
        """Note that a checkpoint was written just now."""
        self.last = time.monotonic()

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Measure a "step" or a "validation"."""
        begun = time.monotonic()
        yield
        self.took[what] = time.monotonic() - begun
