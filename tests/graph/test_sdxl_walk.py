"""The walk at SDXL's scale through `/prompt`, with a narrow SDXL, alone and with LoRA, ControlNet, masks."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy
import pytest
import torch
from aior_pack.aior_core.models.config import DAEMConfig, DAFFConfig, PriorConfig, RestorerConfig
from aior_pack.aior_core.models.family import SDXL
from aior_pack.aior_core.weights import describe, save_weights
from aior_pack.tests.graph.walk import KSAMPLER, SAMPLER, Walk, photograph
from aior_pack.tests.tiny import restorer_state

from scripts.graph import to_prompt

ROOT = Path(__file__).resolve().parents[2]
WIDTHS = (32, 32, 64, 64)
CONFIG = RestorerConfig(
    family=SDXL,
    prior=PriorConfig(
        kind="kl", widths=WIDTHS, blocks=(2, 2, 2, 2), plain=(), head_width=16, context_width=24
    ),
    daff=DAFFConfig(
        mode="official",
        unet_width=32,
        condition_width=64,
        width=64,
        heads=4,
        mlp_ratio=4.0,
        patch=1,
        condition_norm="group",
    ),
    daem=DAEMConfig(
        decoder_widths=WIDTHS, skip_widths=WIDTHS, widths=(16, 16, 32, 32), prior_width=64, context_width=12
    ),
)
SCHEDULE = {"steps": 2, "scheduler": "ddim_uniform", "cfg": 5.0}


@pytest.fixture(scope="module")
def restorer_file(models_folder):
    folder = models_folder / "aior"
    folder.mkdir(exist_ok=True)
    return save_weights(folder / "narrow", restorer_state(CONFIG), describe(CONFIG))[0].name


@dataclasses.dataclass(frozen=True)
class SDXLWalk(Walk):
    positive: list
    negative: list


@pytest.fixture
def walk(comfy, graph, restorer_file):
    """The start of every graph here, on a picture of 64x96."""
    return start(comfy, graph, restorer_file, photograph(64, 96))


def lora_file(folder) -> str:
    """A LoRA that changes one layer of the narrow UNet; its name in the loader."""
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(0)
    key, width = "lora_unet_middle_block_1_transformer_blocks_0_attn1_to_v", 128
    up, down = torch.randn(width, 4, generator=generator), torch.randn(4, width, generator=generator)
    save_file({f"{key}.lora_up.weight": up, f"{key}.lora_down.weight": down}, folder / "narrow.safetensors")
    return "narrow.safetensors"


def start(comfy, graph, restorer_file, *pictures) -> SDXLWalk:
    loaded = [graph.add("LoadImage", image=comfy.upload_array(picture)) for picture in pictures]
    image = loaded[0].out(0)
    for other in loaded[1:]:
        image = graph.add("ImageBatch", image1=image, image2=other.out(0)).out(0)
    sdxl = graph.add("AIORTest_LoadNarrowSDXL", seed=0)
    restorer = graph.add("AIOR_LoadRestorer", file=restorer_file)
    prior = graph.add("AIOR_EncodePrior", restorer=restorer.out(0), vae=sdxl.out(1), image=image, tile=0)
    prompts = [graph.add("AIORTest_NarrowPrompt", seed=seed).out(0) for seed in (1, 2)]
    return SDXLWalk(
        graph,
        image,
        loaded[0].out(1),
        sdxl.out(0),
        sdxl.out(1),
        restorer.out(0),
        prior.out(0),
        prior.out(1),
        prior.out(2),
        *prompts,
    )


def apply(walk: SDXLWalk, **options):
    return walk.apply(**{"positive": walk.positive, "negative": walk.negative, **options})


def sampled(comfy, walk: SDXLWalk, *samplers) -> list:
    """The latents that sampler nodes make, all finite."""
    kept = [walk.keep(node.out(0)) for node in samplers]
    result = comfy.run(walk.graph.prompt)
    latents = [comfy.latents(result, node)[0] for node in kept]
    assert all(torch.isfinite(latent).all() and latent.std() > 0.01 for latent in latents)
    return latents


def distance(a, b) -> float:
    return (a - b).abs().max().item()


def test_the_walk_ends_in_a_picture_of_the_same_size(comfy, walk):
    daff = apply(walk)
    stock = walk.ksampler(daff, walk.latent, **SCHEDULE)
    own = walk.sampler(positive=walk.positive, negative=walk.negative, latent=walk.latent, **SCHEDULE)
    saved = [walk.save(walk.decode(node.out(0)).out(0)) for node in (stock, own)]
    result = comfy.run(walk.graph.prompt)
    a, b = (comfy.pictures(result, node)[0] for node in saved)
    assert a.shape == (64, 96, 3) and a.std() > 0.02 and numpy.array_equal(a, b)


def test_strength_zero_is_the_checkpoint_alone(comfy, walk):
    zero = apply(walk, strength=0.0)
    stock = walk.graph.add(
        "KSampler",
        model=walk.model,
        positive=walk.positive,
        negative=walk.negative,
        latent_image=walk.latent,
        **{**KSAMPLER, **SCHEDULE},
    )
    bare, without, with_daff = sampled(
        comfy,
        walk,
        stock,
        walk.ksampler(zero, walk.latent, **SCHEDULE),
        walk.ksampler(apply(walk), walk.latent, **SCHEDULE),
    )
    assert torch.equal(bare, without) and distance(bare, with_daff) > 1e-2


def test_no_words_but_a_clip(comfy, walk):
    """Open positive and negative are two CLIP Text Encode nodes with nothing in them."""
    add = walk.graph.add
    clip = add("AIORTest_LoadNarrowCLIP", seed=3).out(0)
    empty = add("CLIPTextEncode", clip=clip, text="").out(0)
    spelt_out = walk.ksampler(walk.apply(positive=empty, negative=empty), walk.latent, **SCHEDULE)
    open_ones = walk.ksampler(walk.apply(clip=clip), walk.latent, **SCHEDULE)
    own = walk.sampler(clip=clip, latent=walk.latent, **SCHEDULE)
    half_open = walk.sampler(positive=walk.positive, clip=clip, latent=walk.latent, **SCHEDULE)
    a, b, c, d = sampled(comfy, walk, spelt_out, open_ones, own, half_open)
    assert torch.equal(a, b) and distance(a, c) < 1e-5 and distance(a, d) > 1e-2
    walk.keep(walk.ksampler(walk.apply(), walk.latent, **SCHEDULE).out(0))
    assert "needs positive and negative, or clip" in str(comfy.error(walk.graph.prompt))


@pytest.mark.parametrize("cfg", [1.0, 5.0])
def test_sampler_custom_advanced_equals_ksampler(comfy, walk, cfg):
    daff = apply(walk)
    stock = walk.ksampler(daff, walk.latent, **{**SCHEDULE, "cfg": cfg})
    add = walk.graph.add
    guider = add("CFGGuider", model=daff.out(0), positive=daff.out(1), negative=daff.out(2), cfg=cfg)
    sigmas = add("BasicScheduler", model=daff.out(0), scheduler="ddim_uniform", steps=2, denoise=1.0)
    custom = add(
        "SamplerCustomAdvanced", noise=add("RandomNoise", noise_seed=5).out(), guider=guider.out(),
        latent_image=walk.latent,
        sampler=add("KSamplerSelect", sampler_name="euler").out(), sigmas=sigmas.out(),
    )  # fmt: skip
    a, b = sampled(comfy, walk, stock, custom)
    assert distance(a, b) < 1e-5


def test_a_lora_under_it_counts(comfy, walk, models_folder):
    name = lora_file(models_folder / "loras")
    lora = walk.graph.add("LoraLoaderModelOnly", model=walk.model, lora_name=name, strength_model=1.0).out(0)
    under = walk.ksampler(apply(walk, model=lora), walk.latent, **SCHEDULE)
    over = walk.graph.add("LoraLoaderModelOnly", model=apply(walk).out(0), lora_name=name, strength_model=1.0)
    daff = apply(walk)
    above = walk.graph.add(
        "KSampler",
        model=over.out(0),
        positive=daff.out(1),
        negative=daff.out(2),
        latent_image=walk.latent,
        **{**KSAMPLER, **SCHEDULE},
    )
    plain, a, b = sampled(comfy, walk, walk.ksampler(daff, walk.latent, **SCHEDULE), under, above)
    assert distance(a, plain) > 1e-3 and distance(a, b) < 1e-5


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_a_controlnet_beside_it_counts(comfy, walk, before):
    add = walk.graph.add
    net = add("AIORTest_LoadNarrowControlNet", seed=7).out(0)

    def control(positive, negative):
        return add("ControlNetApplyAdvanced", positive=positive, negative=negative, control_net=net,
        image=walk.image, strength=1.0,
                   start_percent=0.0, end_percent=1.0)  # fmt: skip

    daff = apply(walk)
    plain = walk.ksampler(daff, walk.latent, **SCHEDULE)
    if before:
        hinted = control(walk.positive, walk.negative)
        with_net = walk.ksampler(
            apply(walk, positive=hinted.out(0), negative=hinted.out(1)), walk.latent, **SCHEDULE
        )
    else:
        hinted = control(daff.out(1), daff.out(2))
        inputs = {
            **KSAMPLER,
            **SCHEDULE,
            "model": daff.out(0),
            "positive": hinted.out(0),
            "negative": hinted.out(1),
            "latent_image": walk.latent,
        }
        with_net = add("KSampler", **inputs)
    a, b = sampled(comfy, walk, plain, with_net)
    assert distance(a, b) > 1e-3


def test_area_prompts(comfy, walk):
    add = walk.graph.add
    left = add("ConditioningSetArea", conditioning=walk.positive, width=64, height=64, x=0, y=0, strength=1.0)
    right = add("AIORTest_NarrowPrompt", seed=9)
    right = add(
        "ConditioningSetArea", conditioning=right.out(0), width=64, height=64, x=32, y=0, strength=1.0
    )
    both = add("ConditioningCombine", conditioning_1=left.out(0), conditioning_2=right.out(0))
    areas = walk.ksampler(apply(walk, positive=both.out(0)), walk.latent, **SCHEDULE)
    whole = walk.ksampler(apply(walk), walk.latent, **SCHEDULE)
    a, b = sampled(comfy, walk, areas, whole)
    assert a.shape == b.shape and distance(a, b) > 1e-3


def test_a_noise_mask_keeps_the_rest(comfy, walk):
    mask = numpy.zeros((64, 96, 3), numpy.float32)
    mask[:, 48:] = 1
    painted = walk.graph.add("LoadImageMask", image=comfy.upload_array(mask), channel="red")
    masked = walk.graph.add("SetLatentNoiseMask", samples=walk.latent, mask=painted.out(0))
    kept = walk.keep(walk.latent)
    (a,) = sampled(comfy, walk, walk.ksampler(apply(walk), masked.out(0), **SCHEDULE))
    latent = comfy.latents(comfy.run(walk.graph.prompt), kept)[0]
    assert distance(a[..., :5], latent[..., :5]) < 1e-4 and distance(a[..., 7:], latent[..., 7:]) > 0.1


def test_context_windows_over_the_width(comfy, walk):
    daff = apply(walk)
    windows = {
        "context_length": 8, "context_overlap": 4, "context_schedule": "standard_static", "context_stride": 1,
        "closed_loop": False,
        "fuse_method": "pyramid", "dim": 3, "freenoise": False, "cond_retain_index_list": "",
        "split_conds_to_windows": False,
        "latent_retain_index_list": "", "causal_window_fix": False,
    }  # fmt: skip
    windowed = walk.graph.add("ContextWindowsManual", model=daff.out(0), **windows)
    inputs = {
        **KSAMPLER,
        **SCHEDULE,
        "positive": daff.out(1),
        "negative": daff.out(2),
        "latent_image": walk.latent,
    }
    a, b = sampled(
        comfy,
        walk,
        walk.graph.add("KSampler", model=windowed.out(0), **inputs),
        walk.ksampler(daff, walk.latent, **SCHEDULE),
    )
    assert a.shape == b.shape and distance(a, b) > 1e-4


def test_a_batch_of_two_is_the_two_alone(comfy, graph, restorer_file):
    pictures = [photograph(64, 64, seed=seed) for seed in (0, 1)]
    add = graph.add
    batch = start(comfy, graph, restorer_file, *pictures)
    # The same noise for both, so that each can be made alone.
    options = {"start_point": "lq", "denoise": 1.0}
    nodes = []
    for walk in (batch, *(start(comfy, graph, restorer_file, picture) for picture in pictures)):
        latent = add("LatentBatchSeedBehavior", samples=walk.latent, seed_behavior="fixed")
        nodes.append(
            walk.sampler(
                positive=walk.positive,
                negative=walk.negative,
                latent=latent.out(0),
                **{**SAMPLER, **SCHEDULE, **options},
            )
        )
    together, first, second = sampled(comfy, batch, *nodes)
    scale = together.abs().max().item()
    assert (
        together.shape[0] == 2
        and distance(together[:1], first) < 1e-4 * scale
        and distance(together[1:], second) < 1e-4 * scale
    )
    assert distance(first, second) > 1e-2 * scale


def test_a_published_restorer_reports_nothing_and_decodes_as_the_vae(comfy, graph, models_folder):
    """A synthetic UniLDiff checkpoint, a pickle as its code saves it, in the graph."""
    from aior_pack.tests.unit.test_published import filled, unildiff

    torch.save(filled(unildiff(), seed=4), models_folder / "aior" / "FaithDiff.bin")
    walk = start(comfy, graph, "FaithDiff.bin", photograph(64, 64))
    latent = walk.ksampler(apply(walk), walk.latent, **SCHEDULE).out(0)
    saved = [
        walk.save(graph.add("VAEDecode", samples=latent, vae=walk.vae).out(0)),
        walk.save(walk.decode(latent).out(0)),
    ]
    said = graph.add("PreviewAny", source=walk.report)
    result = comfy.run(graph.prompt)
    a, b = (comfy.pictures(result, node)[0] for node in saved)
    assert a.std() > 0.02 and numpy.array_equal(a, b)
    assert "No estimate" in "".join(result.items("text", said.id))
    graph.add("PreviewImage", images=graph.add("AIOR_PriorReport", prior=walk.prior).out(1))
    assert "no degradation head" in str(comfy.error(graph.prompt))


@pytest.mark.parametrize(
    "name", ["sdxl_restore", "sdxl_lora", "sdxl_controlnet", "sdxl_masked", "sdxl_upscale"]
)
def test_the_sdxl_workflows_run(comfy, restorer_file, models_folder, name):
    """The workflows as they are, with a narrow SDXL as checkpoint and random outputs of the text encoders."""
    from safetensors.torch import save_file
    from spandrel.architectures.Compact import Compact

    net = Compact(num_feat=8, num_conv=1, upscale=2)
    save_file(
        {key: value.contiguous() for key, value in net.state_dict().items()},
        models_folder / "upscale_models" / "sdxl_x2.safetensors",
    )
    photo = photograph(64, 96, channels=4)
    photo[..., 3] = 1
    photo[:, 48:, 3] = 0
    files = {
        "LoadImage": {"image": comfy.upload_array(photo)},
        "AIOR_LoadRestorer": {"file": restorer_file},
        "LoraLoaderModelOnly": {"lora_name": lora_file(models_folder / "loras")},
        "UpscaleModelLoader": {"model_name": "sdxl_x2.safetensors"},
        "AIOR_DAFFSampler": {"steps": 2},
    }
    stand_ins = {
        "CheckpointLoaderSimple": ("AIORTest_LoadNarrowSDXL", {"seed": 0}),
        "CLIPTextEncode": ("AIORTest_NarrowPrompt", {"seed": 1}),
        "ControlNetLoader": ("AIORTest_LoadNarrowControlNet", {"seed": 7}),
    }
    workflow = json.loads((ROOT / "workflows" / f"{name}.json").read_text(encoding="utf-8"))
    prompt = to_prompt(workflow, comfy.object_info())
    checkpoints = {
        number for number, node in prompt.items() if node["class_type"] == "CheckpointLoaderSimple"
    }
    for node in prompt.values():
        node["inputs"] |= files.get(node["class_type"], {})
        kind, inputs = stand_ins.get(node["class_type"], (node["class_type"], node["inputs"]))
        # A checkpoint's outputs are MODEL, CLIP and VAE, the narrow one's MODEL and VAE.
        vae = {
            key: [link[0], 1]
            for key, link in inputs.items()
            if isinstance(link, list) and link[0] in checkpoints and link[1] == 2
        }
        node.update(class_type=kind, inputs=inputs | vae)
    result = comfy.run(prompt)
    (out,) = comfy.pictures(result)
    assert out.shape == ((128, 192, 3) if name == "sdxl_upscale" else (64, 96, 3)) and out.std() > 0.02
    if name == "sdxl_masked":
        assert abs(out[:, :40] - photo[:, :40, :3]).max() < 2 / 255
