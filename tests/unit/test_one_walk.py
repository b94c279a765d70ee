"""Training and the host take the same walk: equal weights give equal features, latents and pictures."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from aior_pack.aior_core.models.autoencoder import Autoencoder
from aior_pack.aior_core.models.daem import DAEM
from aior_pack.aior_core.models.lq_encoder import PriorEncoder
from aior_pack.aior_core.picture import Geometry, from_unit, to_unit
from aior_pack.aior_core.picture.tiles import regions
from aior_pack.aior_core.pipeline.decode import (
    DecodeJob,
    DecoderNetworks,
    count_passes,
    decode_encoded,
    decode_pictures,
)
from aior_pack.aior_core.pipeline.encode import encode_batch
from aior_pack.aior_core.pipeline.prior import Prior
from aior_pack.tests.tiny import TINY, distance, picture, randomised, restorer_state
from aior_pack.tests.unit.test_sdxl import CONFIG, model, prompts, vae  # noqa: F401  three fixtures

SAME = 1e-5
TILED = 1e-4
"""Float32 sums of many tiles are rounded in another order than those of the whole picture."""
KEPT = {"noise": 0.0, "rain": 0.4}
"""What one of two pictures keeps, as Steer Degradations says it."""


@pytest.fixture(scope="module")
def restorer(comfyui):
    """A narrow restorer for SDXL as training builds it: without a tone curve."""
    from aior_pack.aior_core.host.restorer import build_restorer

    config = dataclasses.replace(CONFIG, daem=dataclasses.replace(CONFIG.daem, tone_width=0))
    return build_restorer(restorer_state(config), config, "narrow.safetensors")


@pytest.fixture
def networks(walk):
    """Training's networks with the weights of the host's."""
    from aior_pack.aior_core.training.networks import build

    parts = {
        "vae": walk.vae.first_stage_model,
        "unet": walk.model.model.diffusion_model,
        **walk.restorer.networks(),
    }
    with torch.inference_mode(False):
        trained = build(TINY)
        trained.load_state_dict(
            {
                f"{name}.{key}": value.detach().clone()
                for name, part in parts.items()
                for key, value in part.state_dict().items()
            }
        )
    return trained


def remove(image: torch.Tensor) -> torch.Tensor:
    """`KEPT` for the last picture of a batch, as training says it: `B K`."""
    weights = torch.ones(len(image), len(TINY.restorer.kinds))
    for kind, weight in KEPT.items():
        weights[-1, TINY.restorer.kinds.index(kind)] = weight
    return weights


def steered(prior):
    from aior_pack.aior_core.pipeline.steer import steer_prior

    others = [1.0] * (len(prior.latent) - 1)
    return steer_prior(prior, {kind: [*others, weight] for kind, weight in KEPT.items()})


@pytest.mark.parametrize("height, width, tile", [(64, 96, 0), (200, 264, 64)], ids=["whole", "tiled"])
def test_the_compact_walk_is_the_same_in_training_and_in_the_host(
    walk, networks, monkeypatch, height, width, tile
):
    from aior_pack.aior_core.training import distributed
    from aior_pack.aior_core.training.restoration import encode_prior, repair, sample

    near = TILED if tile else SAME
    image = picture(height, width, batch=2)
    with torch.inference_mode():
        prior = walk.encode(image, tile=tile)
        noise = torch.randn(prior.latent.shape, generator=torch.Generator().manual_seed(7))
        monkeypatch.setattr("comfy.sample.prepare_noise", lambda *arguments: noise)
        latent = walk.sample(steered(prior), steps=4)
        host = walk.decode(latent, steered(prior), tile=tile)
        # Nothing of the damaged picture is blended into the host's result, which training never does.
        changed = walk.restorer.daem.model.picture_change(prior.probabilities)
    assert torch.equal(changed, torch.ones_like(changed))

    monkeypatch.setattr(distributed, "normal", lambda *arguments: noise.clone())
    lq = to_unit(image)
    encoded = encode_prior(networks, lq)
    assert distance(encoded.features[-1], prior.features) < near
    assert distance(encoded.severities, prior.severities) < near
    assert distance(encoded.estimate.probabilities, prior.probabilities) < near
    assert distance(encoded.map_logits.sigmoid(), prior.maps) < near
    for field in ("appearance", "hazy", "clipped"):
        own, other = (
            getattr(of, field) for of in (encoded.estimate.global_statistics, prior.global_statistics)
        )
        assert distance(own, other) < SAME
    sampled = sample(networks, encoded, 4, torch.Generator(), remove(image))
    assert distance(sampled, latent["samples"]) < 10 * near
    repaired, routings = repair(networks, encoded, lq, latent["samples"].clone(), remove(image))
    assert len(routings) == 4 and distance(from_unit(repaired.detach()), host) < near
    # The walk of training has gradients, in every part that it goes through.
    repaired.square().mean().backward()
    parts = [networks.prior.trunk, networks.vae.decoder, networks.daem.head]
    parts += [level.join for level in networks.daem.levels]
    for part in parts:
        assert all(p.grad is not None and p.grad.isfinite().all() for p in part.parameters())


@pytest.mark.usefixtures("comfyui")
def test_sdxl_is_decoded_in_training_as_in_the_host(vae, restorer, model):  # noqa: F811
    from aior_pack.aior_core.host.daem_decode import decode_daem
    from aior_pack.aior_core.host.prior_encode import encode_prior
    from aior_pack.aior_core.training.sdxl import Base, SDXLNetworks, repair_sdxl

    image = picture(64, 96)
    with torch.inference_mode():
        prior = encode_prior(restorer, vae, image)
        host = decode_daem({"samples": prior.latent}, vae, restorer, prior)
    parts = restorer.networks()
    nothing = torch.zeros(1)
    base = Base(model.model.diffusion_model, vae.first_stage_model, nothing, 1.0, *[nothing] * 4)
    networks = SDXLNetworks(parts["prior"], parts["daff"], parts["daem"], base)
    with torch.no_grad():
        repaired, routings, encoded = repair_sdxl(networks, to_unit(image), prior.latent.clone())
    assert distance(encoded.features[-1], prior.features) < SAME
    assert distance(encoded.severities, prior.severities) < SAME
    assert len(routings) == 4 and distance(from_unit(repaired), host) < SAME


@pytest.mark.usefixtures("host")
def test_sdxl_is_fused_in_training_as_in_the_host(vae, restorer, model, prompts):  # noqa: F811
    """What the host's sampler gets from the denoiser is what training predicts from the same input."""
    from aior_pack.aior_core.host.daff_patch import apply_daff
    from aior_pack.aior_core.host.prior_encode import encode_prior
    from aior_pack.aior_core.pipeline.fuse import predict_noise
    from aior_pack.tests.tiny import ksampler
    from comfy.patcher_extension import WrappersMP

    prior = encode_prior(restorer, vae, picture(64, 96))
    patched, positive, negative = apply_daff(model, restorer, prior, *prompts)
    calls = []

    def record(executor, x, timesteps, context, y, control, transformer_options, **kwargs):
        made = executor(x, timesteps, context, y, control, transformer_options, **kwargs)
        calls.append((x.clone(), timesteps.clone(), context.clone(), y.clone(), made.clone()))
        return made

    patched.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "test", record)
    ksampler(patched, positive, negative, prior.latent, steps=2)
    assert len(calls) == 2
    daff = restorer.daff.model
    for x, timestep, context, label, made in calls:
        condition = daff.embed(prior.features)
        own = predict_noise(model.model.diffusion_model, daff, x, timestep, condition, context, label)
        assert distance(own, made) < SAME


