"""Frames of a video: one after the other, and judged together."""

import pytest
import torch
from aior_pack.tests.tiny import distance, picture

pytestmark = pytest.mark.usefixtures("host")


@pytest.fixture
def noisy():
    """Seven frames of a still scene under changing noise."""
    still = picture(64, 96, seed=3)
    noise = torch.randn(7, 64, 96, 3, generator=torch.Generator().manual_seed(0))
    return (still + 0.1 * noise).clamp(0, 1)


def one_of(prior, index):
    from aior_pack.aior_core.pipeline.prior_batch import rows_of

    return rows_of(prior, slice(index, index + 1))


def flicker(frames):
    """Variance of the difference of neighbouring frames."""
    return frames.diff(dim=0).var().item()


def test_over_time_is_a_triangle():
    from aior_pack.aior_core.pipeline.temporal_smoothing import over_time

    x = torch.eye(5)
    assert over_time(x, 0) is x
    smoothed = over_time(x, 1)
    assert torch.allclose(smoothed[2], torch.tensor([0, 0.25, 0.5, 0.25, 0])) and torch.allclose(
        smoothed[0, :2], torch.tensor([2 / 3, 1 / 3])
    )
    assert torch.allclose(smoothed.sum(dim=1), torch.ones(5))


def test_a_smoothed_estimate_varies_less(walk, noisy):
    plain, smooth = walk.encode(noisy), walk.encode(noisy, smooth=3)
    assert smooth.smooth == 3 and torch.equal(plain.features, smooth.features)
    assert flicker(smooth.severities) < 0.2 * flicker(plain.severities)
    assert torch.allclose(smooth.severities.mean(), plain.severities.mean(), atol=0.02)


def test_smoothing_one_picture_changes_nothing(walk):
    plain, smooth = (walk.encode(picture(64, 64), smooth=radius) for radius in (0, 5))
    assert torch.equal(plain.severities, smooth.severities)
    assert torch.equal(*(walk.decode({"samples": prior.latent}, prior) for prior in (plain, smooth)))
    with pytest.raises(ValueError, match="smooth is -1"):
        walk.encode(picture(64, 64), smooth=-1)


def test_daem_judges_frames_together(walk, noisy):
    """With one latent and the same features for all frames, the rest of the flicker is DAEM's estimate."""
    from dataclasses import replace

    plain, smooth = walk.encode(noisy), walk.encode(noisy, smooth=3)
    # One frame's places, every frame's own severities.
    still = {
        "features": plain.features[:1].expand(7, -1, -1, -1),
        "skips": tuple(s[:1].expand(7, -1, -1, -1) for s in plain.skips),
        "image": plain.image[:1].expand(7, -1, -1, -1),
    }
    latent = {"samples": plain.latent[:1].expand(7, -1, -1, -1)}
    before, after = (flicker(walk.decode(latent, replace(prior, **still))) for prior in (plain, smooth))
    assert 0 < after < 0.2 * before


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_what_does_not_vary_stays_as_it_is(dtype):
    """In bf16 the rounded weights of a mean summed to 0.996 to 1.008, depending on the place in the video."""
    from aior_pack.aior_core.pipeline.temporal_smoothing import over_time

    for value in (1.0, 0.3, 0.7):
        x = torch.full((30, 5), value, dtype=dtype)
        for radius in (1, 4, 64):
            assert torch.equal(over_time(x, radius), x)
    ones = torch.ones(6)
    assert torch.equal(over_time(torch.arange(6.0), 2, ones), over_time(torch.arange(6.0), 2))
    assert torch.equal(over_time(torch.arange(6.0), 2, 0 * ones), torch.arange(6.0))
    assert torch.allclose(
        over_time(torch.arange(3.0), 1, torch.tensor([1.0, 0, 1])), torch.tensor([0.0, 1, 2])
    )
    assert torch.allclose(
        over_time(torch.tensor([0.0, 9.0, 0.0]), 1, torch.tensor([1.0, 0, 1])), torch.zeros(3)
    )


def contexts_of(walk, prior):
    from aior_pack.tests.tiny import decode_job

    return decode_job(walk, prior).contexts()


def test_the_estimate_is_averaged_once(walk, noisy):
    """When DAEM gets the same features for all frames, only the prior's own values are averaged."""
    smooth = walk.encode(noisy, smooth=2)
    alone = [context for index in range(7) for context in contexts_of(walk, one_of(smooth, index))]
    together = contexts_of(walk, smooth)
    for name in ("anchor", "sigma", "probabilities", "steering"):
        assert all(torch.equal(getattr(a, name), getattr(b, name)) for a, b in zip(alone, together)), name
    assert any(not torch.equal(a.vector, b.vector) for a, b in zip(alone, together))
    plain = walk.encode(noisy)
    assert torch.allclose(
        smooth.severities[3],
        plain.severities[1:6].mul(torch.tensor([1, 2, 3, 2, 1.0])[:, None]).sum(dim=0) / 9,
        atol=1e-5,
    )
    assert flicker(smooth.global_statistics.hazy) <= flicker(plain.global_statistics.hazy)


def test_steering_by_picture_is_not_averaged(walk, noisy):
    from aior_pack.aior_core.pipeline.steer import steer_prior

    kept = [1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0]
    smooth = walk.encode(noisy, smooth=2)
    steered = steer_prior(smooth, {"noise": kept})
    assert [context.steering[0, 0].item() for context in contexts_of(walk, steered)] == kept
    # All the others see the same of it, near and far.
    for index, (mine, unsteered) in enumerate(zip(contexts_of(walk, steered), contexts_of(walk, smooth))):
        assert torch.equal(mine.vector, unsteered.vector) == (index != 3)


def test_tones_that_are_to_stay_say_nothing_of_the_neighbours(walk, noisy, monkeypatch):
    """Where haze and low light are kept in all frames but one, only that frame gets a curve."""
    from aior_pack.aior_core.pipeline import decode
    from aior_pack.aior_core.pipeline.steer import steer_prior

    seen = []
    monkeypatch.setattr(decode, "apply_tone_curves", lambda canvas, curves: seen.append(curves))
    smooth = walk.encode(noisy, smooth=2)
    latent = {"samples": smooth.latent}
    only = [0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]
    walk.decode(latent, steer_prior(smooth, {"haze": only, "low_light": only}))
    (curves,) = seen
    assert (
        curves.shape == (7, 3, 3)
        and curves[3].abs().max() > 0.01
        and torch.all(curves[[0, 1, 2, 4, 5, 6]] == 0)
    )


def test_a_batch_is_each_frame_alone(walk, noisy):
    prior = walk.encode(noisy)
    image = walk.decode(walk.sample(prior, steps=1, noise="same for all"), prior)
    alone = walk.encode(noisy[4:5])
    assert distance(image[4:5], walk.decode(walk.sample(alone, steps=1), alone)) < 1e-4
