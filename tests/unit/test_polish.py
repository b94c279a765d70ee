"""The stage `polish`: what is trained, what is held to its former result, and that the frozen copy stays."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest
import torch
from aior_pack.aior_core.degradations import apply_recipe
from aior_pack.aior_core.training import checkpoint, data, loop, losses
from aior_pack.aior_core.training.__main__ import parse
from aior_pack.aior_core.training.run import Pictures, run_stage
from aior_pack.aior_core.training.stages import STAGES, polish
from aior_pack.tests.tiny import TINY, randomised

STAGE = STAGES["polish"]


def photographs() -> data.Photographs:
    picture = (255 * torch.rand(3, 160, 160, generator=torch.Generator().manual_seed(3))).byte()
    return data.Photographs((picture,), ("a",), torch.ones(1, dtype=torch.float64))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def networks(comfyui):
    from aior_pack.aior_core.training.networks import build

    built = build(TINY, seed=0)
    randomised(built.daem)
    return built


@pytest.mark.slow
def test_only_what_damages_pixels_has_a_truth_and_haze_is_held_most():
    generator = seeded()
    drawn = [polish.draw_polish_plan(generator) for _ in range(2000)]
    local, held = ([plan for plan, true in drawn if true is wanted] for wanted in (True, False))
    assert 0.55 < len(local) / len(drawn) < 0.65
    assert all(
        set(plan.recipe.kinds()) <= set(polish.LOCAL) and plan.recipe.steps and not plan.kept
        for plan in local
    )
    counts = Counter(kind for plan in held for kind in plan.recipe.kinds())
    assert (
        max(counts, key=counts.get) == "haze"
        and sum(not plan.recipe.steps for plan in held) > 40
        and any(plan.kept for plan in held)
    )
    qualities = [
        step.params["quality"] for plan in local for step in plan.recipe.steps if step.kind == "jpeg"
    ]
    assert (
        0.4 < sum(10 <= quality <= 20 for quality in qualities) / len(qualities) < 0.65
        and max(qualities) > 80
    )
    picture = torch.rand(1, 3, 64, 64, generator=generator) * 2 - 1
    for plan in local[:40]:
        assert apply_recipe(picture, plan.recipe).isfinite().all()


@pytest.mark.parametrize("true", [False, True])
def test_what_is_held_asks_nothing_until_something_changes(networks, monkeypatch, true):
    plan = next(
        plan
        for plan, _ in (polish.draw_polish_plan(seeded(seed)) for seed in range(100))
        if plan.recipe.kinds() == ("noise",)
    )
    monkeypatch.setattr(polish, "draw_polish_plan", lambda generator: (plan, true))
    parameters = loop.trained_parameters(networks, STAGE.trains, STAGE.fixed)
    stage = dataclasses.replace(STAGE, before=polish.frozen_copy(networks, TINY, "cpu"))
    clean = data.draw_batch(photographs(), 2, 64, seeded())

    def asked() -> tuple[dict, float]:
        loss, logs = stage.step(networks, clean, seeded(1), choice="1")
        loss.backward()
        size = sum(p.grad.abs().sum().item() for p in parameters.values() if p.grad is not None)
        for parameter in parameters.values():
            parameter.grad = None
        return logs, size

    logs, size = asked()
    assert logs["gained"] == logs["held"] == 0 and (size > 1e-3) is true
    with torch.no_grad():
        networks.daem.head.bias[3:6] += 0.05
    logs, size = asked()
    assert size > 1e-3 and bool(logs["gained"] != 0) is true and bool(logs["held"] > 0) is not true


def test_drift_is_what_an_unrelated_change_would_cost():
    generator = seeded()
    target, error, change = (
        torch.randn(1, 3, 256, 256, generator=generator) * scale for scale in (0.3, 0.1, 0.05)
    )
    told = losses.drifted(target + error + change, target + error, target)
    cost = losses.decibels(target + error + change, target) - losses.decibels(target + error, target)
    assert told.item() == pytest.approx(
        10 * torch.log10(torch.tensor(1.25)).item(), abs=0.02
    ) and told.item() == pytest.approx(cost.item(), abs=0.1)
    assert losses.drifted(target, target, target).item() == 0


def test_the_copy_stays_as_it_was(networks):
    picture = torch.rand(1, 3, 64, 64, generator=seeded()) * 2 - 1
    with torch.no_grad():
        before = polish.frozen_copy(networks, TINY, "cpu")
        was = before.vae.decode(before.vae.encode(picture))
        assert torch.equal(was, networks.vae.decode(networks.vae.encode(picture)))
        for parameter in (*networks.vae.parameters(), *networks.daem.parameters()):
            parameter.mul_(1.5)
        assert torch.equal(was, before.vae.decode(before.vae.encode(picture)))
        assert not torch.equal(was, networks.vae.decode(networks.vae.encode(picture)))


@pytest.mark.slow
def test_the_command_trains_decoder_and_daem_from_what_it_is_given(networks, tmp_path, capsys):
    start = tmp_path / "start.safetensors"
    checkpoint.save(start, networks, {}, {"step": 0, "seconds": 0.0}, seeded())
    given = checkpoint.load(start)[0]
    options = parse(
        [
            "polish",
            "--minutes",
            "0.06",
            "--from",
            str(start),
            "--take",
            "all",
            "--out",
            str(tmp_path),
            "--device",
            "cpu",
        ]
    )
    options.batch_scale, options.workers = 1, 0
    nobody = data.Photographs((), (), torch.ones(0))
    run_stage(options, "cpu", pictures=Pictures(photographs(), nobody, None), config=TINY)
    trained = checkpoint.load(tmp_path / "polish.safetensors")[0]
    changed = {key for key, value in trained.items() if not torch.equal(value, given[key])}
    assert changed and all(key.startswith(("vae.decoder.", "daem.")) for key in changed)
    assert not any(key.startswith(("daem.anchor.", "daem.curve.", "daem.kept.")) for key in changed)
    said = capsys.readouterr().out
    assert "gained" in said and "held" in said
