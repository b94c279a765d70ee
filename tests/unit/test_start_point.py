"""UniLDiff's start with its 2I - 1, by the numbers of docs/method.md 8.4."""

import pytest
import torch
from aior_pack.tests.unit.test_sdxl import model, prior, prompts, restorer, vae  # noqa: F401  fixtures

pytestmark = pytest.mark.usefixtures("host")


def test_the_vae_sees_the_picture_mapped_twice(model, restorer, prior, prompts, vae, monkeypatch):  # noqa: F811
    import comfy.k_diffusion.sampling
    import comfy.sample
    from aior_pack.aior_core.host.sampling import sample_daff
    from aior_pack.aior_core.host.start_points import started

    class Started(Exception):
        pass

    def start(model, x, sigmas, **kwargs):
        raise Started(x)

    monkeypatch.setattr(comfy.k_diffusion.sampling, "sample_euler", start)
    seen = vae.first_stage_model.encode(2 * prior.picture - 1)
    assert prior.picture.min() < -0.5 and (seen - prior.latent).abs().max() > 0.1
    twice, kind = started(restorer, prior, "lq_official_2i-1", vae, None)
    with pytest.raises(Started) as stopped:
        sample_daff(model, restorer, twice, *prompts, seed=3, steps=20, scheduler="ddim_uniform", start=kind)
    eps = comfy.sample.prepare_noise(prior.latent, 3)
    expected = 0.06826 * 0.13025 * seen + 0.99767 * 11.0736 * eps
    assert torch.allclose(stopped.value.args[0], expected, rtol=1e-4, atol=1e-3)
    # The latent's part is small: it must be the other one all the same, and by as much.
    plain = 0.06826 * 0.13025 * prior.latent + 0.99767 * 11.0736 * eps
    ours, theirs = stopped.value.args[0] - plain, 0.06826 * 0.13025 * (seen - prior.latent)
    assert (ours - theirs).abs().max() < 0.1 * theirs.abs().max()
    assert torch.equal(twice.features, prior.features) and torch.equal(twice.picture, prior.picture)


def test_it_needs_a_vae_and_nothing_else_does(restorer, prior, vae, walk):  # noqa: F811
    from aior_pack.aior_core.host.start_points import started

    with pytest.raises(ValueError, match="(?s)^the start point lq_official_2i-1.*Connect it to vae"):
        started(restorer, prior, "lq_official_2i-1", None, None)
    with pytest.raises(ValueError, match="needs the VAE of an SDXL checkpoint"):
        started(restorer, prior, "lq_official_2i-1", walk.vae, None)
    for start in ("noise", "lq", "lq_official"):
        assert started(restorer, prior, start, None, None) == (prior, start)
    assert started(restorer, prior, "lq_official_2i-1", None, {"samples": prior.latent})[0] is prior


def test_the_node_offers_it(model, restorer, prior, prompts, vae):  # noqa: F811
    from aior_pack.nodes.daff import DAFFSampler

    options = {
        "seed": 3,
        "steps": 2,
        "cfg": 1.0,
        "sampler_name": "euler",
        "scheduler": "ddim_uniform",
        "denoise": 1.0,
        "fidelity": 0.0,
    }
    options |= {"strength": 1.0, "tile": 0, "positive": prompts[0], "negative": prompts[1]}

    def run(start_point, **more):
        return DAFFSampler.execute(model, restorer, prior, start_point, **options, **more).result[0][
            "samples"
        ]

    plain, twice = run("lq_official"), run("lq_official_2i-1", vae=vae)
    assert torch.isfinite(twice).all() and not torch.equal(plain, twice)
    # A latent that is connected comes before the start point, as ever.
    latent = {"samples": prior.latent}
    assert torch.equal(run("lq_official_2i-1", latent=latent), run("noise", latent=latent))
