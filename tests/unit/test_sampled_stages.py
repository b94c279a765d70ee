"""The stages that decode sampled latents: which networks get gradients, and when the perceptual loss
counts."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from aior_pack.aior_core.metrics.perceptual import available
from aior_pack.aior_core.training import data, loop
from aior_pack.aior_core.training.stages import STAGES
from aior_pack.tests.tiny import TINY
from torch import nn


def photographs() -> data.Photographs:
    picture = (255 * torch.rand(3, 96, 96, generator=torch.Generator().manual_seed(3))).byte()
    return data.Photographs((picture,), ("a",), torch.ones(1, dtype=torch.float64))


@pytest.fixture
def networks(comfyui):
    from aior_pack.aior_core.training.networks import build

    return build(TINY, seed=0)


@pytest.mark.parametrize("name", ["together", "joint"])
def test_only_pictures_of_four_steps_have_a_perceptual_loss(networks, name):
    stage, clean = STAGES[name], data.draw_batch(photographs(), 2, 64, torch.Generator().manual_seed(0))

    def loss(seed, weight):
        weighted = dataclasses.replace(stage, perceptual=weight)
        return weighted.step(networks, clean, torch.Generator().manual_seed(seed))[0].item()

    if not available():
        with pytest.raises(RuntimeError, match="pip install"):
            [loss(seed, 0.5) for seed in range(20)]
        return
    more = [loss(seed, 0.5) - loss(seed, 0.0) for seed in range(20)]
    assert 2 < sum(difference > 1e-4 for difference in more) < 18 and all(
        difference >= 0 for difference in more
    )


@pytest.mark.slow
@pytest.mark.parametrize("fast", [False, True], ids=["plain", "autocast"])
def test_together_trains_the_denoiser_only_where_it_samples(networks, fast):
    """Latents that the denoiser did not sample give it no gradients, and sampling does not take its
    gradients."""
    stage, clean = STAGES["together"], data.draw_batch(photographs(), 2, 64, torch.Generator().manual_seed(0))
    parameters = loop.trained_parameters(networks, stage.trains, stage.fixed)
    nn.init.normal_(networks.unet.out[2].weight, std=0.1, generator=torch.Generator().manual_seed(0))

    def taught(choice: str) -> set[str]:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=fast):
            loss, logs = stage.step(networks, clean, torch.Generator().manual_seed(1), choice=choice)
        loss.backward()
        assert ("v" in logs) == choice.isdigit()
        weights = {
            key: p
            for key, p in parameters.items()
            if p.ndim > 1 and p.grad is not None and p.grad.abs().sum() > 0
        }
        for parameter in parameters.values():
            parameter.grad = None
        return {key.split(".")[0] for key in weights}

    assert taught("none") == taught("lq") == {"prior", "vae", "daem"}
    assert taught("1") == taught("4") == {"prior", "vae", "daem", "daff", "unet"}
