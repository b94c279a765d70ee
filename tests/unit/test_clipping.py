"""What clipping takes of noisy tones, and how the anchor puts it back."""

from pathlib import Path

import numpy
import pytest
import torch
from aior_pack.aior_core.degradations import preset_recipe
from aior_pack.aior_core.models.clipping import WORST_SIGMA, clipped_mean, noise_sigma, unclipped
from aior_pack.aior_core.models.daem import DAEM
from aior_pack.aior_core.models.global_statistics import GlobalStatistics, is_clipped
from aior_pack.aior_core.models.layers import initialise
from aior_pack.aior_core.models.low_frequency_anchor import low_frequency_correction
from aior_pack.tests.tiny import TINY
from PIL import Image

CLEAN = Path(__file__).resolve().parents[1] / "clean"


def noisy(tone: float, sigma: float, side: int = 256) -> torch.Tensor:
    """A flat picture `1 3 side side`, 0..1, with noise of `sigma` that is not clipped."""
    return tone + sigma * torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(7))


def test_severity_one_is_the_sigma_that_degradations_say():
    (step,) = preset_recipe("noise", 1.0, 0).steps
    assert WORST_SIGMA == step.params["sigma"] / 255


def test_the_mean_is_that_of_clipped_noise():
    for tone, sigma in ((0.0, 0.2), (0.03, 0.1), (0.5, 0.2), (0.9, 0.2), (1.0, 0.05)):
        mean, slope = clipped_mean(torch.tensor(tone), torch.tensor(sigma))
        assert abs(mean - noisy(tone, sigma).clamp(0, 1).mean()) < 1e-3
        assert (
            abs(slope - (clipped_mean(torch.tensor(tone + 1e-3), torch.tensor(sigma))[0] - mean) / 1e-3)
            < 0.01
        )


def test_every_tone_is_found_again():
    tones = torch.linspace(0, 1, 101)[:, None]
    sigmas = torch.tensor([[0.004, 0.02, 0.06, 0.1, 0.2, WORST_SIGMA]])
    assert (unclipped(clipped_mean(tones, sigmas)[0], sigmas) - tones).abs().max() < 2e-4
    # Means that no tone has, darker than black's, are black.
    assert unclipped(torch.tensor([0.0, 0.01, 1.0]), torch.tensor(0.2)).tolist() == [0, 0, 1]


def test_the_anchor_does_not_lift_what_clipping_has_lifted():
    for tone in (0.02, 0.5, 0.97):
        lq, clean = noisy(tone, 0.2).clamp(0, 1) * 2 - 1, torch.full((1, 3, 256, 256), 2 * tone - 1)
        told, untold = (
            low_frequency_correction(lq, clean, torch.full((1, 1, 1, 1), sigma)).mean().abs()
            for sigma in (0.2, 0.0)
        )
        assert told < 0.01
        assert (untold > 0.1) == (tone != 0.5)
    exact = noisy(0.3, 0.1) * 2 - 1
    assert torch.allclose(
        low_frequency_correction(exact, torch.zeros_like(exact), torch.zeros(1, 1, 1, 1)).mean(),
        exact.mean(),
        atol=1e-3,
    )


def test_only_clipped_noise_that_is_there_and_to_be_removed_is_undone():
    daem = initialise(DAEM(TINY.restorer.daem), torch.Generator().manual_seed(0))
    feature, severities = torch.zeros(4, 24, 8, 8), torch.full((4, 8), 0.5)
    pictures = torch.cat([noisy(0.1, 0.1, 64).clamp(0, 1).expand(3, -1, -1, -1), noisy(0.1, 0.1, 64)])
    steering, sure = torch.ones(4, 8), torch.ones(4, 8)
    steering[1, 0], sure[2, 0] = 0.0, 0.1
    global_statistics = daem.global_statistics(pictures)
    assert global_statistics.clipped.tolist() == [1, 1, 1, 0]
    sigma = daem.context(feature, severities, steering, sure, global_statistics).sigma[:, 0]
    assert torch.allclose(sigma, torch.tensor([1.0, 0, 0, 0]) * noise_sigma(torch.tensor(0.5), 1.06))
    assert torch.allclose(daem.context(feature, severities).sigma, noise_sigma(torch.full((4, 1), 0.5), 1.06))


@pytest.mark.parametrize("sigma", [3, 15, 50])
@pytest.mark.parametrize("name", ["astronaut", "chelsea", "coffee"])
def test_noise_that_goes_beyond_black_and_white_is_told_from_a_value_that_does(name, sigma):
    clean = (
        torch.from_numpy(
            numpy.asarray(Image.open(CLEAN / f"{name}.webp").convert("RGB"), numpy.float32)
        ).movedim(-1, 0)[None]
        / 255
    )
    unclipped = clean + sigma / 255 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(sigma))
    file = unclipped.clamp(0, 1).mul(255).round() / 255
    rounded, hot, halved = (
        file * 1.000001,
        file.clone(),
        torch.nn.functional.interpolate(file, scale_factor=0.5, mode="bicubic", antialias=True),
    )
    hot[0, :, 10, 10:14] = 1.2
    assert rounded.max() > 1 or file.max() < 1
    assert [is_clipped(each).item() for each in (unclipped, file, rounded, hot, halved)] == [0, 1, 1, 1, 1]
    assert is_clipped(torch.cat([file, unclipped])).tolist() == [1, 0]


def test_impressions_are_taken_apart_and_joined():
    daem = initialise(DAEM(TINY.restorer.daem), torch.Generator().manual_seed(0))
    whole = daem.global_statistics(torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(1)))
    again = GlobalStatistics.joined(whole.rows(slice(index, index + 1)) for index in range(3))
    assert all(
        torch.equal(getattr(whole, name), getattr(again, name)) for name in ("appearance", "hazy", "clipped")
    )
