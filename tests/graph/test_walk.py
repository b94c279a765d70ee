"""The walk through `/prompt` with a small random model: what must be exact whatever the weights."""

from __future__ import annotations

from dataclasses import replace

import numpy
import pytest
import torch
from aior_pack.tests.graph.walk import photograph, start, start_from


def distance(a, b) -> float:
    return float(abs(numpy.asarray(a) - numpy.asarray(b)).max())


def test_daff_sampler_equals_apply_daff_and_ksampler(comfy, graph, weights):
    walk = start(graph, comfy.upload_array(photograph(72, 96)), weights)
    stock = walk.ksampler(walk.apply(), walk.latent, cfg=2.0)
    own = walk.sampler(cfg=2.0)
    kept = [walk.keep(stock.out(0)), walk.keep(own.out(0))]
    pictures = [walk.save(walk.decode(latent.out(0)).out(0)) for latent in (stock, own)]
    result = comfy.run(graph.prompt)
    a, b = (comfy.latents(result, node)[0] for node in kept)
    assert a.std() > 0.1 and distance(a, b) < 1e-5
    a, b = (comfy.pictures(result, node)[0] for node in pictures)
    assert a.shape == (72, 96, 3) and a.std() > 0.02 and numpy.array_equal(a, b)


def test_sampler_custom_advanced_with_cfg_guider_equals_ksampler(comfy, graph, weights):
    walk = start(graph, comfy.upload_array(photograph(64, 64)), weights)
    daff = walk.apply()
    stock = walk.ksampler(daff, walk.latent, cfg=1.5)
    noise = graph.add("RandomNoise", noise_seed=5)
    guider = graph.add("CFGGuider", model=daff.out(0), positive=daff.out(1), negative=daff.out(2), cfg=1.5)
    sampler = graph.add("KSamplerSelect", sampler_name="euler")
    sigmas = graph.add("BasicScheduler", model=daff.out(0), scheduler="simple", steps=3, denoise=1.0)
    custom = graph.add(
        "SamplerCustomAdvanced",
        noise=noise.out(),
        guider=guider.out(),
        sampler=sampler.out(),
        sigmas=sigmas.out(),
        latent_image=walk.latent,
    )
    kept = [walk.keep(stock.out(0)), walk.keep(custom.out(0))]
    result = comfy.run(graph.prompt)
    a, b = (comfy.latents(result, node)[0] for node in kept)
    assert a.std() > 0.1 and distance(a, b) < 1e-5


def test_strength_zero_is_the_unpatched_model_and_strength_one_is_not(comfy, graph, weights):
    walk = start(graph, comfy.upload_array(photograph(64, 80)), weights)
    plain = walk.apply(strength=0.0)
    samplers = [
        graph.add(
            "KSampler",
            model=model,
            positive=plain.out(1),
            negative=plain.out(2),
            latent_image=walk.latent,
            seed=1,
            steps=2,
            cfg=1.0,
            sampler_name="euler",
            scheduler="simple",
            denoise=1.0,
        )
        for model in (walk.model, plain.out(0), walk.apply().out(0))
    ]
    kept = [walk.keep(node.out(0)) for node in samplers]
    result = comfy.run(graph.prompt)
    bare, zero, one = (comfy.latents(result, node)[0] for node in kept)
    assert torch.equal(bare, zero) and distance(bare, one) > 0.01


def test_daem_strength_zero_is_stock_vae_decode(comfy, graph, weights):
    walk = start(graph, comfy.upload_array(photograph(64, 64)), weights)
    latent = walk.sampler().out(0)
    stock = graph.add("VAEDecode", samples=latent, vae=walk.vae)
    saved = [
        walk.save(node.out(0)) for node in (stock, walk.decode(latent, strength=0.0), walk.decode(latent))
    ]
    result = comfy.run(graph.prompt)
    a, b, c = (comfy.pictures(result, node)[0] for node in saved)
    assert numpy.array_equal(a, b) and distance(a, c) > 0.02


def test_an_ensemble_is_another_picture_of_the_same_size(comfy, graph, weights):
    walk = start(graph, comfy.upload_array(photograph(70, 90)), weights)
    latent = walk.sampler().out(0)
    saved = [walk.save(walk.decode(latent, **more).out(0)) for more in ({}, {"ensemble": 1}, {"ensemble": 4})]
    result = comfy.run(graph.prompt)
    none, one, four = (comfy.pictures(result, node)[0] for node in saved)
    assert numpy.array_equal(none, one) and four.shape == one.shape and not numpy.array_equal(four, one)


