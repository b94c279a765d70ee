"""Prior, DAEM Decode, VAE and the rest of `host/`, in process, on a small model with random weights."""

import pytest
import torch
from aior_pack.tests.tiny import TINY, compact_state, distance, picture

pytestmark = pytest.mark.usefixtures("host")


@pytest.mark.parametrize("height, width, channels", [(64, 64, 3), (333, 517, 3), (49, 64, 4), (17, 16, 1)])
def test_the_picture_comes_back_in_its_size(walk, height, width, channels):
    prior = walk.encode(picture(height, width, channels=channels))
    image = walk.decode(walk.sample(prior, steps=1), prior)
    assert image.shape == (1, height, width, 4 if channels == 4 else 3)
    assert image.dtype == torch.float32 and image.device.type == "cpu" and image.is_contiguous()
    assert 0 <= image.min() and image.max() <= 1


def test_alpha_comes_back_as_it_was(walk):
    image = picture(33, 41, channels=4)
    prior = walk.encode(image)
    assert torch.equal(walk.decode({"samples": prior.latent}, prior)[..., 3], image[..., 3])


def test_prior_fields(walk):
    prior = walk.encode(picture(60, 90, batch=2))
    assert (
        prior.picture.shape == (2, 3, 64, 96)
        and prior.geometry.height == 60
        and prior.geometry.pad_right == 6
    )
    assert prior.features.shape == (2, 24, 8, 12) and prior.latent.shape == (2, 16, 8, 12)
    assert [tuple(s.shape) for s in prior.skips] == [(2, 8, 64, 96), (2, 12, 32, 48), (2, 16, 16, 24)]
    assert prior.severities.shape == prior.probabilities.shape == (2, 8) and prior.maps.shape == (2, 8, 8, 12)


def test_haze_needs_a_second_opinion_on_each_picture(walk, monkeypatch):
    said = torch.full((2, 8), 0.4), torch.full((2, 8), 0.97)
    network = walk.restorer.encoder.model
    monkeypatch.setattr(
        network, "estimate", lambda feature: (said[1][:1], said[0][:1], torch.zeros(1, 8, 8, 8))
    )
    opinions = iter((0.9, 0.1))
    monkeypatch.setattr(
        walk.restorer.daem.model.curve, "hazy", lambda looks: torch.full((1,), next(opinions))
    )
    prior = walk.encode(picture(64, 64, batch=2))
    assert torch.equal(prior.severities[0], said[0][0]) and prior.severities[1].tolist()[5] == 0
    assert prior.severities[1].count_nonzero() == 7 and torch.equal(prior.probabilities, said[1])


def test_tiled_prior_equals_the_whole(walk):
    image = picture(200, 264)
    whole, tiled = walk.encode(image), walk.encode(image, tile=64)
    assert tiled.skips is None
    for name in ("features", "latent", "severities", "maps"):
        assert distance(getattr(whole, name), getattr(tiled, name)) < 1e-4


@pytest.mark.parametrize(
    "image, message",
    [
        (picture(12, 64), "at least 16x16"),
        (picture(64, 64) * float("nan"), "NaN"),
        (picture(64, 64) / 0, "infinite"),
        (picture(64, 64)[0], "IMAGE"),
        (torch.rand(1, 3, 64, 64), "IMAGE"),
        ("photo.png", "expected an IMAGE"),
    ],
)
def test_bad_pictures_are_refused(walk, image, message):
    with pytest.raises(ValueError, match=message):
        walk.encode(image)


def plain(walk, samples, prior):
    image = walk.vae.decode(samples)
    return image[:, : prior.geometry.height, : prior.geometry.width]


def test_without_daem_it_is_the_plain_decoder(walk):
    import dataclasses

    prior = walk.encode(picture(60, 90))
    latent = {"samples": prior.latent}
    expected = plain(walk, prior.latent, prior)
    bare = dataclasses.replace(walk.restorer, daem=None)
    assert distance(walk.decode(latent, prior, strength=0.0), expected) < 1e-6
    assert distance(walk.decode(latent, prior, restorer=bare), expected) < 1e-6
    assert distance(walk.decode(latent, prior), expected) > 1e-2


def test_decoding_is_what_training_decodes(walk):
    from aior_pack.aior_core.picture import from_unit
    from aior_pack.aior_core.pipeline.decode import decode_with_detail

    prior = walk.encode(picture(64, 96))
    daem, features = walk.restorer.daem.model, [*prior.skips, prior.features]
    context = daem.context(
        prior.features,
        prior.severities,
        probabilities=prior.probabilities,
        global_statistics=daem.global_statistics((prior.picture + 1) / 2),
    )
    trained, _ = decode_with_detail(
        walk.vae.first_stage_model, daem, prior.latent, features, prior.picture, context
    )
    assert distance(walk.decode({"samples": prior.latent}, prior), from_unit(trained)) < 1e-5


