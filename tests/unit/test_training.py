"""The stages on small networks: they learn and they resume; and gradients on a CPU are right."""

from __future__ import annotations

import argparse
import dataclasses
import math

import pytest
import torch
from aior_pack.aior_core.degradations import KINDS
from aior_pack.aior_core.training import data, loop, losses, optimizer, precision, run, schedules
from aior_pack.aior_core.training.depthwise import fast_gradients
from aior_pack.aior_core.training.ema import EMA
from aior_pack.aior_core.training.pairs import Pairs, draw_mixed
from aior_pack.aior_core.training.stages import STAGES
from torch import nn
from torch.nn import Conv2d


def photographs() -> data.Photographs:
    generator = torch.Generator().manual_seed(3)
    coarse = torch.rand(2, 3, 9, 9, generator=generator)
    smooth = nn.functional.interpolate(coarse, size=(160, 200), mode="bicubic").clamp(0, 1)
    return data.Photographs(tuple((smooth * 255).byte()), ("a", "b"), torch.ones(2, dtype=torch.float64))


@pytest.fixture
def networks(host_for_training):
    from aior_pack.aior_core.training.networks import build
    from aior_pack.tests.tiny import TINY

    return build(TINY, seed=0)


@pytest.fixture
def host_for_training(comfyui):
    """Skips a test where there is no ComfyUI."""


