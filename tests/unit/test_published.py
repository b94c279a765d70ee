"""UniLDiff's and FaithDiff's checkpoints: read by keys and shapes, converted, or refused with a reason."""

from __future__ import annotations

import math

import pytest
import torch
from aior_pack.aior_core.models import family
from aior_pack.aior_core.models.config import CompactConfig, DAFFConfig, PriorConfig, RestorerConfig
from aior_pack.aior_core.models.daff import DAFF
from aior_pack.aior_core.models.lq_encoder import PriorEncoder
from aior_pack.aior_core.weights import (
    config_from,
    is_published,
    load_checkpoint,
    load_weights,
    split_published,
)
from aior_pack.aior_core.weights.__main__ import main
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

SDXL = {"unet": 320, "trunk": (128, 256, 512, 512), "daff": 1024, "head": 64}
NARROW = {"unet": 32, "trunk": (32, 32, 64, 64), "daff": 64, "head": 16}


def trunk_shapes(widths: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Of diffusers' VAE encoder without its head, as in docs/method.md 8.2."""
    shapes = {"conv_in.weight": (widths[0], 3, 3, 3), "conv_in.bias": (widths[0],)}

    def resnet(name: str, before: int, width: int) -> None:
        for part, channels in (("norm1", before), ("norm2", width)):
            shapes[f"{name}.{part}.weight"] = shapes[f"{name}.{part}.bias"] = (channels,)
        shapes[f"{name}.conv1.weight"], shapes[f"{name}.conv2.weight"] = (
            (width, before, 3, 3),
            (width, width, 3, 3),
        )
        shapes[f"{name}.conv1.bias"] = shapes[f"{name}.conv2.bias"] = (width,)
        if before != width:
            shapes[f"{name}.conv_shortcut.weight"], shapes[f"{name}.conv_shortcut.bias"] = (
                (width, before, 1, 1),
                (width,),
            )

    before = widths[0]
    for level, width in enumerate(widths):
        resnet(f"down_blocks.{level}.resnets.0", before, width)
        resnet(f"down_blocks.{level}.resnets.1", width, width)
        if level < 3:
            shapes[f"down_blocks.{level}.downsamplers.0.conv.weight"] = (width, width, 3, 3)
            shapes[f"down_blocks.{level}.downsamplers.0.conv.bias"] = (width,)
        before = width
    resnet("mid_block.resnets.0", before, before)
    resnet("mid_block.resnets.1", before, before)
    attention = "mid_block.attentions.0"
    shapes[f"{attention}.group_norm.weight"] = shapes[f"{attention}.group_norm.bias"] = (before,)
    for part in ("to_q", "to_k", "to_v", "to_out.0"):
        shapes[f"{attention}.{part}.weight"], shapes[f"{attention}.{part}.bias"] = (before, before), (before,)
    return {f"denoise_encoder.{key}": shape for key, shape in shapes.items()}


def condition_shapes(unet: int, feature: int, projected: int) -> dict[str, tuple[int, ...]]:
    return {
        "condition_embedding.norm_in.weight": (feature,),
        "condition_embedding.norm_in.bias": (feature,),
        "condition_embedding.conv_in.weight": (feature, feature, 3, 3),
        "condition_embedding.conv_in.bias": (feature,),
        "condition_embedding.conv_out.weight": (unet, feature, 3, 3),
        "condition_embedding.conv_out.bias": (unet,),
        "spatial_ch_projs.weight": (unet, projected),
        "spatial_ch_projs.bias": (unet,),
    }


def daff_shapes(unet: int, width: int, head: int) -> dict[str, tuple[int, ...]]:
    """The keys of docs/method.md 8.2, row by row."""
    double, single = width, 2 * width
    linears = {
        "latent_in": (width, unet),
        "cond_in": (width, unet),
        "time_in.in_layer": (width, 256),
        "time_in.out_layer": (width, width),
        "time_in2.in_layer": (single, 256),
        "time_in2.out_layer": (single, single),
        "single_blocks.0.linear1": (3 * single + 8 * width, single),
        "single_blocks.0.linear2": (single, single + 8 * width),
        "single_blocks.0.modulation.lin": (3 * single, single),
        "final_layer.linear": (width, single),
        "final_layer.adaLN_modulation.1": (2 * single, single),
    }
    shapes: dict[str, tuple[int, ...]] = {}
    for stream in ("img", "txt"):
        linears |= {
            f"double_blocks.0.{stream}_mod.lin": (6 * double, double),
            f"double_blocks.0.{stream}_attn.qkv": (3 * double, double),
            f"double_blocks.0.{stream}_attn.proj": (double, double),
            f"double_blocks.0.{stream}_mlp.0": (4 * double, double),
            f"double_blocks.0.{stream}_mlp.2": (double, 4 * double),
        }
        for norm in ("query_norm", "key_norm"):
            shapes[f"double_blocks.0.{stream}_attn.norm.{norm}.scale"] = (head,)
    for norm in ("query_norm", "key_norm"):
        shapes[f"single_blocks.0.norm.{norm}.scale"] = (2 * head,)
    for name, shape in linears.items():
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = shape, shape[:1]
    return {f"information_transformer_layers.{key}": shape for key, shape in shapes.items()}


def aligner_shapes(unet: int, prefix: str = "information_transformer_layes.") -> dict[str, tuple[int, ...]]:
    """docs/method.md 8.3: two CLIP-style blocks of twice the UNet's width, spelled as first released."""
    width = 2 * unet
    shapes: dict[str, tuple[int, ...]] = {}
    for block in range(2):
        for norm in ("ln_1", "ln_2"):
            shapes[f"{block}.{norm}.weight"] = shapes[f"{block}.{norm}.bias"] = (width,)
        shapes[f"{block}.attn.in_proj_weight"], shapes[f"{block}.attn.in_proj_bias"] = (
            (3 * width, width),
            (3 * width,),
        )
        linears = {
            "attn.out_proj": (width, width),
            "mlp.c_fc": (2 * width, width),
            "mlp.c_proj": (width, 2 * width),
        }
        for name, shape in linears.items():
            shapes[f"{block}.{name}.weight"], shapes[f"{block}.{name}.bias"] = shape, shape[:1]
    return {prefix + key: shape for key, shape in shapes.items()}


def unildiff(size: dict = NARROW) -> dict[str, tuple[int, ...]]:
    feature = size["trunk"][-1]
    return {
        **trunk_shapes(size["trunk"]),
        **condition_shapes(size["unet"], feature, size["daff"]),
        **daff_shapes(size["unet"], size["daff"], size["head"]),
    }


def faithdiff(size: dict = NARROW) -> dict[str, tuple[int, ...]]:
    feature = size["trunk"][-1]
    return {
        **trunk_shapes(size["trunk"]),
        **condition_shapes(size["unet"], feature, 2 * size["unet"]),
        **aligner_shapes(size["unet"]),
    }


UNET = {"conv_in.weight": (32, 4, 3, 3), "down_blocks.0.resnets.0.norm1.weight": (32,)}


def filled(
    shapes: dict[str, tuple[int, ...]], dtype: torch.dtype = torch.float32, seed: int = 0
) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        key: (torch.randn(shape, generator=generator) / math.sqrt(math.prod(shape[1:]))).to(dtype)
        for key, shape in shapes.items()
    }


