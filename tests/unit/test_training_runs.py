"""Runs as a whole: killed and resumed, in two processes, watched, recorded, and chained by a plan."""

from __future__ import annotations

import csv
import dataclasses
import functools
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from aior_pack.aior_core.training import checkpoint, distributed, experts, loop
from aior_pack.aior_core.training.plan import PLANS, STAGE_NAMES, Plan, StageBudget, scaled
from aior_pack.aior_core.training.precision import autocast, fast_dtype
from aior_pack.aior_core.training.run_log import RunLog
from aior_pack.aior_core.training.stages import EXPORTS, STAGES
from PIL import Image

pytestmark = [pytest.mark.usefixtures("comfyui"), pytest.mark.slow]

TESTS = Path(__file__).resolve().parents[1]
SCRIPT = TESTS / "train_tiny.py"
PATIENCE = 600


@pytest.fixture(scope="module")
def tiny():
    sys.path.insert(0, str(TESTS))
    import train_tiny

    yield train_tiny
    sys.path.remove(str(TESTS))


def watched(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "watched.jsonl").read_text(encoding="utf-8").splitlines()]


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def test_a_killed_run_goes_on_from_its_checkpoint(tiny, tmp_path):
    path = tmp_path / "detail.safetensors"
    command = [sys.executable, str(SCRIPT), "detail", str(tmp_path), "1000000", "0.5"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        patience = time.monotonic() + PATIENCE
        while not path.exists() and process.poll() is None and time.monotonic() < patience:
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    ema, raw, state, generator_state = checkpoint.load(path)
    assert 0 < state["step"] <= watched(tmp_path)[-1]["step"]

    # What the first step after it must be, by hand: the saved weights, the saved generator.
    stage = tiny.stage("detail")
    networks = tiny.networks()
    networks.load_state_dict(ema | raw)
    generator = torch.Generator()
    generator.set_state(generator_state)
    clean = tiny.data.draw_batch(tiny.photographs(), 8, 32, generator)
    loop.trained_parameters(networks, stage.trains)
    with autocast("cpu"):
        expected, _ = stage.step(networks, clean, generator)

    seen = []
    options = loop.Options(tmp_path, 600.0)
    loop.train(
        tiny.networks(),
        stage,
        tiny.photographs(),
        options,
        say=lambda line: None,
        watch=lambda p: seen.append(p),
    )
    assert seen[0].step == state["step"] + 1 and seen[0].seconds > state["seconds"]
    assert seen[0].losses["loss"] == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("name", ["detail", "fusion", "polish"])
def test_two_processes_train_as_one_does_with_the_whole_batch(tiny, tmp_path, name):
    steps = 6
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    options = dataclasses.replace(tiny.OPTIONS, out=one)
    losses = []

    def watch(progress: loop.Progress) -> bool:
        losses.append(progress.losses)
        return progress.step < steps

    alone = loop.train(
        tiny.networks(), tiny.stage(name), tiny.photographs(), options, say=lambda line: None, watch=watch
    )
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        str(SCRIPT),
        name,
        str(two),
        str(steps),
        "1e9",
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=PATIENCE, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    together = [line["losses"] for line in watched(two)]
    assert len(together) == len(losses) == steps
    # Half a batch is rounded otherwise than a whole one, which tells where the processor has bfloat16.
    rounding = {"rel": 0.01, "abs": 1e-4} if fast_dtype("cpu") == torch.float32 else {"rel": 0.1, "abs": 1e-3}
    for a, b in zip(losses, together):
        assert a.keys() == b.keys()
        for key in a:
            assert b[key] == pytest.approx(a[key], **rounding), key
    ema = checkpoint.load(two / f"{name}.safetensors")[0]
    begun = tiny.networks().state_dict()
    moved = {
        key: value - begun[key]
        for key, value in alone.state_dict().items()
        if not torch.equal(value, begun[key])
    }
    off = sum((ema[key] - begun[key] - change).square().sum() for key, change in moved.items())
    assert off < 0.1 * sum(change.square().sum() for change in moved.values())


def test_steps_draw_the_same_in_every_process():
    """One process draws what it always drew, so that runs of one process are the same with and without the
    room's draws."""
    a, b = torch.Generator().manual_seed(5), torch.Generator().manual_seed(5)
    assert torch.equal(distributed.normal((3, 4), a), torch.randn(3, 4, generator=b))
    assert torch.equal(distributed.uniform((3,), a), torch.rand(3, generator=b))
    assert distributed.rows(6) == slice(0, 6) and distributed.rank() == 0 and distributed.world() == 1


def test_watch_ends_a_run_as_time_does(tiny, tmp_path):
    before = tiny.networks().state_dict()
    seen = []

    def watch(progress: loop.Progress) -> bool:
        seen.append(progress)
        return progress.step < 3

    trained = loop.train(
        tiny.networks(),
        tiny.stage("prior"),
        tiny.photographs(),
        loop.Options(tmp_path, 600.0),
        say=lambda line: None,
        watch=watch,
    )
    assert (
        [p.step for p in seen] == [1, 2, 3]
        and {p.stage for p in seen} == {"prior"}
        and seen[0].budget == 36_000
    )
    assert seen[0].seconds < seen[1].seconds < seen[2].seconds < seen[0].budget
    assert (
        all(math.isfinite(v) for p in seen for v in p.losses.values())
        and {"loss", "v"} <= seen[0].losses.keys()
    )
    ema, raw, state, _ = checkpoint.load(tmp_path / "prior.safetensors")
    assert (state["step"], state["seconds"]) == (3, 36_000.0)
    held = trained.state_dict()
    assert all(torch.equal(held[key], ema[key]) for key in raw)
    assert any(not torch.equal(held[key], before[key]) for key in raw)
    # What was trained last is kept beside the average: with more minutes the run goes on from there.
    assert any(not torch.equal(raw[key], ema[key]) for key in raw)


def test_what_watch_raises_comes_out_after_saving(tiny, tmp_path):
    class Interrupted(Exception):
        pass

    def watch(progress: loop.Progress) -> bool:
        if progress.step == 2:
            raise Interrupted
        return True

    with pytest.raises(Interrupted):
        loop.train(
            tiny.networks(),
            tiny.stage("prior"),
            tiny.photographs(),
            loop.Options(tmp_path, 600.0),
            say=lambda line: None,
            watch=watch,
        )
    state = checkpoint.state(tmp_path / "prior.safetensors")
    assert state["step"] == 2 and 0 < state["seconds"] < 36_000.0


def test_a_session_leaves_a_run_unfinished(tiny, tmp_path):
    options = loop.Options(tmp_path, 600.0, session_minutes=1e-9)
    for _ in range(2):
        loop.train(tiny.networks(), tiny.stage("prior"), tiny.photographs(), options, say=lambda line: None)
    assert checkpoint.state(tmp_path / "prior.safetensors")["seconds"] < 60


def test_a_step_gets_what_a_caller_binds_to_it(tiny, tmp_path):
    def step(networks, clean, generator, *, wished: str):
        (tmp_path / wished).touch()
        return STAGES["autoencoder"].step(networks, clean, generator)

    stage = dataclasses.replace(tiny.stage("autoencoder"), trains=("vae.decoder",))
    loop.train(
        tiny.networks(),
        stage,
        tiny.photographs(),
        loop.Options(tmp_path, 1.0),
        say=lambda line: None,
        watch=lambda p: False,
        step=functools.partial(step, wished="called"),
    )
    assert (tmp_path / "called").exists()
    _, raw, _, _ = checkpoint.load(tmp_path / "autoencoder.safetensors")
    assert raw and all(key.startswith("vae.decoder.") for key in raw)


def test_the_record_tells_of_losses_damages_and_experts_and_goes_on(tiny, tmp_path):
    lines = []
    numbers = {"rain": 21.5, "clean": 40.0, "experts rain": torch.eye(4)}
    options = loop.Options(tmp_path, 600.0, report_seconds=0.0, validate_seconds=0.0)
    arguments = tiny.stage("detail"), tiny.photographs(), options
    loop.train(
        tiny.networks(),
        *arguments,
        say=lines.append,
        validate=lambda networks: dict(numbers),
        watch=lambda p: p.step < 2,
    )
    rows = table(tmp_path / "detail.csv")
    trained = [row for row in rows if row["loss"]]
    assert [row["step"] for row in trained] == ["1", "2"]
    assert all(
        float(row[name]) > 0
        for row in trained
        for name in ("seconds", "samples_per_second", "learning_rate", "loss", "fit", "norm")
    )
    assert {(row["dB rain"], row["dB clean"]) for row in rows if not row["loss"]} == {("21.5", "40")}
    shares = table(tmp_path / "detail-experts.csv")
    levels = len(tiny.TINY.restorer.daem.widths)
    assert [row["level"] for row in shares if row["pictures"] == "training" and row["step"] == "1"] == [
        str(i) for i in range(levels)
    ]
    for row in shares:
        given = [float(value) for name, value in row.items() if name.startswith("expert ") and value]
        assert sum(given) == pytest.approx(1.0, abs=1e-3)
    assert any("experts rain" in line and "  0 100   0   0 |" in line for line in lines)
    if RunLog(tmp_path, "detail", 0, print).draws:
        with Image.open(tmp_path / "detail.png") as picture:
            assert picture.size[0] > 500

    # Killed after step 2 was noted, resumed from a checkpoint of step 1: what came after is trained and noted
    # again.
    record = RunLog(tmp_path, "detail", 1, lines.append)
    record.trained(2, 9.0, 1.0, 1e-3, {"loss": 0.25, "later": 1.0})
    rows = table(tmp_path / "detail.csv")
    assert [(row["step"], row["loss"]) for row in rows if row["loss"]] == [
        ("1", trained[0]["loss"]),
        ("2", "0.25"),
    ]
    assert rows[0]["later"] == "" and rows[-1]["later"] == "1"
    assert {row["step"] for row in table(tmp_path / "detail-experts.csv")} <= {"1", "2"}


def test_without_matplotlib_there_is_a_table_and_one_line_that_says_so(tmp_path, monkeypatch):
    lines = []
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    record = RunLog(tmp_path, "prior", 0, lines.append)
    record.trained(1, 1.0, 2.0, 1e-3, {"loss": 0.5})
    record.draw()
    assert len(lines) == 1 and "pip install matplotlib" in lines[0]
    assert (tmp_path / "prior.csv").exists() and not (tmp_path / "prior.png").exists()


def test_expert_shares_show_a_collapsed_router():
    from aior_pack.aior_core.models.daem_level import Routing

    collapsed, spread = torch.zeros(4, 4), torch.eye(4)
    collapsed[:, 1] = 0.9
    deepest_first = [Routing(gates, gates, gates) for gates in (spread, collapsed)]
    shares = experts.shares(deepest_first)
    assert torch.equal(shares, torch.tensor([[0.0, 1.0, 0.0, 0.0], [0.25] * 4]))
    assert experts.line(shares) == "  0 100   0   0 |  25  25  25  25"


def test_the_command_line_knows_every_stage():
    assert sorted(STAGE_NAMES) == sorted(EXPORTS) == sorted([*STAGES, "tone"])


@pytest.mark.parametrize("weights, named", [({"rain": 1.0, "rian": 1.0}, "rian"), ({"rain": 0.0}, "above 0")])
def test_a_mix_that_would_silently_train_nothing_is_refused(weights, named):
    with pytest.raises(ValueError, match=named):
        dataclasses.replace(STAGES["detail"], damage_options={"weights": weights})


def test_every_plan_is_a_whole_chain_within_its_budget():
    for name, minutes, taught in (
        ("gpu-25min", 25, ["together", "fusion"]),
        ("cpu-2h", 120, ["detail", "fusion", "joint"]),
    ):
        plan = PLANS[name]
        assert [budget.stage for budget in plan.fresh] == [
            "autoencoder",
            "detail",
            "prior",
            "fusion",
            "joint",
            "tone",
            "keep",
            "maps",
        ]
        assert [budget.stage for budget in plan.repeat] == [*taught, "keep", "maps"]
        for budgets in (plan.fresh, plan.repeat):
            assert 0.9 * minutes <= sum(budget.minutes for budget in budgets) <= minutes
            short = scaled(budgets, 10.0)
            assert sum(budget.minutes for budget in short) == pytest.approx(10.0) and [
                budget.stage for budget in short
            ] == [budget.stage for budget in budgets]
            assert short[1].minutes / short[0].minutes == pytest.approx(
                budgets[1].minutes / budgets[0].minutes
            )


def test_a_plan_trains_all_stages_goes_on_and_repeats(tiny, tmp_path, capsys):
    from aior_pack.aior_core.training.__main__ import parse, settle
    from aior_pack.aior_core.training.run import follow
    from aior_pack.aior_core.weights import load_weights

    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name, picture in zip("ab", tiny.photographs().pictures):
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(pictures / f"{name}.png")
    moment = 0.2 / 60
    plan = Plan(
        fresh=tuple(
            StageBudget(stage, moment)
            for stage in ("autoencoder", "detail", "prior", "fusion", "joint", "tone", "keep", "maps")
        ),
        repeat=tuple(StageBudget(stage, moment) for stage in ("together", "fusion", "joint", "keep", "maps")),
    )

    def run(*arguments: str) -> bool:
        options = parse(["--plan", "cpu-2h", "--data", str(pictures), *arguments])
        settle(options, "cpu")
        return follow(plan, options, "cpu", config=tiny.TINY)

    first = tmp_path / "first"
    assert not run("--out", str(first), "--session", "1e-9")
    assert not (first / "detail.safetensors").exists() and not list(first.glob("aior_compact*"))
    assert run("--out", str(first))
    state, metadata = load_weights(next(first.glob("aior_compact*")))
    assert state.keys() == tiny.networks().state_dict().keys() and "cpu-2h" in metadata["training"]
    assert not torch.equal(state["vae.latent_std"], torch.ones_like(state["vae.latent_std"]))
    # Each stage's own networks come from its checkpoint: the decoder from joint, the denoiser from fusion.
    for stage, key in {
        "joint": "vae.decoder.",
        "fusion": "unet.",
        "detail": "prior.trunk.",
        "tone": "daem.curve.",
        "maps": "prior.head.places.",
    }.items():
        ema = checkpoint.load(first / f"{stage}.safetensors")[0]
        assert all(torch.equal(ema[k].half(), state[k].half()) for k in state if k.startswith(key))

    capsys.readouterr()
    steps = checkpoint.state(first / "detail.safetensors")["step"]
    assert run("--out", str(first))
    assert capsys.readouterr().out.count("not run again") == 8
    assert checkpoint.state(first / "detail.safetensors")["step"] == steps

    second = tmp_path / "second"
    assert run("--out", str(second), "--from", str(first))
    assert sorted(p.stem for p in second.glob("*.safetensors") if p.stem in STAGES) == [
        "fusion",
        "joint",
        "keep",
        "maps",
        "together",
    ]
    repeated, _ = load_weights(next(second.glob("aior_compact*")))
    assert all(
        torch.equal(repeated[k], state[k]) for k in state if k.startswith(("vae.encoder.", "daem.curve."))
    )
    assert any(not torch.equal(repeated[k], state[k]) for k in state if k.startswith("unet."))
    with pytest.raises(ValueError, match="another plan"):
        run("--out", str(second))
    with pytest.raises(ValueError, match="no whole daem, daff, prior, unet"):
        run("--out", str(tmp_path / "third"), "--from", str(first / "autoencoder.safetensors"))


def test_the_command_line_wants_a_stage_or_a_plan(capsys):
    from aior_pack.aior_core.training.__main__ import parse

    for wrong in (
        [],
        ["detail", "--plan", "cpu-2h"],
        ["detail", "--pair-share", "2"],
        ["detail", "--minutes", "0"],
    ):
        with pytest.raises(SystemExit):
            parse(wrong)
    assert "from 0 to 1" in capsys.readouterr().err
    options = parse(
        [
            "--plan",
            "cpu-2h",
            "--out",
            "x",
            "--learning-rate",
            "0.5",
            "--decay-share",
            "0.6",
            "--selective",
            "0.15",
        ]
    )
    assert options.target == Path("x") and options.selective == 0.15
    assert parse(["--plan", "cpu-2h", "--ship"]).target.name == "models"
