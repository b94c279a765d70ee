"""What is wrong is said, by the node that found it; the server goes on."""

from __future__ import annotations

import re

import numpy
import pytest
import torch
from aior_pack.tests.graph.walk import photograph, start, start_from
from aior_pack.tests.tiny import TINY, compact_state, save_tiny


@pytest.fixture(scope="module")
def folder(models_folder):
    path = models_folder / "aior"
    path.mkdir(exist_ok=True)
    return path


@pytest.fixture(scope="module")
def weights(folder):
    return save_tiny(folder).name


def save_sdxl_restorer(folder) -> str:
    """A small restorer of the other scale, random."""
    from dataclasses import replace

    from aior_pack.aior_core.models.config import DAFFConfig, PriorConfig
    from aior_pack.aior_core.models.family import SDXL
    from aior_pack.aior_core.weights import describe, save_weights
    from aior_pack.tests.tiny import restorer_state

    config = replace(
        TINY.restorer,
        family=SDXL,
        prior=PriorConfig(
            kind="kl", plain=(), widths=(32, 32, 32, 32), blocks=(1, 1, 1, 1), head_width=16, context_width=24
        ),
        daff=DAFFConfig(
            mode="official",
            unet_width=32,
            condition_width=32,
            width=48,
            heads=2,
            patch=1,
            condition_norm="group",
            mlp_ratio=4.0,
        ),
        daem=None,
    )
    return save_weights(folder / "other_scale", restorer_state(config), describe(config))[0].name


def expect(comfy, graph, *patterns: str) -> None:
    """The prompt ends with an error that matches all `patterns`, and the server answers the next prompt."""
    text = str(comfy.error(graph.prompt))
    for pattern in patterns:
        assert re.search(pattern, text, re.IGNORECASE), text
    assert "AIOR_EncodePrior" in comfy.object_info()


def test_a_restorer_of_the_other_scale(comfy, graph, folder, weights):
    walk = start(graph, comfy.upload_array(photograph(64, 64)), weights)
    other = graph.add("AIOR_LoadRestorer", file=save_sdxl_restorer(folder))
    prior = graph.add("AIOR_EncodePrior", restorer=other.out(0), vae=walk.vae, image=walk.image, tile=0)
    walk.keep(prior.out(1))
    expect(comfy, graph, "Encode Degradation Prior", "sdxl", "VAE of an SDXL checkpoint")


def test_a_restorer_that_the_prior_was_not_made_with(comfy, graph, folder, weights):
    walk = start(graph, comfy.upload_array(photograph(64, 64)), weights)
    other = graph.add("AIOR_LoadRestorer", file=save_sdxl_restorer(folder))
    daff = graph.add(
        "AIOR_ApplyDAFF",
        model=walk.model,
        restorer=other.out(0),
        prior=walk.prior,
        strength=1.0,
        start_percent=0.0,
        end_percent=1.0,
    )
    walk.keep(walk.ksampler(daff, walk.latent).out(0))
    expect(comfy, graph, "Apply DAFF", "restorer")


def test_a_prior_of_another_size_in_the_sampler_and_in_ksampler(comfy, weights):
    from aior_pack.tests.graph.conftest import Graph

    for stock in (False, True):
        graph = Graph()
        walk = start(graph, comfy.upload_array(photograph(64, 64)), weights)
        larger = start(graph, comfy.upload_array(photograph(64, 96)), weights)
        sampled = walk.ksampler(walk.apply(), larger.latent) if stock else walk.sampler(latent=larger.latent)
        walk.keep(sampled.out(0))
        expect(comfy, graph, "DAFF", "8.*12|64.*96", "size")


def test_a_latent_of_stable_diffusion_1(comfy, graph, weights):
    """An SD1.5 latent has 4 channels. It is filled first, because ComfyUI widens an empty latent."""
    walk = start(graph, comfy.upload_array(photograph(64, 64)), weights)
    empty = graph.add("EmptyLatentImage", width=64, height=64, batch_size=1)
    noisy = graph.add(
        "AddNoise",
        model=walk.model,
        noise=graph.add("RandomNoise", noise_seed=1).out(),
        sigmas=graph.add("BasicScheduler", model=walk.model, scheduler="simple", steps=2, denoise=1.0).out(),
        latent_image=empty.out(),
    )
    walk.keep(walk.sampler(latent=noisy.out(0)).out(0))
    expect(comfy, graph, "DAFF Sampler", "4 channels", "16")


