"""DAFF on a MODEL and the DAFF Sampler, in process, on a small compact model with random weights."""

import copy
import inspect

import pytest
import torch
from aior_pack.tests.tiny import TINY, distance, ksampler, picture, save_tiny

pytestmark = pytest.mark.usefixtures("host")


def test_strength_zero_is_the_unpatched_model(walk):
    prior = walk.encode(picture(64, 96))
    model, positive, negative = walk.patch(prior, strength=0.0)
    plain = [[positive[0][0], {}]]
    latent = torch.zeros_like(prior.latent)
    assert torch.equal(
        ksampler(model, positive, negative, latent), ksampler(walk.model, plain, plain, latent)
    )
    on, positive, negative = walk.patch(prior)
    assert (
        distance(ksampler(on, positive, negative, latent), ksampler(walk.model, plain, plain, latent)) > 1e-2
    )


def test_a_model_without_patch_ignores_the_condition(walk):
    prior = walk.encode(picture(64, 64))
    _, positive, negative = walk.patch(prior)
    latent = torch.zeros_like(prior.latent)
    assert torch.equal(
        ksampler(walk.model, positive, negative, latent),
        ksampler(walk.model, [[positive[0][0], {}]], negative, latent),
    )


def test_the_input_model_and_conditioning_are_unchanged(walk):
    prior = walk.encode(picture(64, 64))
    options, wrappers = copy.deepcopy(walk.model.model_options), copy.deepcopy(walk.model.wrappers)
    weights = {key: value.clone() for key, value in walk.model.model.state_dict().items()}
    given = [[torch.randn(1, 8, 24), {"strength": 1.0}]]
    model, positive, _ = walk.patch(prior, given, given)
    ksampler(model, positive, positive, torch.zeros_like(prior.latent))
    assert walk.model.model_options == options and walk.model.wrappers == wrappers
    assert all(torch.equal(value, weights[key]) for key, value in walk.model.model.state_dict().items())
    assert given[0][1] == {"strength": 1.0} and positive[0][1]["strength"] == 1.0
    assert torch.equal(positive[0][0], given[0][0])


def test_two_pictures_in_a_batch_equal_the_two_alone(walk):
    from aior_pack.aior_core.pipeline.prior import Prior

    images = picture(64, 80, batch=2)
    both = walk.encode(images)
    latent = torch.randn(both.latent.shape, generator=torch.Generator().manual_seed(1))

    def run(prior: Prior, start):
        model, positive, negative = walk.patch(prior)
        import comfy.sample

        args = (model, start, 3, 2.0, "euler", "simple", positive, negative, torch.zeros_like(start))
        samples = comfy.sample.sample(*args, seed=0, disable_pbar=True)
        return samples, walk.decode({"samples": samples}, prior)

    samples, pictures = run(both, latent)
    for i in range(2):
        alone, decoded = run(walk.encode(images[i : i + 1]), latent[i : i + 1])
        assert distance(samples[i : i + 1], alone) < 1e-4
        assert distance(pictures[i : i + 1], decoded) < 1e-4


def recorded(walk, prior, run):
    """Conditions that DAFF was called with while `run(model, positive, negative)` sampled."""
    seen = []

    def hook(module, args):
        seen.append((tuple(args[0].shape), args[1].clone(), args[2].clone()))

    handle = walk.restorer.daff.model.register_forward_pre_hook(hook)
    try:
        run(*walk.patch(prior))
    finally:
        handle.remove()
    return seen


def test_area_conds_get_their_part_of_the_prior(walk):
    from aior_pack.aior_core.host.daff_patch import CONDITION

    prior = walk.encode(picture(128, 128))
    whole = walk.patch(prior)[1][0][1]["model_conds"][CONDITION].cond

    def run(model, positive, negative):
        area = [[positive[0][0], {**positive[0][1], "area": (8, 8, 4, 6), "strength": 1.0}]]
        ksampler(model, positive + area, negative, torch.zeros_like(prior.latent), steps=1)

    small = [c for shape, c, _ in recorded(walk, prior, run) if shape[2:] == (8, 8)]
    assert small and all(distance(c, whole[..., 4:12, 6:14]) < 1e-6 for c in small)


def test_cond_and_uncond_both_get_the_prior_and_the_timestep(walk):
    prior = walk.encode(picture(64, 64))

    def run(model, positive, negative):
        ksampler(model, positive, negative, torch.zeros_like(prior.latent), steps=2, cfg=3.0)

    seen = recorded(walk, prior, run)
    assert sum(len(condition) for _, condition, _ in seen) == 4
    assert sorted({float(t) for _, _, times in seen for t in times}) == [500.0, 1000.0]