@pytest.mark.parametrize("smooth", [0, 2])
def test_pictures_in_tiles_are_whole_pictures_without_comfyui(smooth):
    """In the tier `unit`, where importing ComfyUI fails: the pipeline needs torch only."""
    config = TINY.restorer
    autoencoder, encoder = randomised(Autoencoder(TINY.autoencoder)), randomised(PriorEncoder(config.prior))
    daem = randomised(DAEM(config.daem, kinds=config.kinds), seed=3)
    image = picture(120, 88, batch=2)
    with torch.no_grad():
        encoded = encode_batch(encoder, daem, to_unit(image))
        latent = autoencoder.encode(to_unit(image))
        wanted, _ = decode_encoded(autoencoder, daem, latent, encoded, to_unit(image))
        estimate = encoded.estimate
        prior = Prior(
            features=encoded.features[-1],
            skips=None,
            image=image,
            latent=latent,
            severities=estimate.severities,
            probabilities=estimate.probabilities,
            maps=encoded.map_logits.sigmoid(),
            geometry=Geometry(120, 88, 0, 0),
            smooth=smooth,
            global_statistics=estimate.global_statistics,
            kinds=config.kinds,
        )
        networks = DecoderNetworks(
            autoencoder,
            encoder.trunk,
            config.prior,
            daem,
            torch.device("cpu"),
            torch.float32,
            receptive_field_share=1.0,
        )
        released: list[int] = []
        job = DecodeJob(latent, networks, prior, between_levels=released.append)
        ticks: list[None] = []
        tiles = {side: regions(15, 11, side, 0) for side in (0, 8)}
        made = {
            side: decode_pictures(job, cut, tick=lambda: ticks.append(None)) for side, cut in tiles.items()
        }
    assert len(ticks) == sum(2 * len(cut) * count_passes(daem, len(cut)) for cut in tiles.values()) == 42
    assert distance(made[0], made[8]) < TILED
    assert (distance(made[0], from_unit(wanted)) < SAME) == (smooth == 0)
    # The hook runs before every level whose LQ feature is computed for the tile: all levels but the deepest.
    assert set(released) == {120 * 88} and len(released) == 2 * (3 + 4 * (3 + 0 + 1 + 2 + 3))


