"""Trains a small network in a process of its own, for tests that kill it or start several: `train_tiny.py STAGE OUT STEPS SAVE_SECONDS`.

Writes what `watch` was told to OUT/watched.jsonl, a line per step.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import conftest  # noqa: F401  the pack and the host become importable
import torch
from aior_pack.aior_core.training import data, distributed, loop
from aior_pack.aior_core.training.networks import Networks, build
from aior_pack.aior_core.training.stages import STAGES, Stage
from aior_pack.tests.tiny import TINY, randomised
from torch.nn import functional as F

# A learning rate that moves the weights within a few steps of the warm-up by more than the checkpoint's fp16 rounds away.
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
    return dataclasses.replace(whole, crops=lambda progress, step: (32, 8), learning_rate=max(whole.learning_rate, 6e-4))


def main() -> None:
    name, out, steps, save_seconds = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])

    def watch(progress: loop.Progress) -> bool:
        with (out / "watched.jsonl").open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(dataclasses.asdict(progress)) + "\n")
        return progress.step < steps

    options = dataclasses.replace(OPTIONS, out=out, save_seconds=save_seconds)
    with distributed.processes("cpu"):
        loop.train(networks(), stage(name), photographs(), options, watch=watch)


if __name__ == "__main__":
    main()