def test_a_truncated_file(comfy, graph, folder):
    content = save_tiny(folder, seed=1).read_bytes()
    (folder / "cut.safetensors").write_bytes(content[: len(content) // 2])
    graph.add("PreviewAny", source=graph.add("AIOR_LoadCompact", file="cut.safetensors").out(0))
    expect(comfy, graph, r"cut\.safetensors", "truncated|incomplete|not complete|download")


def test_a_pickle_runs_nothing(comfy, graph, folder, tmp_path):
    trace = tmp_path / "ran"

    class Payload:
        def __reduce__(self):
            return (open, (str(trace), "w"))

    torch.save({"unet.x": Payload()}, folder / "evil.pt")
    graph.add("PreviewAny", source=graph.add("AIOR_LoadCompact", file="evil.pt").out(0))
    expect(comfy, graph, r"evil\.pt", "safetensors")
    assert not trace.exists()


def test_a_file_with_keys_missing(comfy, graph, folder):
    from aior_pack.aior_core.weights import describe, save_weights

    state = compact_state()
    state.pop("daff.spatial_ch_projs.weight")
    name = save_weights(folder / "holes", state, describe(TINY))[0].name
    graph.add("PreviewAny", source=graph.add("AIOR_LoadCompact", file=name).out(0))
    expect(comfy, graph, "spatial_ch_projs")


def test_a_missing_shard(comfy, graph, folder):
    from aior_pack.aior_core.weights import describe, save_weights

    first, second, *_ = save_weights(folder / "lonely", compact_state(), describe(TINY), max_bytes=400_000)
    second.unlink()
    graph.add("PreviewAny", source=graph.add("AIOR_LoadCompact", file=first.name).out(0))
    expect(comfy, graph, second.name)


def test_a_picture_below_16_pixels(comfy, graph, weights):
    walk = start(graph, comfy.upload_array(photograph(15, 40)), weights)
    walk.keep(walk.latent)
    expect(comfy, graph, "Encode Degradation Prior", "40x15", "16x16")


def test_nan_in_the_picture(comfy, graph, weights):
    """As a user gets it: a NaN latent through stock VAE Decode."""
    from safetensors.torch import save_file

    latent = torch.full((1, 16, 8, 8), float("nan"))
    save_file(
        {"latent_tensor": latent, "latent_format_version_0": torch.tensor([])},
        comfy.server.folder / "input" / "nan.latent",
    )
    loaded = graph.add("LoadLatent", latent="nan.latent")
    walk = start(graph, comfy.upload_array(photograph(64, 64)), weights)
    stock = graph.add("VAEDecode", samples=loaded.out(0), vae=walk.vae)
    broken = start_from(graph, stock.out(0), stock.out(0), weights)
    walk.keep(broken.latent)
    expect(comfy, graph, "Encode Degradation Prior", "NaN")


def test_nan_in_the_latent_is_no_black_picture(comfy, graph, weights):
    from safetensors.torch import save_file

    latent = torch.full((1, 16, 8, 8), float("nan"))
    save_file(
        {"latent_tensor": latent, "latent_format_version_0": torch.tensor([])},
        comfy.server.folder / "input" / "nan2.latent",
    )
    walk = start(graph, comfy.upload_array(photograph(64, 64)), weights)
    loaded = graph.add("LoadLatent", latent="nan2.latent")
    walk.save(walk.decode(loaded.out(0)).out(0))
    expect(comfy, graph, "DAEM Decode", "NaN")


def test_a_good_graph_runs_after_all_that(comfy, graph, weights):
    walk = start(graph, comfy.upload_array(photograph(64, 64)), weights)
    saved = walk.save(walk.decode(walk.sampler().out(0)).out(0))
    (out,) = comfy.pictures(comfy.run(graph.prompt), saved)
    assert out.shape == (64, 64, 3) and numpy.isfinite(out).all()
