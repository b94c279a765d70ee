"""The tone curve: what it sees, how it is fitted, and that it leaves alone what it should."""

from __future__ import annotations

import pytest
import torch
from aior_pack.aior_core.architecture.layers import initialise
from aior_pack.aior_core.architecture.tone import (
    APPEARANCE,
    TONES,
    ToneCurve,
    appearance,
    cells,
    curve_between,
    share_to_remove,
    shift,
    tones,
)
from aior_pack.aior_core.training import tone as training
from aior_pack.tests.tiny import randomised

HAZE, NOISE = 5, 0


def picture(seed: int = 0, height: int = 120, width: int = 96) -> torch.Tensor:
    """Smooth blobs of colour, `1 3 H W`, 0..1."""
    coarse = torch.rand(1, 3, height // 24, width // 24, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False)


def test_appearance_hardly_sees_noise_and_sees_darkness():
    clean = picture()
    noisy = clean + 0.1 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    seen, with_noise, dark = (appearance(x) for x in (clean, noisy, 0.25 * clean))
    assert seen.shape == (1, APPEARANCE) and torch.equal(seen[:, :TONES], tones(cells(clean)))
    assert (with_noise - seen)[:, :TONES].abs().max() < 0.05 < (dark - seen)[:, :TONES].abs().max()
    # The spread within cells is what noise is seen by.
    assert (with_noise - seen)[:, 45:54].min() > 0.2


@pytest.mark.parametrize("size", [(16, 16), (8, 40), (333, 517)])
def test_every_size_has_an_appearance(size):
    assert torch.isfinite(appearance(torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0)))).all()


def test_many_cells_are_pooled_and_tones_stay():
    large = torch.nn.functional.interpolate(picture(), size=(2400, 2160), mode="bilinear")
    assert cells(large).shape == (1, 3, 256, 256)
    assert (tones(cells(large)) - tones(torch.nn.functional.avg_pool2d(large, 8))).abs().max() < 0.02


@pytest.mark.parametrize("wrong", [lambda x: 0.3 * x, lambda x: 0.5 * x + 0.4, lambda x: x**2])
def test_the_curve_between_tones_sets_a_wrong_tone_right(wrong):
    clean = picture(3)
    made = wrong(clean)
    curve = curve_between(tones(cells(made)), tones(cells(clean)))
    left = (made + shift(made, curve) - clean).abs().mean()
    assert left < 0.15 * (made - clean).abs().mean()
    assert curve_between(tones(cells(made)), tones(cells(made))).abs().max() < 1e-6
    assert shift(made, torch.zeros(1, 3, 3)).abs().max() == 0


def test_what_is_left_in_keeps_its_tones():
    severities = torch.zeros(1, 8).index_fill(1, torch.tensor([HAZE]), 0.5)
    everything, without_haze, without_noise = torch.ones(1, 8), torch.ones(1, 8), torch.ones(1, 8)
    without_haze[:, HAZE], without_noise[:, NOISE] = 0, 0
    shares = [share_to_remove(severities, torch.ones(1, 8), keep).item() for keep in (everything, without_haze, without_noise)]
    assert shares[0] == shares[2] == 1 and shares[1] < 1e-3


def test_a_curve_that_knows_nothing_goes_nowhere_and_batches_are_their_pictures():
    curve = initialise(ToneCurve(8, 16), torch.Generator().manual_seed(0))
    made = torch.cat([picture(seed) for seed in range(3)])
    given = torch.rand(3, 16, generator=torch.Generator().manual_seed(2)), torch.ones(3, 1), appearance(0.4 * made), tones(cells(0.5 * made))
    assert shift(made, curve(*given)).abs().max() < 0.01
    curve = randomised(curve)
    together = curve(*given)
    assert together.abs().max() > 0.01
    assert torch.allclose(together, torch.cat([curve(*(x[i : i + 1] for x in given)) for i in range(3)]), atol=1e-6)
    assert curve(given[0], torch.zeros(3, 1), *given[2:]).abs().max() == 0


def test_fitting_learns_to_brighten_what_is_dark_and_to_leave_the_rest():
    generator = torch.Generator().manual_seed(0)
    pictures = torch.cat([picture(seed, 64, 64) for seed in range(96)])
    dark = torch.arange(96) % 2 == 0
    lq = torch.where(dark[:, None, None, None], 0.25 * pictures, pictures)
    severities = torch.zeros(96, 8)
    severities[dark, 6] = 0.6
    wished, now = tones(cells(pictures)), cells(lq)
    looked = {"appearance": appearance(lq), "tones": wished, "severities": severities}
    restored = {
        "appearance": looked["appearance"], "now": training._padded(now), "wished": training._padded(cells(pictures)), "rest": torch.full((96,), 1e-4),
        "seen": torch.full((96, 16), 0.5), "share": torch.ones(96, 1),
    }  # fmt: skip
    curve = initialise(ToneCurve(8, 32), torch.Generator().manual_seed(0))
    training.fit_expectations(curve, looked, training.Fit(60, 16, 2e-3, 1e-2), generator)
    training.fit_caution(curve, restored, training.Fit(60, 16, 2e-2, 1e-2), generator)
    with torch.no_grad():
        made = lq + shift(lq, curve(restored["seen"], restored["share"], looked["appearance"], tones(now)))
    before, after = ((x - pictures).square().mean(dim=(1, 2, 3)) for x in (lq, made))
    assert after[dark].mean() < 0.1 * before[dark].mean()
    assert after[~dark].mean() < 1e-3
