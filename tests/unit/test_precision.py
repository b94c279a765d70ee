"""Networks in half precision stay near fp32, and NaN is named where it arises."""

import pytest
import torch
from aior_pack.aior_core.models.autoencoder import Autoencoder
from aior_pack.aior_core.models.daff import DAFF
from aior_pack.aior_core.models.lq_encoder import PriorEncoder
from aior_pack.tests.tiny import TINY, picture, randomised

pytestmark = pytest.mark.usefixtures("host")


def unlike(a: torch.Tensor, b: torch.Tensor) -> float:
    """Root mean square of the difference over that of `b`."""
    return ((a.float() - b).square().mean() / b.square().mean()).sqrt().item()


@pytest.mark.parametrize("dtype, bound", [(torch.bfloat16, 0.05), (torch.float16, 0.01)])
def test_half_precision_is_near_fp32(dtype, bound):
    generator = torch.Generator().manual_seed(0)
    photo = picture(64, 96).movedim(-1, 1) * 2 - 1
    encoder, vae, daff = (
        randomised(net)
        for net in (
            PriorEncoder(TINY.restorer.prior),
            Autoencoder(TINY.autoencoder),
            DAFF(TINY.restorer.daff),
        )
    )
    features = encoder.trunk(photo)
    h, condition = torch.randn(1, 32, 8, 12, generator=generator), daff.embed(features[-1])
    latent, fused, estimate = (
        vae.encode(photo),
        daff(h, condition, torch.tensor([300.0])),
        encoder.estimate(features[-1]),
    )
    half = [net.to(dtype) for net in (encoder, vae, daff)]
    assert unlike(half[0].trunk(photo.to(dtype))[-1], features[-1]) < bound
    assert unlike(half[1].encode(photo.to(dtype)), latent) < bound
    assert unlike(half[2](h.to(dtype), condition.to(dtype), torch.tensor([300.0])), fused) < bound
    # Severities are judged by sums over the picture, in fp32 whatever the weights are.
    assert all(
        unlike(a, b) < bound and a.dtype == torch.float32
        for a, b in zip(half[0].estimate(features[-1].to(dtype)), estimate)
    )


def test_the_time_is_not_rounded_by_half_precision():
    """In bfloat16 two neighbouring timesteps near 1000 are one number; DAFF still tells them apart."""
    daff = randomised(DAFF(TINY.restorer.daff)).to(torch.bfloat16)
    condition = daff.embed(torch.randn(1, 24, 8, 8, dtype=torch.bfloat16))
    h = torch.randn(1, 32, 8, 8, dtype=torch.bfloat16)
    one, other = (daff(h, condition, torch.tensor([t])) for t in (990.0, 992.0))
    assert torch.tensor(990.0).bfloat16() == torch.tensor(992.0).bfloat16() or not torch.equal(one, other)
    assert not torch.equal(one, other)


def test_the_features_of_large_pictures_are_kept_in_half_and_the_picture_stays(walk, monkeypatch):
    from aior_pack.aior_core.pipeline import encode

    image = picture(64, 96)

    def restored():
        prior = walk.encode(image)
        return prior.features.dtype, walk.decode(walk.sample(prior, seed=1, steps=2), prior)

    full, wanted = restored()
    monkeypatch.setattr(encode, "FULL_FEATURES_PIXELS", 64 * 96 - 1)
    kept, made = restored()
    assert (full, kept) == (torch.float32, torch.float16)
    # Random weights change tones wildly; the bundled ones differ by 0.01 at most.
    assert 0 < 255 * (made - wanted).abs().max() < 2 and 255 * (made - wanted).abs().mean() < 0.2


@pytest.mark.parametrize(
    "stage, message",
    [
        ("trunk", r"^NaN or infinite features in torch.float32.*--fp32-vae"),
        ("unet", r"^the denoiser made NaN.*--fp32-unet"),
        ("decoder", r"^NaN or infinite values in decoder and DAEM.*--fp32-vae"),
    ],
)
def test_nan_is_named_where_it_arises(walk, monkeypatch, stage, message):
    image = picture(64, 64)
    prior = walk.encode(image)

    def poisoned(module):
        forward = module.forward

        def run(*arguments, **options):
            made = forward(*arguments, **options)
            return [m * float("nan") for m in made] if isinstance(made, list) else made * float("nan")

        monkeypatch.setattr(module, "forward", run)

    with pytest.raises(RuntimeError, match=message):
        if stage == "trunk":
            poisoned(walk.restorer.encoder.model.trunk)
            walk.encode(image)
        elif stage == "unet":
            poisoned(walk.model.model.diffusion_model)
            walk.sample(prior, steps=1)
        else:
            poisoned(walk.restorer.daem.model.levels[0].out)
            walk.decode({"samples": prior.latent}, prior)
    assert torch.isfinite(prior.latent).all()
