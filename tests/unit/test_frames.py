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


def flicker(frames):
    """Variance of the difference of neighbouring frames."""
    return frames.diff(dim=0).var().item()


def test_over_time_is_a_triangle():
    from aior_pack.aior_core.host.frames import over_time

    x = torch.eye(5)
    assert over_time(x, 0) is x
    smoothed = over_time(x, 1)
    assert torch.allclose(smoothed[2], torch.tensor([0, 0.25, 0.5, 0.25, 0])) and torch.allclose(smoothed[0, :2], torch.tensor([2 / 3, 1 / 3]))
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
    """With one latent for all and the same features, what is left of flicker is DAEM's own judgement of each frame."""
    from dataclasses import replace

    plain = walk.encode(noisy)
    # One frame's places, every frame's own severities.
    still = replace(plain, features=plain.features[:1].expand(7, -1, -1, -1), skips=tuple(s[:1].expand(7, -1, -1, -1) for s in plain.skips), image=plain.image[:1].expand(7, -1, -1, -1))
    latent = {"samples": plain.latent[:1].expand(7, -1, -1, -1)}
    before, after = flicker(walk.decode(latent, still)), flicker(walk.decode(latent, replace(still, smooth=3)))
    assert 0 < after < 0.2 * before


def test_a_batch_is_each_frame_alone(walk, noisy):
    prior = walk.encode(noisy)
    image = walk.decode(walk.sample(prior, steps=1, noise="same for all"), prior)
    alone = walk.encode(noisy[4:5])
    assert distance(image[4:5], walk.decode(walk.sample(alone, steps=1), alone)) < 1e-4
