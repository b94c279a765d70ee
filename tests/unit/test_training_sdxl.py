"""The stages of SDXL on a narrow SDXL: what they train, that they learn, and what they write."""

from __future__ import annotations

import argparse
import dataclasses
import math
from pathlib import Path

import pytest
import torch
from aior_pack.aior_core.training import data, loop
from aior_pack.aior_core.weights import config_from, load_weights

ROOT = Path(__file__).resolve().parents[2]
PHOTOGRAPHS = ROOT.parent / "shared" / "data" / "train_small"


@pytest.fixture(scope="module")
def base(comfyui):
    import comfy.model_patcher  # noqa: F401  the host's modules import each other in this order
    import comfy.sd
    from aior_pack.aior_core.training.sdxl_run import make_base
    from aior_pack.tests.graph.host_nodes.aior_test_sdxl import UNET, VAE, NarrowSDXL, randomise

    shallow = {
        **UNET,
        "transformer_depth": [0, 0, 1, 1, 1, 1],
        "transformer_depth_middle": 1,
        "context_dim": 64,
    }
    config = NarrowSDXL(
        {**shallow, "out_channels": 4, "transformer_depth_output": [0, 0, 0, 1, 1, 1, 1, 1, 1]}
    )
    config.set_inference_dtype(torch.float32, None)
    model = config.get_model({})
    randomise(model.diffusion_model, 0)
    vae = comfy.sd.VAE(sd={}, config={"params": {"ddconfig": VAE, "embed_dim": 4}}).first_stage_model
    randomise(vae, 1)
    generator = torch.Generator().manual_seed(2)
    said, nothing = (
        (torch.randn(1, 7, 64, generator=generator), torch.randn(1, 1280, generator=generator))
        for _ in range(2)
    )
    return make_base(model, vae, said, nothing, size=64)


@pytest.fixture
def sdxl(base):
    from aior_pack.aior_core.training import sdxl_run

    return sdxl_run.build(base, [])[0]


def photographs() -> data.Photographs:
    generator = torch.Generator().manual_seed(3)
    coarse = torch.rand(2, 3, 9, 9, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(160, 200), mode="bicubic").clamp(0, 1)
    return data.Photographs(tuple((smooth * 255).byte()), ("a", "b"), torch.ones(2, dtype=torch.float64))


def snapshot(networks, base) -> dict[str, torch.Tensor]:
    frozen = {
        f"{name}.{k}": v
        for name, part in (("unet", base.unet), ("vae", base.vae))
        for k, v in part.state_dict().items()
    }
    return {key: value.clone() for key, value in {**frozen, **networks.state_dict()}.items()}


@pytest.mark.parametrize(
    "name, unet", [("fusion-a", False), ("fusion-b", False), ("fusion-b", True), ("detail", False)]
)
def test_two_steps_change_what_the_stage_trains_and_nothing_else(base, name, unet):
    from aior_pack.aior_core.training import sdxl, sdxl_run

    networks, _ = sdxl_run.build(base, [], with_unet=unet)
    # DAFF's projection starts at zero and hides what lies before it in the first step: two steps must reach
    # everything.
    stage = sdxl.SDXL_STAGES[name]
    stage = dataclasses.replace(stage, trains=(*stage.trains, "unet")) if unet else stage
    before = snapshot(networks, base)
    try:
        parameters = loop.trained_parameters(networks, stage.trains)
        optimizer = torch.optim.AdamW(parameters.values(), lr=1e-3, weight_decay=0)
        generator = torch.Generator().manual_seed(0)
        for _ in range(3):
            clean = data.draw_batch(photographs(), 2, 64, generator)
            loss, logs = stage.step(networks, clean, generator)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            assert math.isfinite(loss.item()) and all(
                torch.as_tensor(v).isfinite().all() for v in logs.values()
            )
        after = snapshot(networks, base)
        changed = {key for key in after if not torch.equal(after[key], before[key])}
        assert changed <= set(parameters)
        for prefix in stage.trains:
            assert any(key.startswith(prefix + ".") for key in changed), prefix
    finally:
        base.unet.load_state_dict(
            {k.removeprefix("unet."): v for k, v in before.items() if k.startswith("unet.")}
        )
        base.unet.requires_grad_(False)


def test_a_new_restorer_changes_nothing(base, sdxl):
    """Its LQ encoder is the base's, DAFF and DAEM add nothing."""
    from aior_pack.aior_core.training.sdxl import repair_sdxl

    picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        latent = base.encode(picture) / base.scale
        repaired, _, estimate = repair_sdxl(sdxl, picture, latent)
        assert torch.allclose(repaired, base.vae.decode(latent), atol=1e-5)
        h = torch.randn(1, 32, 8, 8, generator=torch.Generator().manual_seed(1))
        assert not sdxl.daff(h, sdxl.daff.embed(estimate.features[-1]), torch.tensor([500])).any()
    encoder = base.vae.encoder.state_dict()
    assert all(torch.equal(value, encoder[key]) for key, value in sdxl.prior.trunk.state_dict().items())


