"""A run that was killed and resumed is the run that never stopped, bit for bit; and what a checkpoint holds
for that."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from aior_pack.aior_core.training import checkpoint, loop, optimizer, timing
from safetensors import safe_open
from safetensors.torch import save_file

pytestmark = [pytest.mark.usefixtures("comfyui"), pytest.mark.slow]

TESTS = Path(__file__).resolve().parents[1]
SCRIPT = TESTS / "train_tiny.py"
PATIENCE = 600
STEPS, KILLED = 6, 4


@pytest.fixture(scope="module")
def tiny():
    sys.path.insert(0, str(TESTS))
    import train_tiny

    yield train_tiny
    sys.path.remove(str(TESTS))


@pytest.fixture(autouse=True)
def without_charts(monkeypatch):
    """Charts take longer than these runs."""
    monkeypatch.setattr(loop.RunLog, "draw", lambda self: None)


class Killed(Exception):
    """Stands for a kill: nothing is saved when it is raised within a step."""


def train(
    tiny,
    out: Path,
    name: str,
    kind: str,
    workers: int,
    *,
    until: int = STEPS,
    killed: int = 0,
    save_seconds: float = 0.0,
) -> list[int]:
    """Train a stage up to step `until`, in the middle of step `killed` as if the process ended there; the
    steps that were seen."""
    held, stage = tiny.networks(), tiny.stage(name)
    step = stage.step
    calls, seen = [0], []

    def mortal(*args, **mix):
        calls[0] += 1
        if seen and killed == seen[-1] + 1:
            raise Killed
        return step(*args, **mix)

    def watch(progress: loop.Progress) -> bool:
        seen.append(progress.step)
        return progress.step < until

    options = dataclasses.replace(tiny.OPTIONS, out=out, save_seconds=save_seconds)
    draw = tiny.draw(kind, stage, held, workers)
    loop.train(
        held,
        stage,
        tiny.photographs(),
        options,
        say=lambda line: None,
        watch=watch,
        draw=draw,
        step=mortal,
    )
    return seen


def contents(path: Path) -> dict[str, torch.Tensor]:
    with safe_open(path, "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}


def require_same(one: Path, other: Path) -> None:
    a, b = contents(one), contents(other)
    assert a.keys() == b.keys() and any(key.startswith("optimizer/") for key in a)
    assert [key for key in a if a[key].dtype != b[key].dtype or not torch.equal(a[key], b[key])] == []
    assert checkpoint.state(one)["step"] == checkpoint.state(other)["step"] == STEPS


@pytest.mark.parametrize("name, kind, workers", [
    ("detail", "fresh", 0), ("detail", "fresh", 2), ("polish", "fresh", 0), ("joint", "fresh", 1),
    ("autoencoder", "fresh", 0),
    ("fusion", "buffer", 0), ("fusion", "buffer", 1), ("maps", "maps", 0),
])  # fmt: skip
def test_a_killed_run_ends_as_one_that_never_stopped(tiny, tmp_path, name, kind, workers):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(tiny, whole, name, kind, workers, save_seconds=1e9)
    with pytest.raises(Killed):
        train(tiny, parts, name, kind, workers, killed=KILLED)
    path = parts / f"{name}.safetensors"
    assert checkpoint.state(path)["step"] == KILLED - 1
    assert train(tiny, parts, name, kind, workers)[0] == KILLED
    require_same(path, whole / f"{name}.safetensors")


def test_what_was_trained_since_the_last_checkpoint_is_trained_again(tiny, tmp_path, monkeypatch):
    """Saved after every second step only, and killed in the second step after that; twice."""
    steps = []

    def every_second(self, validating: bool) -> bool:
        steps.append(1)
        return len(steps) % 2 == 0

    train(tiny, tmp_path / "whole", "detail", "fresh", 1, save_seconds=1e9)
    monkeypatch.setattr(timing.SaveTimer, "is_due", every_second)
    for killed, kept in ((3, 2), (6, 4)):
        steps.clear()
        with pytest.raises(Killed):
            train(tiny, tmp_path / "parts", "detail", "fresh", 1, killed=killed)
        assert checkpoint.state(tmp_path / "parts" / "detail.safetensors")["step"] == kept
    assert train(tiny, tmp_path / "parts", "detail", "fresh", 1) == [5, 6]
    require_same(tmp_path / "parts" / "detail.safetensors", tmp_path / "whole" / "detail.safetensors")


def test_a_run_ended_by_an_error_or_given_more_steps_goes_on_too(tiny, tmp_path):
    train(tiny, tmp_path / "whole", "detail", "fresh", 0)
    train(tiny, tmp_path / "parts", "detail", "fresh", 0, until=3)
    path = tmp_path / "parts" / "detail.safetensors"
    assert checkpoint.state(path)["seconds"] == 36_000
    checkpoint.amend(path, {"seconds": 1.0}, {})
    train(tiny, tmp_path / "parts", "detail", "fresh", 0)
    require_same(path, tmp_path / "whole" / "detail.safetensors")


def test_two_killed_processes_end_as_two_that_never_stopped(tmp_path):
    torchrun = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        str(SCRIPT),
    ]
    for folder, save_seconds, killed in (("whole", "1e9", 0), ("parts", "0", KILLED), ("parts", "1e9", 0)):
        (tmp_path / folder).mkdir(exist_ok=True)
        command = [
            *torchrun,
            "fusion",
            str(tmp_path / folder),
            str(STEPS),
            save_seconds,
            "buffer",
            "1",
            str(killed),
        ]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        assert (done.returncode != 0) == bool(killed), done.stderr
        if killed:
            assert checkpoint.state(tmp_path / folder / "fusion.safetensors")["step"] == KILLED - 1
    require_same(tmp_path / "parts" / "fusion.safetensors", tmp_path / "whole" / "fusion.safetensors")


def test_a_checkpoint_of_an_older_version_goes_on_and_warms_up_again(tiny, tmp_path):
    train(tiny, tmp_path, "prior", "fresh", 0, until=3)
    path = tmp_path / "prior.safetensors"
    old = {
        key: value.half() if value.is_floating_point() else value
        for key, value in contents(path).items()
        if not key.startswith("optimizer/")
    }
    save_file(old, path, metadata={"state": json.dumps({"step": 300, "seconds": 5.0})})
    lines, rates = [], []
    options = dataclasses.replace(tiny.OPTIONS, out=tmp_path)
    step = optimizer.Optimizers.step

    def noted(self, rate):
        rates.append(rate)
        step(self, rate)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(optimizer.Optimizers, "step", noted)
        for _ in range(2):
            loop.train(
                tiny.networks(),
                tiny.stage("prior"),
                tiny.photographs(),
                options,
                say=lines.append,
                watch=lambda p: p.step % 2 == 1,
            )
            checkpoint.amend(path, {"seconds": 5.0}, {})
    assert sum("older version" in line for line in lines) == 1
    assert checkpoint.state(path)["step"] == 304
    # The second session goes on warming up where the first one ended.
    assert rates == pytest.approx([rates[0] * step for step in (1, 2, 3, 4)])


def test_a_checkpoint_of_another_training_is_refused_by_its_name(tiny, tmp_path):
    train(tiny, tmp_path, "prior", "fresh", 0, until=2)
    stage = dataclasses.replace(tiny.stage("prior"), trains=("prior.tokens",))
    checkpoint.amend(tmp_path / "prior.safetensors", {"seconds": 1.0}, {})
    with pytest.raises(
        ValueError, match="prior.safetensors: the checkpoint holds the optimizer's .* of unet"
    ):
        loop.train(
            tiny.networks(),
            stage,
            tiny.photographs(),
            dataclasses.replace(tiny.OPTIONS, out=tmp_path),
            say=lambda line: None,
        )


@pytest.mark.parametrize(
    "took, validating, due", [(1.0, False, False), (30.0, False, True), (1.0, True, True)]
)
def test_a_checkpoint_is_due_before_too_much_could_be_lost(monkeypatch, took, validating, due):
    """100 seconds after the last one: before a step that may take longer than what is left, and before a
    first validation of unknown length."""
    now = [0.0]
    monkeypatch.setattr(timing.time, "monotonic", lambda: now[0])
    timer = timing.SaveTimer(120.0)
    with timer.timed("step"):
        now[0] += took
    now[0] = 100.0
    assert timer.is_due(validating) == due
