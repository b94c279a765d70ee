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


@pytest.mark.parametrize(
    "choice, learns",
    [("none", False), ("lq", False), ("target", True), ("noised and hidden", True), ("none and plain", True)],
)
def test_restore_trains_the_encoder_where_its_latent_is_decoded(networks, choice, learns):
    stage, clean = STAGES["restore"], data.draw_batch(photographs(), 2, 64, torch.Generator().manual_seed(0))
    parameters = loop.trained_parameters(networks, stage.trains, stage.fixed)
    loss, _ = stage.step(networks, clean, torch.Generator().manual_seed(1), choice=choice)
    loss.backward()
    encoder = [value for name, value in parameters.items() if name.startswith("vae.encoder.")]
    assert any(value.grad is not None and value.grad.any() for value in encoder) == learns


def test_hidden_detail_leaves_coarse_tones_and_teaches_the_head_nothing(networks):
    from aior_pack.aior_core.training.stages.restore import without_detail

    picture = torch.zeros(1, 3, 64, 64)
    picture[..., ::2] = 0.8
    hidden = without_detail(picture, torch.Generator().manual_seed(0))
    assert hidden.mean().item() == pytest.approx(0.4, abs=0.05)
    columns = hidden.mean(dim=(0, 1, 2))
    assert (columns[::2] - columns[1::2]).mean().abs() < 0.05, "the stripes are gone"
    stage, clean = STAGES["restore"], data.draw_batch(photographs(), 2, 64, torch.Generator().manual_seed(0))
    _, logs = stage.step(networks, clean, torch.Generator().manual_seed(1), choice="target and hidden")
    assert logs["head"] == 0.0


def test_restore_draws_every_way_of_decoding():
    generator = torch.Generator().manual_seed(0)
    drawn = [STAGES["restore"].choose(generator) for _ in range(400)]
    starts = [each.split(" and ")[0] for each in drawn]
    for latent, share in (("none", 0.35), ("lq", 0.15), ("target", 0.25), ("noised", 0.25)):
        assert starts.count(latent) / 400 == pytest.approx(share, abs=0.07)
    assert all(each.split(" ")[0] in ("target", "noised") for each in drawn if "hidden" in each)