def test_noise_has_an_offset_and_whole_timesteps(base):
    from aior_pack.aior_core.training.sdxl import noised

    latent = torch.zeros(64, 4, 16, 16)
    x, timestep, noise = noised(latent, base.sigmas, torch.Generator().manual_seed(0))
    assert timestep.dtype == torch.long and 0 <= timestep.min() and timestep.max() <= 999
    # The mean of 256 numbers deviates by 1/16; the offset adds 0.02.
    assert abs(noise.mean(dim=(2, 3)).std().item() - math.hypot(1 / 16, 0.02)) < 0.01
    kept = 1 / (base.sigmas[timestep].square() + 1)
    assert torch.allclose(x, (1 - kept).sqrt()[:, None, None, None] * noise, atol=1e-5)


def test_gradient_checkpointing_changes_no_gradient(base, sdxl):
    from aior_pack.aior_core.training.sdxl import SDXL_STAGES, checkpointed

    stage = SDXL_STAGES["fusion-a"]
    parameters = loop.trained_parameters(sdxl, stage.trains)
    clean = data.draw_batch(photographs(), 2, 64, torch.Generator().manual_seed(1))

    def gradients() -> torch.Tensor:
        loss, _ = stage.step(sdxl, clean, torch.Generator().manual_seed(5))
        found = torch.autograd.grad(loss, [parameters["daff.spatial_ch_projs.weight"]])
        return found[0]

    plain = gradients()
    layers = [
        layer
        for block in (*base.unet.input_blocks[1:], base.unet.middle_block, *base.unet.output_blocks)
        for layer in block
    ]
    checkpointed(base.unet)
    try:
        again = gradients()
    finally:
        for layer in layers:
            del layer.forward
    assert plain.abs().max() > 0 and torch.allclose(plain, again, atol=1e-7)


def options(out: Path, **changes) -> argparse.Namespace:
    """What the command line gives."""
    from aior_pack.aior_core.training.__main__ import parse, settle

    words = [
        "fusion",
        "--scale",
        "sdxl",
        "--checkpoint",
        "base.safetensors",
        "--out",
        str(out),
        "--crop",
        "64",
        "--data",
        str(PHOTOGRAPHS),
    ]
    parsed = parse(words)
    settle(parsed, "cpu")
    return argparse.Namespace(**{**vars(parsed), "target": out, **changes})


def test_200_steps_of_fusion_lower_the_validation_loss(base, tmp_path, capsys):
    """On real photographs, by the command's own way; then the restorer that it wrote is one that loads."""
    if not PHOTOGRAPHS.is_dir():
        pytest.skip(f"needs the training photographs in {PHOTOGRAPHS}")
    from aior_pack.aior_core.training import sdxl_run

    few = tmp_path / "photographs"
    few.mkdir()
    for picture in sorted(PHOTOGRAPHS.iterdir())[:12]:
        (few / picture.name).symlink_to(picture)
    held_out = data.load([few / name.name for name in sorted(few.iterdir())[8:]])
    crops = [data.centre_crop(picture, 64) for picture in held_out.pictures]
    untrained, _ = sdxl_run.build(base, [])
    before = sdxl_run.noise_error(crops, untrained)["eps"]
    steps = []
    original = loop.train

    def train(*args, **kwargs):
        return original(
            *args, **{**kwargs, "watch": lambda progress: steps.append(progress.step) or progress.step < 200}
        )

    run = options(tmp_path / "run", data=[few], minutes=30.0, batch=2, learning_rate=20.0)
    loop.train = train
    try:
        sdxl_run.run_sdxl(run, "cpu", base)
    finally:
        loop.train = original
    networks, config = sdxl_run.build(base, [tmp_path / "run" / "fusion-a.safetensors"])
    after = sdxl_run.noise_error(crops, networks)["eps"]
    print(f"eps L1 on held-out photographs: {before:.4f} -> {after:.4f} after {steps[-1]} steps")
    assert steps[-1] == 200 and after < 0.97 * before
    state, metadata = load_weights(tmp_path / "run" / "aior_compact_fusion-a.safetensors")
    assert config_from(state, metadata) == config
    again, _ = sdxl_run.build(base, [tmp_path / "run" / "aior_compact_fusion-a.safetensors"])
    assert sdxl_run.noise_error(crops[:1], again)["eps"] == pytest.approx(
        sdxl_run.noise_error(crops[:1], networks)["eps"], rel=1e-2
    )


def test_training_goes_on_from_a_published_checkpoint(base, tmp_path):
    from aior_pack.aior_core.training import sdxl_run
    from aior_pack.tests.unit.test_published import NARROW, filled, unildiff

    torch.save(filled(unildiff(NARROW), seed=1), tmp_path / "FaithDiff.bin")
    networks, config = sdxl_run.build(base, [tmp_path / "FaithDiff.bin"])
    assert config.daff.mode == "official" and config.prior.head_width and config.daem is not None
    published = filled(unildiff(NARROW), seed=1)
    assert torch.equal(networks.daff.spatial_ch_projs.weight, published["spatial_ch_projs.weight"])


@pytest.mark.parametrize("words, said", [
    (["prior", "--scale", "sdxl", "--checkpoint", "x"], "takes the stage fusion or detail"),
    (["fusion", "--scale", "sdxl"], "--checkpoint"),
    (["fusion", "--scale", "sdxl", "--checkpoint", "x", "--crop", "100"], "--crop 100"),
])  # fmt: skip
def test_the_command_says_what_it_needs(words, said, capsys):
    from aior_pack.aior_core.training.__main__ import parse

    with pytest.raises(SystemExit):
        parse(words)
    assert said in capsys.readouterr().err