@pytest.mark.parametrize(
    "height, width, channels", [(64, 64, 3), (333, 517, 3), (1024, 768, 3), (90, 101, 4)]
)
def test_pictures_come_back_in_their_size(comfy, graph, weights, height, width, channels):
    picture = photograph(height, width, 3)
    if channels == 4:
        alpha = numpy.linspace(0, 1, width, dtype=numpy.float32)[None, :, None].repeat(height, axis=0)
        picture = numpy.concatenate([picture, alpha], axis=2)
    loaded = graph.add("LoadImage", image=comfy.upload_array(picture))
    image = loaded.out(0)
    if channels == 4:
        # LoadImage splits alpha off as an inverted mask; this puts it back as core does.
        image = graph.add("JoinImageWithAlpha", image=image, alpha=loaded.out(1)).out(0)
    walk = start_from(graph, image, loaded.out(1), weights)
    saved = walk.save(walk.decode(walk.sampler(steps=1).out(0)).out(0))
    (restored,) = comfy.pictures(comfy.run(graph.prompt), saved)
    assert restored.shape == (height, width, channels)
    if channels == 4:
        assert distance(restored[..., 3], numpy.rint(picture[..., 3] * 255) / 255) <= 1.01 / 255


def test_a_batch_of_two_equals_the_two_alone(comfy, graph, weights):
    names = [comfy.upload_array(photograph(64, 72, seed=seed)) for seed in (1, 2)]
    images = [graph.add("LoadImage", image=name).out(0) for name in names]
    both = graph.add("ImageBatch", image1=images[0], image2=images[1]).out(0)
    # Every picture of a batch has its own noise: the latent's batch index gives a single one the noise it had
    # in the batch.
    walks = [start_from(graph, image, image, weights) for image in (both, *images)]
    latents = [walks[0].latent]
    for index in (0, 1):
        latents.append(
            graph.add("LatentFromBatch", samples=walks[0].latent, batch_index=index, length=1).out(0)
        )
    kept, saved = [], []
    for walk, latent in zip(walks, latents):
        sampled = walk.ksampler(walk.apply(), latent).out(0)
        kept.append(walk.keep(sampled))
        saved.append(walk.save(walk.decode(sampled).out(0)))
    result = comfy.run(graph.prompt)
    together, *alone = (comfy.latents(result, node)[0] for node in kept)
    assert distance(together[0], together[1]) > 0.1
    for index in (0, 1):
        assert distance(together[index], alone[index][0]) < 1e-4
    pictures = [comfy.pictures(result, node) for node in saved]
    for index in (0, 1):
        assert distance(pictures[0][index], pictures[1 + index][0]) <= 1.01 / 255


def test_only_the_masked_area_changes(comfy, graph, weights):
    picture = photograph(128, 128)
    holed = numpy.concatenate([picture, numpy.ones((128, 128, 1), numpy.float32)], axis=2)
    holed[32:96, 32:96, 3] = 0
    walk = start(graph, comfy.upload_array(holed), weights)
    masked = graph.add("SetLatentNoiseMask", samples=walk.latent, mask=walk.mask)
    ours, daff = walk.sampler(latent=masked.out(0)), walk.apply()
    stock = walk.ksampler(daff, masked.out(0))
    custom = graph.add(
        "SamplerCustom", model=daff.out(0), positive=daff.out(1), negative=daff.out(2),
        latent_image=masked.out(0), add_noise=True, noise_seed=5,
        cfg=1.0, sampler=graph.add("KSamplerSelect", sampler_name="heun").out(0),
        sigmas=graph.add("BasicScheduler", model=daff.out(0), scheduler="simple", steps=2,
        denoise=1.0).out(0),
    )  # fmt: skip
    latents = [ours.out(0), stock.out(0), custom.out(0), custom.out(1)]
    saved = [walk.save(walk.decode(latent).out(0)) for latent in latents] + [
        walk.save(walk.decode(ours.out(0), tile=64).out(0))
    ]
    kept, start_latent = walk.keep(ours.out(0)), walk.keep(walk.latent)
    result = comfy.run(graph.prompt)
    outside = numpy.ones((128, 128), bool)
    outside[32:96, 32:96] = False
    for node in saved:
        (out,) = comfy.pictures(result, node)
        # SaveImage cuts values off where it should round them.
        assert abs(out - numpy.rint(picture * 255) / 255)[outside].max() <= 1.01 / 255
        assert abs(out - picture)[40:88, 40:88].mean() > 0.01
    before, after = comfy.latents(result, start_latent)[0], comfy.latents(result, kept)[0]
    assert (
        distance(before[..., :3, :], after[..., :3, :]) < 1e-4
        and distance(before[..., 6:10, 6:10], after[..., 6:10, 6:10]) > 0.05
    )


