"""CFG between equal conditionings: one prediction, the same picture; and only where they are equal."""

from __future__ import annotations

import pytest
import torch
from aior_pack.tests.tiny import picture

pytestmark = pytest.mark.usefixtures("host")


@pytest.fixture
def walk(tiny_file):
    from aior_pack.aior_core.host.compact_model import load_compact
    from aior_pack.aior_core.host.prior_encode import encode_prior

    model, vae, restorer = load_compact(tiny_file)
    return model, restorer, encode_prior(restorer, vae, picture(64, 64))


def count_calls(model) -> list[int]:
    """How many samples the denoiser sees, call by call."""
    seen = []
    # The host calls the layers in a block, not the block.
    model.model.diffusion_model.input_blocks[0][0].register_forward_pre_hook(
        lambda module, args: seen.append(len(args[0]))
    )
    return seen


def sample(model, positive, negative, prior, cfg=4.0):
    import comfy.sample

    noise = comfy.sample.prepare_noise(prior.latent, 0)
    args = (model, noise, 3, cfg, "euler", "simple", positive, negative, torch.zeros_like(noise))
    return comfy.sample.sample(*args, seed=0, disable_pbar=True)


def test_equal_conditionings_are_predicted_once(walk):
    from aior_pack.aior_core.host.daff_patch import apply_daff

    model, restorer, prior = walk
    prompt = [
        [
            torch.randn(1, 8, 24, generator=torch.Generator().manual_seed(0)),
            {"pooled_output": torch.ones(1, 4)},
        ]
    ]
    copy = [[prompt[0][0].clone(), {"pooled_output": torch.ones(1, 4)}]]
    patched, positive, negative = apply_daff(model, restorer, prior, prompt, copy)
    seen = count_calls(patched)
    once = sample(patched, positive, negative, prior)
    assert sum(seen) == 3
    from comfy.patcher_extension import WrappersMP

    plain = patched.clone()
    plain.remove_wrappers_with_key(WrappersMP.CALC_COND_BATCH, "aior_daff")
    seen.clear()
    twice = sample(plain, positive, negative, prior)
    assert sum(seen) == 6
    assert (once - twice).abs().max() < 1e-5
    seen.clear()
    assert torch.equal(sample(patched, positive, positive, prior, cfg=1.0), once) and sum(seen) == 3


@pytest.mark.parametrize("change", ["tokens", "strength", "area", "prior"])
def test_different_conditionings_are_not(walk, change):
    import node_helpers
    from aior_pack.aior_core.host.daff_patch import apply_daff

    model, restorer, prior = walk
    prompt = [[torch.randn(1, 8, 24, generator=torch.Generator().manual_seed(0)), {}]]
    patched, positive, negative = apply_daff(model, restorer, prior, prompt, [[prompt[0][0].clone(), {}]])
    if change == "tokens":
        negative = [[negative[0][0] + 1e-3, negative[0][1]]]
    elif change == "prior":
        other = apply_daff(model, restorer, prior, prompt, prompt, strength=1.0)[2]
        key = other[0][1]["model_conds"]["aior_prior"]
        negative = node_helpers.conditioning_set_values(
            other, {"model_conds": {"aior_prior": type(key)(key.cond + 1)}}
        )
    elif change == "strength":
        negative = node_helpers.conditioning_set_values(negative, {"strength": 0.5})
    else:
        negative = node_helpers.conditioning_set_values(negative, {"area": (8, 4, 0, 0)})
    seen = count_calls(patched)
    sample(patched, positive, negative, prior)
    assert sum(seen) > 3


def through(conds, options):
    """What the wrapper asks the denoiser for, and gives for both."""
    from aior_pack.aior_core.pipeline.dedupe_cond_uncond import dedupe_cond_uncond

    asked = []

    def executor(model, conds, x_in, timestep, model_options):
        asked.append(conds)
        return [torch.ones(1, 1, 2, 2) if cond is not None else torch.zeros(1, 1, 2, 2) for cond in conds]

    return asked, dedupe_cond_uncond(executor, None, conds, torch.zeros(1, 1, 2, 2), torch.ones(1), options)


def cond(value: float) -> list[dict]:
    return [{"cross_attn": torch.full((1, 2, 3), value)}]


def test_a_verdict_is_not_kept_for_lists_that_are_gone(comfyui):
    """As context windows make them: new lists for every window and step, at addresses of old ones."""
    options: dict = {}
    for step in range(200):
        differ = step // 5 % 2
        predicted_once = through([cond(1.0), cond(1.0 + differ)], options)[0][0][1] is None
        assert predicted_once != differ, f"step {step}"


def test_conds_of_a_whole_run_are_compared_once(comfyui, monkeypatch):
    from aior_pack.aior_core.pipeline import dedupe_cond_uncond as same_conds

    compared = []
    monkeypatch.setattr(
        same_conds, "equal", lambda a, b, equal=same_conds.equal: compared.append(1) or equal(a, b)
    )
    conds, options = [cond(1.0), cond(1.0)], {}
    for _ in range(5):
        through(list(conds), options)
    # `equal` asks itself of what lists and dicts hold.
    first = len(compared)
    through(list(conds), options)
    assert len(compared) == first


def test_what_is_given_for_both_can_be_changed_in_place(comfyui):
    _, (positive, negative) = through([cond(1.0), cond(1.0)], {})
    assert torch.equal(positive, negative)
    positive.mul_(2)
    assert torch.equal(positive, 2 * negative)