@pytest.mark.parametrize("dim", [0, 2, 3])
def test_context_windows_get_their_part_of_the_prior(walk, dim):
    import comfy.context_windows as windows
    from aior_pack.aior_core.host.daff_patch import CONDITION

    prior = walk.encode(picture(96, 96, batch=4 if dim == 0 else 1))
    whole = walk.patch(prior)[1][0][1]["model_conds"][CONDITION].cond
    length = 2 if dim == 0 else 8
    handler = windows.IndexListContextHandler
    # An anchor for causal video models, which the oldest host has not.
    plain = (
        {"causal_window_fix": False} if "causal_window_fix" in inspect.signature(handler).parameters else {}
    )

    def run(model, positive, negative):
        model.model_options["context_handler"] = handler(
            context_schedule=windows.get_matching_context_schedule("standard_static"),
            fuse_method=windows.get_matching_fuse_method("pyramid"),
            context_length=length,
            context_overlap=0,
            dim=dim,
            **plain,
        )
        ksampler(model, positive, negative, torch.zeros_like(prior.latent), steps=1)

    seen = [condition for _, condition, _ in recorded(walk, prior, run)]
    expected = [whole.narrow(dim, start, length) for start in range(0, whole.shape[dim] - length + 1)]
    assert len(seen) >= 2
    assert all(min(distance(condition, part) for part in expected) < 1e-6 for condition in seen)
    assert distance(seen[0], seen[-1]) > 1e-3


def test_start_and_end_percent_choose_the_steps(walk):
    prior = walk.encode(picture(64, 64))

    def times(**options):
        model, positive, negative = walk.patch(prior, **options)
        seen = []
        handle = walk.restorer.daff.model.register_forward_pre_hook(
            lambda module, args: seen.append(float(args[2][0]))
        )
        ksampler(model, positive, negative, torch.zeros_like(prior.latent), steps=4)
        handle.remove()
        return seen

    assert times() == [1000, 750, 500, 250]
    assert times(start_percent=0.4) == [500, 250]
    assert times(end_percent=0.4) == [1000, 750]


def test_applying_twice_is_applying_once(walk):
    from aior_pack.aior_core.host.daff_patch import apply_daff

    prior = walk.encode(picture(64, 64))
    once = walk.patch(prior)
    twice = apply_daff(once[0], walk.restorer, prior, *once[1:])
    latent = torch.zeros_like(prior.latent)
    assert torch.equal(ksampler(*once, latent), ksampler(*twice, latent))


def test_a_prior_of_another_size_is_refused_in_any_sampler(walk):
    model, positive, negative = walk.patch(walk.encode(picture(64, 64)))
    with pytest.raises(ValueError, match=r"latent is \(8, 12\), the prior \(8, 8\)"):
        ksampler(model, positive, negative, torch.zeros(1, 16, 8, 12))


def test_a_latent_of_another_kind_is_refused_in_any_sampler(walk):
    model, positive, negative = walk.patch(walk.encode(picture(64, 64)))
    with pytest.raises(ValueError, match="4 channels, this MODEL takes 16"):
        ksampler(model, positive, negative, torch.ones(1, 4, 8, 8))


def test_a_restorer_of_another_width_is_refused(walk, tmp_path):
    import dataclasses

    from aior_pack.aior_core.host.compact_model import load_compact
    from aior_pack.aior_core.host.daff_patch import apply_daff

    wide = dataclasses.replace(TINY, unet=dataclasses.replace(TINY.unet, model_channels=64))
    wide = dataclasses.replace(
        wide,
        restorer=dataclasses.replace(
            TINY.restorer, daff=dataclasses.replace(TINY.restorer.daff, unet_width=64)
        ),
    )
    model, *_ = load_compact(save_tiny(tmp_path, wide))
    with pytest.raises(ValueError, match="(?s)width 32.*width 64"):
        apply_daff(model, walk.restorer, walk.encode(picture(64, 64)))


@pytest.mark.parametrize("cfg, strength", [(1.0, 1.0), (2.5, 0.6)])
def test_the_sampler_equals_apply_and_ksampler(walk, cfg, strength):
    prior = walk.encode(picture(64, 96))
    model, positive, negative = walk.patch(prior, strength=strength)
    expected = ksampler(model, positive, negative, torch.zeros_like(prior.latent), seed=7, cfg=cfg)
    got = walk.sample(prior, seed=7, steps=3, cfg=cfg, strength=strength)["samples"]
    assert distance(got, expected) <= 1e-5


