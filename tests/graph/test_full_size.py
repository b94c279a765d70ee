"""SDXL in full size, once, for who asks: `python3 aior.py test --full-size`. 7 GB on disk for a while, and 20
GB of memory.

A checkpoint of random weights in the real layout, read by the stock loader; a restorer of UniLDiff's exact
shapes; a small picture.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from aior_pack.tests.graph.walk import SAMPLER, photograph
from aior_pack.tests.unit.test_published import SDXL, unildiff
from safetensors.torch import save_file

Shapes = dict[str, tuple[int, ...]]
VAE = {
    "double_z": True, "z_channels": 4, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": 128,
    "ch_mult": [1, 2, 4, 4],
    "num_res_blocks": 2, "attn_resolutions": [], "dropout": 0.0,
}  # fmt: skip


@pytest.fixture(autouse=True)
def asked_for(request):
    if not request.config.getoption("--full-size"):
        pytest.skip("7 GB on disk, 20 GB of memory and minutes: python3 aior.py test --full-size")


def shapes_of(network: torch.nn.Module, prefix: str) -> Shapes:
    return {prefix + key: tuple(value.shape) for key, value in network.state_dict().items()}


def denoiser_and_autoencoder() -> Shapes:
    """From the host's own classes at SDXL's widths, under the checkpoint's prefixes; on the meta device."""
    import comfy.ops
    from comfy.ldm.models.autoencoder import AutoencoderKL
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    with torch.device("meta"):
        unet = UNetModel(
            image_size=32, in_channels=4, out_channels=4, model_channels=320, num_res_blocks=[2, 2, 2],
            channel_mult=[1, 2, 4],
            num_heads=-1, num_head_channels=64, transformer_depth=[0, 0, 2, 2, 10, 10],
            transformer_depth_middle=10,
            transformer_depth_output=[0, 0, 0, 2, 2, 2, 10, 10, 10], context_dim=2048, adm_in_channels=2816,
            num_classes="sequential",
            use_spatial_transformer=True, use_linear_in_transformer=True, legacy=False, device="meta",
            operations=comfy.ops.disable_weight_init,
        )  # fmt: skip
        vae = AutoencoderKL(ddconfig=VAE, embed_dim=4)
    return {**shapes_of(unet, "model.diffusion_model."), **shapes_of(vae, "first_stage_model.")}


