"""CUDA graphs: where tensors lie, what is drawn before a step, and on a GPU the gradients of eager steps."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from aior_pack.aior_core.training import data, loop
from aior_pack.aior_core.training.cuda_graphs import (
    CachedConstants,
    CudaGraphSteps,
    copied,
    eager_steps,
    tensors,
)
from aior_pack.aior_core.training.restoration import Batch, damage
from aior_pack.aior_core.training.stages import STAGES
from aior_pack.tests.tiny import TINY


def batch(count: int = 4, side: int = 32, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    picture = (255 * torch.rand(3, 96, 96, generator=generator)).byte()
    photographs = data.Photographs((picture,), ("a",), torch.ones(1, dtype=torch.float64))
    return damage(data.draw_batch(photographs, count, side, generator), generator, selective=0.5)


def test_copies_have_other_addresses_and_share_what_was_shared():
    made = batch()
    inputs = {"clean": made.target, "made": made}
    held = copied(inputs)
    assert held["clean"] is held["made"].target and held["clean"] is not made.target
    given, own = list(tensors(inputs)), list(tensors(held))
    assert len(given) == len(own) == len(dataclasses.fields(Batch))
    for one, other in zip(given, own):
        assert (
            torch.equal(one, other) and one.data_ptr() != other.data_ptr() and one.stride() == other.stride()
        )


def test_constants_are_made_once():
    constants = CachedConstants()
    with constants:
        first = torch.tensor([1.0, 2.0], device="cpu")
        again, other, wide = (
            torch.tensor([1.0, 2.0], device="cpu"),
            torch.tensor([1.0, 3.0], device="cpu"),
            torch.tensor([1.0, 2.0], dtype=torch.float64),
        )
    assert first is again and other.tolist() == [1.0, 3.0] and wide.dtype == torch.float64
    assert torch.tensor([1.0, 2.0]) is not first


@pytest.mark.usefixtures("comfyui")
@pytest.mark.parametrize("name", ["detail", "together", "joint", "keep"])
def test_a_choice_decides_everything_that_is_no_tensor(name):
    from aior_pack.aior_core.training.networks import build

    networks, made, stage = build(TINY), batch(), STAGES[name]
    drawn = {stage.choose(torch.Generator().manual_seed(seed)) for seed in range(200)}
    assert len(drawn) == {"detail": 6, "together": 5, "joint": 5, "keep": 2}[name]
    torch.nn.init.normal_(networks.unet.out[2].weight, std=0.1, generator=torch.Generator().manual_seed(0))
    losses = {}
    for choice in sorted(drawn):
        for seed in (1, 2):
            generator = torch.Generator().manual_seed(seed)
            losses[choice, seed] = stage.step(networks, made.target, generator, made=made, choice=choice)[
                0
            ].item()
    # Different choices give different losses.
    values = [losses[choice, 1] for choice in sorted(drawn)]
    assert len(set(values)) == len(values)
    if name == "detail":
        assert losses["lq", 1] == losses["lq", 2] and losses["none", 1] == losses["none", 2]


@pytest.mark.usefixtures("comfyui")
@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU")
@pytest.mark.parametrize("name", ["detail", "together", "joint", "keep"])
def test_captured_steps_have_the_gradients_of_eager_ones(name):
    from aior_pack.aior_core.training.networks import build

    networks, stage = build(TINY).to("cuda"), STAGES[name]
    choice = "lq"
    parameters = loop.trained_parameters(networks, stage.trains)
    recorded, plain, generator = (
        CudaGraphSteps(networks, stage.step, lambda generator: choice, seed=0),
        eager_steps(networks, stage.step, "cuda"),
        torch.Generator().manual_seed(0),
    )

    def gradients(take, seed: int, **more) -> list[torch.Tensor]:
        made = batch(seed=seed)
        made = dataclasses.replace(
            made, **{field.name: getattr(made, field.name).to("cuda") for field in dataclasses.fields(Batch)}
        )
        for parameter in parameters.values():
            if parameter.grad is not None:
                parameter.grad.zero_()
        loss, _ = take(made.target, generator, {"made": made} | more)
        return [loss.clone(), *(p.grad.clone() for p in parameters.values() if p.grad is not None)]

    for seed in (1, 2, 3, 4):
        own, wanted = gradients(recorded, seed), gradients(plain, seed, choice=choice)
        assert len(own) == len(wanted) > 10
        for one, other in zip(own, wanted):
            assert (one - other).norm() <= 0.05 * other.norm() + 1e-4
    assert len(recorded.graphs) == 1