def test_the_same_seed_gives_the_same_picture(walk):
    prior = walk.encode(picture(64, 64))
    first, again, other = (walk.decode(walk.sample(prior, seed=s, steps=2), prior) for s in (3, 3, 4))
    assert torch.equal(first, again) and distance(first, other) > 1e-3


def test_fidelity_goes_from_the_sampler_to_the_single_step(walk):
    prior = walk.encode(picture(64, 64))
    single = walk.sample(prior, steps=1)["samples"]
    distances = [
        distance(walk.sample(prior, steps=4, fidelity=f)["samples"], single) for f in (0.0, 0.5, 1.0)
    ]
    assert distances[0] > distances[1] > distances[2]
    assert distances[2] < 1e-4


def test_starting_from_the_damaged_picture_keeps_it_with_little_noise(walk):
    prior = walk.encode(picture(64, 64))
    near = walk.sample(prior, start="lq", denoise=0.05, steps=2)["samples"]
    far = walk.sample(prior, start="lq", denoise=0.8, steps=2)["samples"]
    assert distance(near, prior.latent) < distance(far, prior.latent)
    with pytest.raises(ValueError, match="noise, lq"):
        walk.sample(prior, start="middle")


def test_a_noise_mask_keeps_what_is_outside(walk):
    prior = walk.encode(picture(64, 64))
    mask = torch.zeros(1, 64, 64)
    mask[:, :, 32:] = 1
    out = walk.sample(prior, latent={"samples": prior.latent, "noise_mask": mask}, steps=2)
    assert distance(out["samples"][..., :3], prior.latent[..., :3]) < 1e-5
    assert distance(out["samples"][..., 5:], prior.latent[..., 5:]) > 1e-2
    assert torch.equal(out["noise_mask"], mask)


def test_empty_latents_of_other_nodes_fit(walk):
    prior = walk.encode(picture(64, 96))
    out = walk.sample(
        prior, latent={"samples": torch.zeros(1, 4, 8, 12), "downscale_ratio_spacial": 8}, seed=5, steps=2
    )
    assert torch.equal(out["samples"], walk.sample(prior, seed=5, steps=2)["samples"]) and out.keys() == {
        "samples"
    }


@pytest.mark.parametrize(
    "samples, message",
    [
        (torch.ones(1, 4, 8, 8), "4 channels"),
        (torch.ones(1, 16, 8, 12), "different sizes"),
        (torch.ones(3, 16, 8, 8), "3 latents"),
    ],
)
def test_wrong_latents_are_refused_by_the_sampler(walk, samples, message):
    prior = walk.encode(picture(64, 64, batch=2))
    with pytest.raises(ValueError, match=message):
        walk.sample(prior, latent={"samples": samples})


def test_tiles_are_raised_to_what_the_denoiser_sees_without_them(walk, monkeypatch):
    """And not where memory would not do for that."""
    from aior_pack.aior_core.host import memory, sampling

    prior = walk.encode(picture(256, 256))
    whole, raised = (walk.sample(prior, steps=1, tile=tile)["samples"] for tile in (0, 128))
    assert torch.equal(raised, whole)
    little = walk.model.memory_required([1, 16, 25, 25])
    for room in (memory, sampling):
        monkeypatch.setattr(room, "available", lambda device: little)
    assert not torch.equal(walk.sample(prior, steps=1, tile=128)["samples"], whole)


def test_tiled_sampling_is_close_to_the_whole(walk, small_windows):
    prior = walk.encode(picture(256, 256))
    whole = walk.sample(prior, steps=1)["samples"]
    tiled = walk.sample(prior, steps=1, tile=192)["samples"]
    assert (whole - tiled).abs().mean() < 0.15 * whole.abs().mean()
    assert torch.equal(walk.sample(prior, steps=1, tile=256)["samples"], whole)


def test_a_scheduler_that_makes_nan_of_one_step_is_named(walk):
    prior = walk.encode(picture(64, 64))
    with pytest.raises(
        ValueError, match="^the scheduler kl_optimal makes NaN of the noise levels for 1 steps"
    ):
        walk.sample(prior, steps=1, scheduler="kl_optimal")
    assert torch.isfinite(walk.sample(prior, steps=2, scheduler="kl_optimal")["samples"]).all()