def test_the_picture_goes_on_into_an_upscale_model(comfy, graph, weights, models_folder):
    from safetensors.torch import save_file
    from spandrel.architectures.Compact import Compact

    torch.manual_seed(0)
    net = Compact(num_feat=8, num_conv=1, upscale=2)
    save_file(
        {key: value.contiguous() for key, value in net.state_dict().items()},
        models_folder / "upscale_models" / "tiny_x2.safetensors",
    )
    walk = start(graph, comfy.upload_array(photograph(64, 64)), weights)
    upscaler = graph.add("UpscaleModelLoader", model_name="tiny_x2.safetensors")
    larger = graph.add(
        "ImageUpscaleWithModel", upscale_model=upscaler.out(), image=walk.decode(walk.sampler().out(0)).out(0)
    )
    saved = walk.save(larger.out(0))
    (out,) = comfy.pictures(comfy.run(graph.prompt), saved)
    assert out.shape == (128, 128, 3) and out.std() > 0.01


def test_same_seed_same_picture_other_seed_another(comfy, weights):
    from aior_pack.tests.graph.conftest import Graph

    name = comfy.upload_array(photograph(64, 64))
    found = []
    for seed in (3, 4, 3):
        graph = Graph()
        walk = start(graph, name, weights)
        kept = walk.keep(walk.sampler(seed=seed).out(0))
        found.append(comfy.latents(comfy.run(graph.prompt), kept)[0])
    assert torch.equal(found[0], found[2]) and distance(found[0], found[1]) > 0.05


def test_changing_the_seed_encodes_nothing_again(comfy, weights):
    from aior_pack.tests.graph.conftest import Graph

    name = comfy.upload_array(photograph(64, 64, seed=9))
    for seed in (1, 2):
        graph = Graph()
        walk = start(graph, name, weights)
        walk.keep(walk.sampler(seed=seed).out(0))
        result = comfy.run(graph.prompt)
    assert {"1", "2", "3"} <= set(result.cached)


def test_area_conditioning_runs_with_its_slice_of_the_prior(comfy, graph, weights):
    walk = start(graph, comfy.upload_array(photograph(128, 128)), weights)
    daff = walk.apply()
    area = graph.add(
        "ConditioningSetArea", conditioning=daff.out(1), width=64, height=64, x=64, y=32, strength=1.0
    )
    both = graph.add("ConditioningCombine", conditioning_1=daff.out(1), conditioning_2=area.out(0))
    sampled = [
        graph.add(
            "KSampler",
            model=daff.out(0),
            positive=positive,
            negative=daff.out(2),
            latent_image=walk.latent,
            seed=1,
            steps=2,
            cfg=1.0,
            sampler_name="euler",
            scheduler="simple",
            denoise=1.0,
        )
        for positive in (daff.out(1), both.out(0))
    ]
    kept = [walk.keep(node.out(0)) for node in sampled]
    result = comfy.run(graph.prompt)
    whole, parted = (comfy.latents(result, node)[0] for node in kept)
    assert torch.isfinite(parted).all() and distance(whole, parted) > 1e-4


def test_the_report_names_all_eight(comfy, graph, weights):
    walk = start(graph, comfy.upload_array(photograph(64, 64)), weights)
    report = graph.add("AIOR_PriorReport", prior=walk.prior)
    plot, maps = walk.save(report.out(1)), walk.save(report.out(2))
    masks = walk.save(graph.add("MaskToImage", mask=report.out(3)).out(0))
    result = comfy.run(graph.prompt)
    text = "\n".join(str(item) for item in result.items("text", report.id))
    for word in ("noise", "blur", "low resolution", "rain", "snow", "haze", "low light", "JPEG"):
        assert word.lower() in text.lower(), word
    assert len(comfy.pictures(result, plot)) == 1
    assert [len(comfy.pictures(result, node)) for node in (maps, masks)] == [8, 8]