def on_meta(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    return {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}


def parameters(tensors: dict[str, Tensor], prefix: str) -> float:
    return sum(value.numel() for key, value in tensors.items() if key.startswith(prefix)) / 1e6


def test_the_published_shapes_are_unildiffs_restorer():
    tensors = on_meta(unildiff(SDXL))
    assert round(parameters(tensors, "information_transformer_layers."), 2) == 117.90
    assert round(parameters(tensors, "denoise_encoder."), 2) == 34.13
    assert (
        round(parameters(tensors, "condition_embedding."), 2) == 3.84
        and round(parameters(tensors, "spatial_ch_projs."), 2) == 0.33
    )
    published = split_published(tensors)
    config = config_from(published.restorer)
    assert published.variant == "unildiff" and not published.unet
    assert config == RestorerConfig(
        family=family.SDXL,
        prior=PriorConfig(
            kind="kl", widths=(128, 256, 512, 512), blocks=(2, 2, 2, 2), plain=(), head_width=0
        ),
        daff=DAFFConfig(
            mode="official",
            unet_width=320,
            condition_width=512,
            width=1024,
            heads=16,
            mlp_ratio=4.0,
            patch=1,
            condition_norm="group",
        ),
        daem=None,
    )
    with torch.device("meta"):
        networks = {"prior": PriorEncoder(config.prior), "daff": DAFF(config.daff)}
    ours = {
        f"{name}.{key}": tuple(v.shape)
        for name, network in networks.items()
        for key, v in network.state_dict().items()
    }
    assert {key: tuple(value.shape) for key, value in published.restorer.items()} == ours


def test_the_published_shapes_are_faithdiffs_restorer():
    published = split_published(on_meta(faithdiff(SDXL)))
    config = config_from(published.restorer)
    assert published.variant == "faithdiff"
    assert config.daff.aligner_blocks == 2 and config.daff.width == 640 and config.daff.mlp_ratio == 2.0
    with torch.device("meta"):
        ours = DAFF(config.daff).state_dict()
    found = {
        key.removeprefix("daff."): tuple(v.shape)
        for key, v in published.restorer.items()
        if key.startswith("daff.")
    }
    assert found == {key: tuple(value.shape) for key, value in ours.items()}


@pytest.mark.parametrize("shapes", [unildiff(), faithdiff()], ids=["unildiff", "faithdiff"])
@pytest.mark.parametrize("wrapper", ["", "module.", "_orig_mod.module.unet."])
@pytest.mark.parametrize("suffix, dtype", [(".bin", torch.float32), (".safetensors", torch.float16)])
def test_a_checkpoint_converts(tmp_path, shapes, wrapper, suffix, dtype, capsys):
    state = {wrapper + key: value for key, value in filled({**shapes, **UNET}, dtype).items()}
    path = tmp_path / f"published{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    assert main([str(path), "--out", str(tmp_path / "out")]) == 0
    assert "published_restorer.safetensors" in capsys.readouterr().out
    restorer, metadata = load_weights(tmp_path / "out" / "published_restorer.safetensors")
    unet, _ = load_weights(tmp_path / "out" / "published_unet.safetensors")
    assert unet.keys() == UNET.keys() and all(value.dtype == torch.float16 for value in unet.values())
    assert config_from(restorer, metadata) == config_from(split_published(load_checkpoint(path)[0]).restorer)
    key = "denoise_encoder.mid_block.attentions.0.to_q.weight"
    assert torch.equal(restorer["prior.trunk.mid.attn_1.q.weight"][:, :, 0, 0], state[wrapper + key].half())


@pytest.mark.parametrize("shapes", [unildiff(), faithdiff()], ids=["unildiff", "faithdiff"])
def test_what_is_missing_or_foreign_is_named(tmp_path, shapes, capsys):
    whole = filled(shapes)
    assert is_published(whole) and not is_published({"conv_in.weight": torch.ones(1)})
    with pytest.raises(ValueError, match="unknown ip_adapter.to_k.*Expected an SDXL UNet"):
        split_published(whole | {"ip_adapter.to_k": torch.ones(1)})
    with pytest.raises(ValueError, match="nothing under condition_embedding"):
        split_published({k: v for k, v in whole.items() if not k.startswith("condition_embedding.")})
    with pytest.raises(ValueError, match="have the same meaning"):
        split_published(whole | {"module.spatial_ch_projs.bias": whole["spatial_ch_projs.bias"]})
    with pytest.raises(ValueError, match="denoise_encoder.quant_conv"):
        split_published(whole | {"denoise_encoder.quant_conv.weight": torch.ones(1)})
    holed = dict(whole)
    del holed["denoise_encoder.down_blocks.1.resnets.0.conv2.bias"]
    torch.save(holed, tmp_path / "holed.bin")
    assert main([str(tmp_path / "holed.bin")]) == 1
    assert "missing trunk.down.1.block.0.conv2.bias" in capsys.readouterr().err


def test_a_pickle_with_code_is_not_run(tmp_path):
    trace = tmp_path / "ran"

    class Payload:
        def __reduce__(self):
            return (open, (str(trace), "w"))

    torch.save(filled(unildiff()) | {"x": Payload()}, tmp_path / "evil.bin")
    with pytest.raises(ValueError, match="evil.bin cannot be read safely"):
        load_checkpoint(tmp_path / "evil.bin")
    assert not trace.exists()
    (tmp_path / "cut.bin").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(ValueError, match="cut.bin cannot be read safely"):
        load_checkpoint(tmp_path / "cut.bin")
    torch.save([1, 2], tmp_path / "list.bin")
    with pytest.raises(ValueError, match="no flat dict"):
        load_checkpoint(tmp_path / "list.bin")


def test_weights_beyond_fp16_are_kept_by_asking(tmp_path, capsys):
    state = filled(unildiff())
    state["spatial_ch_projs.bias"][0] = 1e6
    torch.save(state, tmp_path / "large.bin")
    assert main([str(tmp_path / "large.bin")]) == 1 and "--fp32" in capsys.readouterr().err
    assert main([str(tmp_path / "large.bin"), "--fp32"]) == 0
    assert load_weights(tmp_path / "large_restorer.safetensors")[0]["daff.spatial_ch_projs.bias"][0] == 1e6


def test_faithdiffs_aligner_by_its_formula_each_item_alone():
    state = filled(faithdiff(), seed=3)
    published = split_published(state)
    config = config_from(published.restorer)
    daff = DAFF(config.daff)
    daff.load_state_dict(
        {
            key.removeprefix("daff."): value
            for key, value in published.restorer.items()
            if key.startswith("daff.")
        }
    )
    generator = torch.Generator().manual_seed(1)
    h, feature = torch.randn(3, 32, 4, 6, generator=generator), torch.randn(3, 64, 4, 6, generator=generator)
    condition = daff.embed(feature)
    together = daff(h, condition, torch.full((3,), 500.0))
    alone = torch.cat([daff(h[i : i + 1], condition[i : i + 1], torch.full((1,), 7.0)) for i in range(3)])
    assert torch.allclose(together, alone, atol=1e-6)

    x = torch.cat([h, condition], dim=1).flatten(2).transpose(1, 2)
    for block in range(2):
        w = {
            k.removeprefix(f"information_transformer_layes.{block}."): v
            for k, v in state.items()
            if k.startswith(f"information_transformer_layes.{block}.")
        }
        attention = torch.nn.MultiheadAttention(64, 8)
        attention.load_state_dict({k.removeprefix("attn."): v for k, v in w.items() if k.startswith("attn.")})
        for i in range(3):
            # As published: batch first fed to an attention that takes the sequence first, two equal rows as
            # CFG makes them.
            row = F.layer_norm(x[i : i + 1], (64,), w["ln_1.weight"], w["ln_1.bias"]).expand(2, -1, -1)
            x[i] = x[i] + attention(row, row, row)[0][0].detach()
        m = F.linear(
            F.layer_norm(x, (64,), w["ln_2.weight"], w["ln_2.bias"]), w["mlp.c_fc.weight"], w["mlp.c_fc.bias"]
        )
        x = x + F.linear(m * torch.sigmoid(1.702 * m), w["mlp.c_proj.weight"], w["mlp.c_proj.bias"])
    expected = (
        F.linear(x, state["spatial_ch_projs.weight"], state["spatial_ch_projs.bias"])
        .transpose(1, 2)
        .unflatten(2, (4, 6))
    )
    assert (together - expected).abs().max() < 1e-5 * expected.abs().max()


def test_compact_weights_are_not_published():
    with torch.device("meta"):
        keys = [f"prior.{key}" for key in PriorEncoder(CompactConfig().restorer.prior).state_dict()]
    assert not is_published(keys)