@pytest.mark.parametrize("kernel, dilation", [(3, 1), (5, 1), (7, 1), (3, 4)])
@pytest.mark.parametrize("size", [(32, 32), (19, 23)])
def test_fast_depthwise_gradients_are_those_of_autograd(kernel, dilation, size):
    generator = torch.Generator().manual_seed(0)
    plain = Conv2d(8, 8, kernel, padding=dilation * (kernel // 2), dilation=dilation, groups=8)
    fast = fast_gradients(Conv2d(8, 8, kernel, padding=dilation * (kernel // 2), dilation=dilation, groups=8))
    fast.load_state_dict(plain.state_dict())
    x, weigh = (torch.randn(2, 8, *size, generator=generator) for _ in range(2))
    found = []
    for convolution in (plain, fast):
        seen = x.clone().requires_grad_()
        out = convolution(seen)
        (out * weigh).sum().backward()
        found.append((out, seen.grad, convolution.weight.grad, convolution.bias.grad))
    for a, b in zip(*found):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(STAGES))
def test_every_stage_changes_what_it_trains_and_nothing_else(networks, name):
    from aior_pack.aior_core.training.stages.maps import FeatureBuffer

    stage, buffer = STAGES[name], FeatureBuffer(networks, photographs(), "cpu")
    parameters = loop.trained_parameters(networks, stage.trains, stage.fixed)
    before = {k: v.clone() for k, v in networks.state_dict().items()}
    optimizer = torch.optim.AdamW(parameters.values(), lr=1e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(4):
        clean, mix = (
            buffer(4, 64, generator)
            if name == "maps"
            else (data.draw_batch(photographs(), 4, 64, generator), {})
        )
        loss, logs = stage.step(networks, clean, generator, **mix)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        assert math.isfinite(loss.item()) and all(torch.as_tensor(v).isfinite().all() for v in logs.values())
    changed = {k for k, v in networks.state_dict().items() if not torch.equal(v, before[k])}
    assert changed <= set(parameters) and not any(
        key.startswith(stage.fixed) for key in changed if stage.fixed
    )
    for prefix in stage.trains:
        assert any(key.startswith(prefix + ".") for key in changed), prefix


@pytest.mark.slow
def test_autoencoder_learns(networks):
    stage = STAGES["autoencoder"]
    parameters = loop.trained_parameters(networks, stage.trains)
    optimizer = torch.optim.AdamW(parameters.values(), lr=4e-3)
    generator = torch.Generator().manual_seed(0)
    held_out = data.draw_batch(photographs(), 8, 64, torch.Generator().manual_seed(5))

    def fit() -> float:
        with torch.no_grad():
            return losses.reconstruction(networks.vae.decode(networks.vae.encode(held_out)), held_out).item()

    before = fit()
    for _ in range(420):
        loss, _ = stage.step(networks, data.draw_batch(photographs(), 4, 32, generator), generator)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    after = fit()
    print(f"{before:.4f} -> {after:.4f}")
    assert after < 0.75 * before


@pytest.mark.slow
def test_an_interrupted_stage_goes_on_where_its_checkpoint_was(networks, tmp_path):
    lines = []
    options = loop.Options(tmp_path, 0.03)
    loop.train(networks, STAGES["autoencoder"], photographs(), options, say=lines.append)
    loop.train(networks, STAGES["autoencoder"], photographs(), loop.Options(tmp_path, 0.06), say=lines.append)
    assert any("resumed at step" in line for line in lines)
    from aior_pack.aior_core.training import checkpoint

    _, _, state, _ = checkpoint.load(tmp_path / "autoencoder.safetensors")
    assert state["seconds"] >= 3.6


@pytest.mark.usefixtures("comfyui")
def test_damage_keeps_what_selective_targets_say(monkeypatch):
    from aior_pack.aior_core.training import restoration
    from aior_pack.aior_core.training.restoration import damage

    monkeypatch.setattr(restoration, "LOOK_ALIKE", 0.0)
    generator = torch.Generator().manual_seed(0)
    clean = data.draw_batch(photographs(), 24, 64, generator)
    batch = damage(clean, generator, selective=1.0)
    kept = (batch.remove == 0).any(dim=1)
    assert kept.any() and not kept.all()
    assert torch.equal(batch.target[~kept], clean[~kept])
    assert batch.severities.shape == (24, len(KINDS)) and batch.maps.shape == (24, len(KINDS), 8, 8)
    # Where everything is kept, there is nothing to repair.
    whole = ((batch.remove == 1) & (batch.severities > 0)).any(dim=1).logical_not() & kept
    assert whole.any() and torch.allclose(batch.lq[whole], batch.target[whole], atol=1e-6)


@pytest.mark.usefixtures("comfyui")
def test_what_looks_like_damage_and_is_none_is_wished_as_it_is(monkeypatch):
    from aior_pack.aior_core.training import restoration

    monkeypatch.setattr(restoration, "LOOK_ALIKE", 1.0)
    monkeypatch.setattr(restoration, "COUNTS", (1.0,))
    generator = torch.Generator().manual_seed(0)
    clean = data.draw_batch(photographs(), 12, 64, generator)
    before = clean.clone()
    batch = restoration.damage(clean, generator, selective=0.0)
    changed = (batch.target - clean).abs().amax(dim=(1, 2, 3))
    assert (changed > 0.02).all() and torch.equal(clean, before)
    assert torch.equal(batch.lq, batch.target) and not batch.severities.any() and not batch.maps.any()


def test_schedule_warms_up_holds_and_decays_to_nearly_nothing():
    assert schedules.constant_then_sqrt(0.0, 0, 0.6) == pytest.approx(1 / schedules.WARM_UP)
    assert schedules.constant_then_sqrt(0.3, 10_000, 0.6) == 1.0
    assert schedules.constant_then_sqrt(0.99, 10_000, 0.6) < 0.05
    values = [schedules.constant_then_sqrt(p / 100, 10_000, 0.6) for p in range(100)]
    assert values == sorted(values, reverse=True)


def test_the_cosine_warms_up_over_300_steps_and_ends_at_nothing():
    assert schedules.cosine(0.0, 149, 0.6) == pytest.approx(0.5)
    assert schedules.cosine(0.5, 10_000, 0.6) == pytest.approx(0.5)
    assert schedules.cosine(1.0, 10_000, 0.6) == pytest.approx(0.0)


def test_what_is_slow_learns_at_a_tenth_of_the_rate():
    fast, slow = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    optimizers = optimizer.Optimizers([fast, slow], 0.1, muon=False, slow=[slow])
    (fast.sum() + slow.sum()).backward()
    optimizers.step(0.1)
    assert torch.allclose(1 - fast, 10 * (1 - slow), rtol=0.05) and (1 - fast).min() > 0.05


def test_the_average_follows_its_definition_and_warms_up():
    parameter = torch.nn.Parameter(torch.zeros(3))
    ema, wanted = EMA({"p": parameter}, 0.5), torch.zeros(3)
    for step in range(30):
        with torch.no_grad():
            parameter.add_(1)
        ema.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        wanted = decay * wanted + (1 - decay) * parameter.detach()
    assert torch.allclose(ema.values["p"], wanted)
    with ema.applied():
        assert torch.allclose(parameter, wanted)
    assert torch.equal(parameter, torch.full((3,), 30.0))


def test_a_stage_keeps_the_damage_that_it_sets_itself():
    """`keep` trains on samples that all keep a part of the damage, whatever --selective says."""
    options = argparse.Namespace(stage="keep", selective=0.1, perceptual=0.0)
    assert run.configured_stage(options).damage_options["selective"] == 1.0
    options.stage = "detail"
    assert run.configured_stage(options).damage_options["selective"] == 0.1
    options.stage, options.perceptual = "joint", 0.5
    assert run.configured_stage(options).perceptual == 0.5


def test_a_blend_is_the_weighted_mean(networks, tmp_path, monkeypatch):
    from aior_pack.aior_core.training import checkpoint

    monkeypatch.setattr(run, "build", lambda: networks)
    before = {key: value.clone() for key, value in networks.state_dict().items()}
    files = [tmp_path / "detail.safetensors", tmp_path / "later.safetensors"]
    for file, factor in zip(files, (1.0, 3.0)):
        networks.load_state_dict({key: factor * value for key, value in before.items()})
        # The second is an older file, of before there was such a head.
        head, networks.daem.kept = networks.daem.kept, networks.daem.kept if factor == 1 else None
        checkpoint.save(file, networks, {}, {"step": 0, "seconds": 0.0}, torch.Generator())
        networks.daem.kept = head
    run.blend(files, [3.0, 1.0], tmp_path / "blended.safetensors")
    blended = checkpoint.load(tmp_path / "blended.safetensors")[0]
    networks.load_state_dict(before)
    wanted = {key: value if key.startswith("daem.kept.") else 1.5 * value for key, value in before.items()}
    assert all(torch.allclose(blended[key], value, rtol=2e-3, atol=1e-6) for key, value in wanted.items())
    with pytest.raises(ValueError, match="a share for each"):
        run.blend(files, [1.0], tmp_path / "none.safetensors")


def test_a_checkpoint_gives_what_its_stage_trains_and_shipped_weights_give_all(networks, tmp_path):
    from aior_pack.aior_core.training import checkpoint
    from aior_pack.aior_core.training.run import merge
    from aior_pack.aior_core.weights import describe, save_weights
    from aior_pack.tests.tiny import TINY

    path = tmp_path / "fusion.safetensors"
    checkpoint.save(path, networks, {}, {"step": 1, "seconds": 1.0}, torch.Generator())
    assert {key.split(".")[0] for key in merge([path], [])} == {"daff", "unet", "prior"}
    assert all(key.startswith("prior.tokens.") for key in merge([path], []) if key.startswith("prior."))
    shipped = save_weights(tmp_path / "whole", networks.state_dict(), describe(TINY))[0]
    merged = merge([shipped, path], ["all", "daem"])
    assert merged.keys() == networks.state_dict().keys()


@pytest.mark.slow
def test_validation_measures_every_damage_at_every_number_of_steps(networks):
    from aior_pack.aior_core.training import validation

    measure = validation.restoration_psnr(photographs(), size=64, count=1, steps=(0, 1))
    numbers = measure(networks)
    damages = [*validation.PRESETS, "clean"]
    decibels = {name: value for name, value in numbers.items() if isinstance(value, float)}
    assert decibels.keys() == {f"{name}@{steps}" for name in damages for steps in (0, 1)}
    assert all(math.isfinite(value) and value > 3 for value in decibels.values())
    assert decibels["clean@0"] > decibels["noise50@0"]
    histograms = {name: value for name, value in numbers.items() if name not in decibels}
    assert histograms.keys() == {f"experts {name}" for name in damages}
    config = networks.daem.config
    assert all(shares.shape == (len(config.widths), len(config.kernels)) for shares in histograms.values())
    assert all(
        torch.allclose(shares.sum(dim=1), torch.tensor(float(config.top_k))) for shares in histograms.values()
    )


def test_validation_of_the_autoencoder_follows_the_device_of_the_networks(networks, monkeypatch):
    """The device "meta" stands for a GPU: a picture that stays on the CPU is refused there as well."""
    from aior_pack.aior_core.training import validation

    monkeypatch.setattr(
        validation, "_decibels", lambda picture, reference: float(picture.device.type == "meta")
    )
    networks.vae.to("meta")
    assert validation.autoencoder_psnr(networks, photographs(), size=64) == {"plain": 1.0}


def pairs() -> Pairs:
    """The clean pictures, and negatives of them as damaged ones."""
    clean = photographs()
    return Pairs(dataclasses.replace(clean, pictures=tuple(255 - p for p in clean.pictures)), clean)


@pytest.mark.parametrize("size", [64, 200])
def test_real_pairs_are_mixed_in_as_they_are(size):
    generator = torch.Generator().manual_seed(0)
    clean, real = draw_mixed(photographs(), pairs(), 0.5, 40, size, generator)
    chosen = torch.tensor(real.rows)
    assert 10 < chosen.sum() < 30 and clean.shape == real.lq.shape == (40, 3, size, size)
    assert torch.allclose(real.lq[chosen], -clean[chosen], atol=1e-5) and torch.equal(
        real.lq[~chosen], clean[~chosen]
    )


def test_real_pairs_keep_their_damage_and_teach_no_severities(networks):
    from aior_pack.aior_core.training.restoration import damage

    generator = torch.Generator().manual_seed(0)
    clean, real = draw_mixed(photographs(), pairs(), 0.5, 24, 64, generator)
    batch = damage(clean, generator, selective=1.0, real=real)
    chosen = torch.tensor(real.rows)
    assert torch.equal(batch.lq[chosen], real.lq[chosen]) and torch.equal(batch.target[chosen], clean[chosen])
    assert torch.equal(batch.known, (~chosen).float()) and (batch.remove[chosen] == 1).all()
    assert not torch.equal(batch.lq[~chosen], clean[~chosen])
    logits = torch.zeros(24, len(KINDS)), torch.zeros(24, len(KINDS)), torch.zeros(24, len(KINDS), 8, 8)
    wrong = dataclasses.replace(
        batch, severities=batch.severities + chosen[:, None], maps=batch.maps + chosen[:, None, None, None]
    )
    told, untold = (losses.severity(*logits, b.severities, b.maps, b.known) for b in (wrong, batch))
    assert torch.equal(told, untold)
    everything = losses.severity(*logits, batch.severities, batch.maps)
    assert torch.allclose(
        everything, losses.severity(*logits, batch.severities, batch.maps, torch.ones(24))
    ) and not torch.equal(everything, untold)


@pytest.mark.slow
def test_a_stage_trains_on_real_pairs_alone(networks, tmp_path):
    """From nothing but pairs a restoring stage learns their damage: here a negative, which no recipe
    makes."""
    stage = dataclasses.replace(STAGES["detail"], crops=lambda progress, step: (32, 8))
    seen = []

    def watch(progress: loop.Progress) -> bool:
        seen.append(progress.losses["fit"])
        return progress.step < 60

    options = loop.Options(tmp_path, 600.0, pair_share=1.0, report_seconds=0.0)
    loop.train(networks, stage, photographs(), options, say=lambda line: None, watch=watch, pairs=pairs())
    assert sum(seen[-10:]) < 0.7 * sum(seen[:10])


def test_shares_of_damages_are_the_callers(networks):
    from aior_pack.aior_core.training.restoration import damage

    generator = torch.Generator().manual_seed(0)
    batch = damage(data.draw_batch(photographs(), 12, 64, generator), generator, weights={"rain": 1.0})
    others = [index for index, kind in enumerate(KINDS) if kind != "rain"]
    assert batch.severities[:, KINDS.index("rain")].any() and not batch.severities[:, others].any()


@pytest.mark.parametrize("supported, dtype", [(True, torch.bfloat16), (False, torch.float32)])
def test_bfloat16_only_where_the_processor_has_it(monkeypatch, supported, dtype):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: supported)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    with precision.autocast("cpu"):
        product = torch.ones(2, 3) @ torch.ones(3, 2)
    assert product.dtype == dtype and precision.fast_dtype("cuda") == torch.bfloat16