def test_looking_inside_changes_nothing_and_shows_all(comfy, graph, weights):
    walk = start(graph, comfy.upload_array(photograph(72, 96)), weights)
    inside = graph.add(
        "AIOR_Inspect",
        model=walk.model,
        vae=walk.vae,
        restorer=walk.restorer,
        prior=walk.prior,
        seed=5,
        steps=3,
        cfg=1.0,
        strength=1.0,
    )
    saved = [
        walk.save(link)
        for link in (inside.out(3), walk.decode(walk.sampler().out(0)).out(0), inside.out(1), inside.out(2))
    ]
    result = comfy.run(graph.prompt)
    (looked,), (usual,), (chart,), (sheet,) = (comfy.pictures(result, node) for node in saved)
    assert looked.shape == (72, 96, 3) and numpy.array_equal(looked, usual)
    assert chart.shape == (360, 640, 3) and min(sheet.shape[:2]) > 700
    text = "\n".join(str(item) for item in result.items("text", inside.id))
    assert text.count("Experts at") == 4 and text.split("step by step: ")[1].split("\n")[0].count("%") == 3


def test_degrade_and_measure(comfy, graph):
    loaded = graph.add("LoadImage", image=comfy.upload_array(photograph(96, 96)))
    damaged = graph.add("AIOR_Degrade", image=loaded.out(0), degradation="noise", severity=25 / 60, seed=1)
    again = graph.add(
        "AIOR_Degrade",
        image=loaded.out(0),
        degradation="from recipe",
        severity=0.0,
        seed=9,
        recipe=damaged.out(1),
    )
    measured = graph.add(
        "AIOR_Measure",
        reference=damaged.out(0),
        image=again.out(0),
        border=0,
        channel="rgb",
        perceptual=False,
        error_gain=8.0,
    )
    against = graph.add(
        "AIOR_Measure",
        reference=loaded.out(0),
        image=damaged.out(0),
        border=0,
        channel="rgb",
        perceptual=False,
        error_gain=8.0,
    )
    same, noisy = (
        graph.add("PreviewAny", source=measured.out(0)),
        graph.add("PreviewAny", source=against.out(0)),
    )
    result = comfy.run(graph.prompt)
    assert float(result.items("text", same.id)[0]) == 100
    assert 20 < float(result.items("text", noisy.id)[0]) < 21.5


def test_measure_writes_a_csv_below_the_output_folder_only(comfy, graph, server):
    loaded = graph.add("LoadImage", image=comfy.upload_array(photograph(48, 64)))
    damaged = graph.add("AIOR_Degrade", image=loaded.out(0), degradation="film scan", severity=0.5, seed=1)
    batch = graph.add("ImageBatch", image1=damaged.out(0), image2=loaded.out(0))
    against = {
        "reference": loaded.out(0),
        "image": batch.out(0),
        "border": 0,
        "channel": "y",
        "perceptual": False,
        "error_gain": 8.0,
    }
    measured = graph.add("AIOR_Measure", **against, csv="tables/film")
    (text,) = comfy.run(graph.prompt).items("text", measured.id)
    (path,) = (server.folder / "output" / "tables").iterdir()
    assert path.name == "film_00001_.csv" and text.endswith(f"Saved: {path}")
    head, first, second, mean = path.read_text(encoding="utf-8").splitlines()
    assert (
        head.startswith("picture,PSNR dB,SSIM")
        and first.startswith("1,")
        and second.startswith("2,100.0,1.0,y,0")
        and mean.startswith("mean,")
    )
    graph.prompt[measured.id]["inputs"]["csv"] = "../film"
    assert "Measure Restoration: csv: '../film' leads out of" in str(comfy.error(graph.prompt))
    assert sorted(server.folder.rglob("film*")) == [path]


def test_one_picture_of_a_prior_goes_on_alone(comfy, graph, weights):
    pictures = [photograph(64, 96, seed=seed) for seed in (1, 2)]
    first, second = (graph.add("LoadImage", image=comfy.upload_array(each)).out(0) for each in pictures)
    walk = start_from(graph, graph.add("ImageBatch", image1=first, image2=second).out(0), None, weights)
    together = walk.save(walk.decode(walk.sampler(latent=walk.latent).out(0)).out(0))
    taken = graph.add("AIOR_PriorFromBatch", prior=walk.prior, batch_index=1, length=1).out(0)
    latent = graph.add("LatentFromBatch", samples=walk.latent, batch_index=1, length=1).out(0)
    alone = replace(walk, prior=taken)
    saved = alone.save(alone.decode(alone.sampler(latent=latent).out(0)).out(0))
    result = comfy.run(graph.prompt)
    (_, wanted), (out,) = comfy.pictures(result, together), comfy.pictures(result, saved)
    assert abs(out - wanted).max() <= 1.01 / 255 and out.std() > 0.02