def test_a_strength_of_zero_is_the_plain_decoder_and_regions_are_its_parts():
    autoencoder = randomised(Autoencoder(TINY.autoencoder))
    latent = torch.randn(1, 16, 9, 12, generator=torch.Generator().manual_seed(0))
    nothing = torch.zeros(1, len(TINY.restorer.kinds))
    prior = Prior(
        features=torch.zeros(1, 24, 9, 12),
        skips=None,
        image=picture(72, 96),
        latent=latent,
        severities=nothing,
        probabilities=nothing,
        maps=torch.zeros(1, len(TINY.restorer.kinds), 9, 12),
        geometry=Geometry(70, 91, 2, 5),
    )
    networks = DecoderNetworks(
        autoencoder,
        PriorEncoder(TINY.restorer.prior).trunk,
        TINY.restorer.prior,
        None,
        torch.device("cpu"),
        torch.float32,
        receptive_field_share=1.0,
    )
    with torch.no_grad():
        whole = from_unit(autoencoder.decode(latent))[:, :70, :91]
        tiled = decode_pictures(DecodeJob(latent, networks, prior), regions(9, 12, 5, 0))
    assert tiled.shape == (1, 70, 91, 3) and distance(tiled, whole) < SAME


def test_an_estimate_without_a_tone_curve_is_the_heads_own():
    from aior_pack.aior_core.pipeline.encode import estimate_degradations

    daem = DAEM(dataclasses.replace(TINY.restorer.daem, tone_width=0), kinds=TINY.restorer.kinds)
    severities, probabilities = torch.rand(2, 3, 8, generator=torch.Generator().manual_seed(0)).unbind()

    def unread():
        raise AssertionError("pictures are read without need")
        yield

    for module in (None, daem):
        estimate = estimate_degradations(module, severities, probabilities, unread())
        assert estimate.severities is severities and estimate.probabilities is probabilities
        assert estimate.global_statistics is None


@pytest.mark.usefixtures("host")
def test_a_prior_without_statistics_of_whole_pictures_is_decoded_with_a_tone_curve(walk):
    """Such a prior comes from a restorer of the same width that has no tone curve. The curve then looks at
    the picture itself."""
    image = picture(61, 83)
    prior = walk.encode(image)
    bare = dataclasses.replace(prior, global_statistics=None)
    seen = []
    curve = walk.restorer.daem.model.curve
    unsteered = curve.unsteered
    curve.unsteered = lambda *inputs: seen.append(inputs[2]) or unsteered(*inputs)
    try:
        for each in (prior, bare):
            assert walk.decode({"samples": prior.latent}, each).isfinite().all()
    finally:
        del curve.unsteered
    assert distance(*seen) < SAME