@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_tiled_decoding_equals_the_whole(walk, strength):
    image = picture(200, 136)
    prior, tiled = walk.encode(image), walk.encode(image, tile=64)
    latent = walk.sample(prior, steps=1)
    whole = walk.decode(latent, prior, strength=strength)
    assert distance(walk.decode(latent, prior, strength=strength, tile=64), whole) < 1e-4
    assert distance(walk.decode(latent, tiled, strength=strength, tile=128), whole) < 1e-4


def test_wrong_latents_are_refused_by_the_decoder(walk):
    prior = walk.encode(picture(64, 64))
    for samples, message in (
        (torch.ones(1, 16, 8, 9), "different sizes"),
        (torch.ones(1, 4, 8, 8), "channels"),
    ):
        with pytest.raises(ValueError, match=message):
            walk.decode({"samples": samples}, prior)
    with pytest.raises(ValueError, match="sampled latent holds NaN.*another scheduler"):
        walk.decode({"samples": prior.latent * float("nan")}, prior)


def test_color_fix_brings_back_the_mean_of_the_damaged_picture(walk):
    image = picture(64, 64) * 0.4 + 0.3
    prior = walk.encode(image)
    fixed = walk.decode({"samples": prior.latent}, prior, color_fix="adain")
    assert (fixed.mean(dim=(1, 2)) - image.mean(dim=(1, 2))).abs().max() < 0.02


def test_the_vae_works_in_stock_nodes(walk):
    image = picture(128, 96)
    latent = walk.vae.encode(image)
    assert latent.shape == (1, 16, 16, 12) and torch.equal(latent, walk.vae.encode(image))
    whole = walk.vae.decode(latent)
    assert whole.shape == (1, 128, 96, 3)
    assert walk.vae.encode_tiled(image, tile_x=96, tile_y=96, overlap=16).shape == latent.shape
    assert (walk.vae.decode_tiled(latent, tile_x=10, tile_y=10, overlap=4) - whole).abs().mean() < 0.05


def test_the_model_is_a_rectified_flow(walk):
    sampling = walk.model.get_model_object("model_sampling")
    assert float(sampling.sigma_max) == 1.0 and 0 < float(sampling.sigma_min) < 0.0011
    assert float(sampling.timestep(torch.tensor(0.25))) == 250.0 and sampling.percent_to_sigma(0.25) == 0.75
    noise, latent, v = (
        torch.randn(1, 16, 4, 4, generator=torch.Generator().manual_seed(i)) for i in range(3)
    )
    x = sampling.noise_scaling(torch.tensor([0.5]), noise, latent)
    assert torch.allclose(sampling.calculate_denoised(torch.tensor([0.5]), v, x), x - 0.5 * v)
    assert not walk.model.model.model_config.inpaint_model() and walk.model.model.concat_keys == ()


def test_previews_have_colours(walk):
    import latent_preview

    latent_format = walk.model.model.latent_format
    preview = latent_preview.Latent2RGBPreviewer(
        latent_format.latent_rgb_factors, latent_format.latent_rgb_factors_bias
    )
    small = preview.decode_latent_to_preview(walk.encode(picture(64, 96)).latent)
    assert small.size == (12, 8)


def test_a_restorer_file_is_no_compact_model(host, tmp_path):
    from aior_pack.aior_core.host.compact_model import load_compact
    from aior_pack.aior_core.host.restorer import load_restorer
    from aior_pack.aior_core.weights import describe, save_weights

    state = {key: value for key, value in compact_state().items() if key.split(".")[0] in ("prior", "daff")}
    (path,) = save_weights(tmp_path / "restorer", state, describe(TINY.restorer))
    restorer = load_restorer(path)
    assert restorer.daem is None and restorer.source == "restorer.safetensors"
    with pytest.raises(ValueError, match="Load AIOR Restorer"):
        load_compact(path)


def test_the_report_tells_and_shows(walk):
    from aior_pack.aior_core.report import degradation_report as report

    prior = walk.encode(picture(60, 90, batch=2))
    text = report.report_text(prior)
    assert text.startswith("Picture 1 (90x60)") and "Picture 2" in text and text.count("severity") == 16
    assert report.report_plot(prior).shape[0] == 2 and report.report_plot(prior).shape[3] == 3
    maps, masks = report.report_maps(prior)
    assert (
        maps.shape == (16, 60, 90, 3)
        and masks.shape == (16, 60, 90)
        and 0 <= masks.min()
        and masks.max() <= 1
    )


def test_encoding_asks_for_no_place_for_daem(walk, monkeypatch):
    """Sixty numbers are judged by its tone curve, for which nothing else of it is needed."""
    from aior_pack.aior_core.host import prior_encode

    asked = []
    load = prior_encode.management.load_models_gpu
    monkeypatch.setattr(
        prior_encode.management,
        "load_models_gpu",
        lambda models, *args, **options: (asked.extend(models), load(models, *args, **options)),
    )
    prior = walk.encode(picture(64, 64))
    assert (
        walk.restorer.daem not in asked
        and walk.restorer.encoder in asked
        and prior.global_statistics is not None
    )