def text_encoders() -> Shapes:
    """CLIP-L as Hugging Face names it and OpenCLIP-G as its own code does, as SDXL's file has them."""
    shapes: Shapes = {}

    def linear(name: str, rows: int, columns: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (rows, columns), (rows,)

    def norm(name: str, width: int) -> None:
        shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (width,)

    small = "conditioner.embedders.0.transformer.text_model"
    (
        shapes[f"{small}.embeddings.token_embedding.weight"],
        shapes[f"{small}.embeddings.position_embedding.weight"],
    ) = (49408, 768), (77, 768)
    for layer in range(12):
        name = f"{small}.encoder.layers.{layer}"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            linear(f"{name}.self_attn.{part}", 768, 768)
        linear(f"{name}.mlp.fc1", 3072, 768)
        linear(f"{name}.mlp.fc2", 768, 3072)
        norm(f"{name}.layer_norm1", 768)
        norm(f"{name}.layer_norm2", 768)
    norm(f"{small}.final_layer_norm", 768)

    large = "conditioner.embedders.1.model"
    shapes[f"{large}.token_embedding.weight"], shapes[f"{large}.positional_embedding"] = (
        (49408, 1280),
        (77, 1280),
    )
    shapes[f"{large}.text_projection"] = (1280, 1280)
    norm(f"{large}.ln_final", 1280)
    for layer in range(32):
        name = f"{large}.transformer.resblocks.{layer}"
        shapes[f"{name}.attn.in_proj_weight"], shapes[f"{name}.attn.in_proj_bias"] = (3840, 1280), (3840,)
        linear(f"{name}.attn.out_proj", 1280, 1280)
        linear(f"{name}.mlp.c_fc", 5120, 1280)
        linear(f"{name}.mlp.c_proj", 1280, 5120)
        norm(f"{name}.ln_1", 1280)
        norm(f"{name}.ln_2", 1280)
    return shapes


def filled(shapes: Shapes) -> dict[str, torch.Tensor]:
    """Random fp16 weights that keep activations near 1.

    They repeat, because billions of draws take minutes.
    """
    numbers = torch.randn(30_000_001, generator=torch.Generator().manual_seed(0))
    made, place = {}, 0
    for key, shape in shapes.items():
        count = math.prod(shape)
        place = (place + 7919) % (len(numbers) // 2)
        piece = (
            numbers[place : place + count]
            if place + count <= len(numbers)
            else numbers.repeat(-(-count // len(numbers)) + 1)[place : place + count]
        )
        one_dimension = len(shape) == 1
        value = (
            0.7 * piece / math.prod(shape[1:]) ** 0.5
            if not one_dimension
            else 0.1 * piece + (1.0 if key.endswith("weight") else 0.0)
        )
        made[key] = value.to(torch.float16).reshape(shape).clone()
    return made


@pytest.fixture
def files(models_folder) -> Iterator[tuple[str, str]]:
    """A checkpoint and a restorer; both are removed afterwards."""
    (models_folder / "aior").mkdir(exist_ok=True)
    checkpoint, restorer = (
        models_folder / "checkpoints" / "random_sdxl.safetensors",
        models_folder / "aior" / "UniLDiff.safetensors",
    )
    whole = {**denoiser_and_autoencoder(), **text_encoders()}
    count = {
        prefix: sum(math.prod(s) for k, s in whole.items() if k.startswith(prefix)) / 1e6
        for prefix in ("model.", "first_stage_model.")
    }
    assert round(count["model."], 2) == 2567.46 and round(count["first_stage_model."], 1) == 83.7
    save_file(filled(whole), checkpoint)
    save_file(filled(unildiff(SDXL)), restorer)
    yield checkpoint.name, restorer.name
    checkpoint.unlink()
    restorer.unlink()


def peak_gib(process: int) -> float:
    """Peak resident memory of a process so far (Linux)."""
    lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**20


def test_full_size(comfy, graph, files, capsys):
    checkpoint, restorer = files
    add = graph.add
    photo = add("LoadImage", image=comfy.upload_array(photograph(128, 192)))
    sdxl = add("CheckpointLoaderSimple", ckpt_name=checkpoint)
    loaded = add("AIOR_LoadRestorer", file=restorer)
    words = [add("CLIPTextEncode", clip=sdxl.out(1), text=text).out(0) for text in ("a street", "")]
    prior = add("AIOR_EncodePrior", restorer=loaded.out(0), vae=sdxl.out(2), image=photo.out(0), tile=0)
    sampler = add("AIOR_DAFFSampler", model=sdxl.out(0), restorer=loaded.out(0), prior=prior.out(0),
    positive=words[0], negative=words[1],
                  **{**SAMPLER, "steps": 2, "cfg": 5.0, "scheduler": "ddim_uniform"})  # fmt: skip
    decoded = add("AIOR_DecodeDAEM", samples=sampler.out(0), vae=sdxl.out(2), restorer=loaded.out(0),
    prior=prior.out(0), strength=1.0, tile=0,
                  color_fix="none")  # fmt: skip
    add("SaveImage", images=decoded.out(0), filename_prefix="full")
    (out,) = comfy.pictures(comfy.run(graph.prompt))
    assert out.shape == (128, 192, 3) and out.std() > 0.01
    with capsys.disabled():
        print(
            f"\nSDXL in full size, 192x128 pixels, 2 steps at CFG 5 on the CPU: peak memory of the "
            f"server {peak_gib(comfy.server.process.pid):.1f} GiB"
        )
