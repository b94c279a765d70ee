"""Trains a small network in a process of its own, for tests that kill it or start several.

Writes what `watch` was told to OUT/watched.jsonl, a line per step.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
from pathlib import Path

import conftest  # noqa: F401  the pack and the host become importable
import torch
from aior_pack.aior_core.training import data, distributed, loop
from aior_pack.aior_core.training.batches import Draw, fresh_crops
from aior_pack.aior_core.training.networks import Networks, build
from aior_pack.aior_core.training.prefetch import Prefetcher, Source, batch_requests
from aior_pack.aior_core.training.replay_buffer import LatentBuffer
from aior_pack.aior_core.training.stages import STAGES, Stage
from aior_pack.aior_core.training.stages.maps import FeatureBuffer
from aior_pack.tests.tiny import TINY, randomised
from torch.nn import functional as F

# A learning rate that moves the weights well within a few steps of the warm-up.
OPTIONS = loop.Options(Path(), 600.0, report_seconds=1e9, learning_rate_scale=10.0)


def photographs() -> data.Photographs:
    generator = torch.Generator().manual_seed(3)
    coarse = torch.rand(2, 3, 9, 9, generator=generator)
    smooth = F.interpolate(coarse, size=(160, 200), mode="bicubic").clamp(0, 1)
    return data.Photographs(tuple((smooth * 255).byte()), ("a", "b"), torch.ones(2, dtype=torch.float64))


def networks() -> Networks:
    """Small ones in which every router has a mind of its own."""
    held = build(TINY, seed=0)
    randomised(held.daem)
    return held


def stage(name: str) -> Stage:
    """With crops that do not depend on the clock, and a rate as above where its own is low."""
    whole = STAGES[name]
    return dataclasses.replace(
        whole, crops=lambda progress, step: (32, 8), learning_rate=max(whole.learning_rate, 6e-4)
    )


def draw(kind: str, stage: Stage, held: Networks, workers: int = 0) -> Draw | None:
    """A source of batches of a `kind`: "fresh" ones, or encoded ones from a "buffer"; `workers` processes
    make them in advance."""
    if kind == "maps":
        return FeatureBuffer(held, photographs(), "cpu", capacity=12, reused=2)
    made = None
    if workers:
        source = Source(photographs(), None, 0.0, {}, OPTIONS.seed, stage.name)
        made = Prefetcher(source, batch_requests(stage.crops, 1, lambda: 0.0), workers, "cpu")
    if kind != "buffer":
        return made
    fresh = made or fresh_crops(photographs(), None, 0.0, "cpu")
    return LatentBuffer(held, fresh, "cpu", capacity=12, reused=2)


def main() -> None:
    """`train_tiny.py STAGE OUT STEPS SAVE_SECONDS [KIND WORKERS [KILLED_AT]]`: after step KILLED_AT the first
    process kills itself."""
    name, out, steps, save_seconds = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    kind, workers = (sys.argv[5], int(sys.argv[6])) if len(sys.argv) > 5 else ("fresh", 0)
    killed_at = int(sys.argv[7]) if len(sys.argv) > 7 else 0

    def watch(progress: loop.Progress) -> bool:
        with (out / "watched.jsonl").open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(dataclasses.asdict(progress)) + "\n")
        if progress.step == killed_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return progress.step < steps

    options = dataclasses.replace(OPTIONS, out=out, save_seconds=save_seconds)
    with distributed.processes("cpu"):
        held, trained = networks(), stage(name)
        loop.train(
            held, trained, photographs(), options, watch=watch, draw=draw(kind, trained, held, workers)
        )


if __name__ == "__main__":
    main()
