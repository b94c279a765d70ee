"""The tone curve: what it sees, how it is fitted, and that it leaves alone what it should."""

from __future__ import annotations

import pytest
import torch
from aior_pack.aior_core.models.config import FIRST_KINDS
from aior_pack.aior_core.models.layers import initialise
from aior_pack.aior_core.models.tone_curve import (
    APPEARANCE,
    RIDGE,
    TONES,
    ToneCurve,
    appearance,
    cells,
    curve_between,
    shift,
    tones,
)
from aior_pack.aior_core.training.stages import tone as training

NOISE, RAIN, HAZE, DARK = 0, 3, 5, 6


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
    assert torch.isfinite(
        appearance(torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0)))
    ).all()


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


def knowing(**probabilities: float) -> tuple[torch.Tensor, torch.Tensor]:
    """A curve's first two inputs: the damages that the head sees, all of which are to be removed."""
    places = {"noise": NOISE, "rain": RAIN, "haze": HAZE, "dark": DARK}
    seen = torch.zeros(1, 8)
    for name, value in probabilities.items():
        seen[0, places[name]] = value
    return seen, torch.ones(1, 8)


@pytest.fixture(scope="module")
def fitted() -> ToneCurve:
    """A curve that knows darkness, with noise and without."""
    generator = torch.Generator().manual_seed(0)
    pictures = torch.cat([picture(seed, 64, 64) for seed in range(400)])
    dark, noisy = torch.arange(400) % 2 == 0, torch.arange(400) % 4 < 2
    lq = torch.where(dark[:, None, None, None], 0.25 * pictures, pictures)
    lq = lq + 0.05 * noisy[:, None, None, None] * torch.randn(lq.shape, generator=generator)
    severities = torch.zeros(400, 8)
    severities[dark, DARK], severities[noisy, NOISE] = 0.6, 0.3
    curve = initialise(ToneCurve(FIRST_KINDS, 32), torch.Generator().manual_seed(0))
    samples = {"appearance": appearance(lq), "tones": tones(cells(pictures)), "severities": severities}
    training.fit(curve, samples, generator, how=training.FitOptions(60, 16, 2e-3, 1e-2))
    return curve


def set_right(
    curve: ToneCurve, probabilities, steering, lq: torch.Tensor, made: torch.Tensor
) -> torch.Tensor:
    return made + shift(made, curve(probabilities, steering, appearance(lq), tones(cells(made))))


@pytest.mark.slow
def test_it_brightens_what_is_dark_and_leaves_the_rest(fitted):
    clean = picture(1001, 64, 64)
    dark, wrong = 0.25 * clean, 0.3 * clean
    after, with_noise = (
        set_right(fitted, *knowing(dark=0.99, noise=noise), dark, wrong) for noise in (0.0, 1.0)
    )
    assert (with_noise - clean).square().mean() < 0.1 * (wrong - clean).square().mean()
    # Without noise the decoder has judged as well, and half of the way is gone.
    assert torch.allclose(after, (wrong + with_noise) / 2, atol=0.02)
    # A picture that is right already, and one that nobody says is dark.
    assert (set_right(fitted, *knowing(), clean, clean) - clean).abs().max() < 0.01
    assert torch.equal(set_right(fitted, *knowing(rain=1.0), dark, wrong), wrong)


@pytest.mark.slow
def test_through_noise_the_tones_say_whether_it_is_dark(fitted):
    clean = picture(1002, 64, 64)
    dark = 0.25 * clean + 0.05 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(5))
    unseen = set_right(fitted, *knowing(dark=0.2), dark, 0.25 * clean)
    seen = set_right(fitted, *knowing(dark=0.2, noise=1.0), dark, 0.25 * clean)
    assert torch.equal(unseen, 0.25 * clean)
    assert (seen - clean).square().mean() < 0.2 * (unseen - clean).square().mean()


@pytest.mark.slow
def test_what_is_left_in_keeps_its_tones(fitted):
    clean = picture(1003, 64, 64)
    dark, (seen, everything) = 0.25 * clean, knowing(dark=0.99, noise=0.2)
    keep_dark, keep_noise = everything.clone(), everything.clone()
    keep_dark[:, DARK], keep_noise[:, NOISE] = 0, 0
    curves = [
        fitted(seen, keep, appearance(dark), tones(cells(dark)))
        for keep in (everything, keep_dark, keep_noise)
    ]
    assert torch.equal(curves[0], curves[2]) and curves[0].abs().max() > 0.2
    assert curves[1].abs().max() < 0.05 * curves[0].abs().max()


@pytest.mark.slow
def test_a_curve_that_knows_nothing_goes_nowhere_and_batches_are_their_pictures(fitted):
    made = torch.cat([picture(seed) for seed in range(3)])
    given = (
        torch.rand(3, 8, generator=torch.Generator().manual_seed(2)).sqrt(),
        torch.ones(3, 8),
        appearance(0.3 * made),
        tones(cells(0.3 * made)),
    )
    new = initialise(ToneCurve(FIRST_KINDS, 16), torch.Generator().manual_seed(0))
    assert new(*given).abs().max() == 0
    together = fitted(*given)
    assert together.abs().max() > 0.05
    assert torch.allclose(
        together, torch.cat([fitted(*(x[i : i + 1] for x in given)) for i in range(3)]), atol=1e-5
    )


@pytest.mark.slow
def test_what_was_dehazed_is_not_hazed_again(fitted):
    """The head says haze, the tones (which have learnt nothing of haze here) do not: what the decoder has
    done stays."""
    clean = picture(1004, 64, 64)
    hazy = 0.5 * clean + 0.45
    assert torch.equal(set_right(fitted, *knowing(haze=0.9), hazy, clean), clean)


def test_the_curve_is_the_solution_of_its_least_squares_fit():
    now, wished = torch.rand(2, 6, 27, generator=torch.Generator().manual_seed(4)).sort(dim=2).values.unbind()
    x, y = (t.unflatten(1, (3, 9)).double() for t in (now, wished))
    basis = torch.stack([1 - x, x, 4 * x * (1 - x)], dim=3)
    wanted = torch.linalg.solve(
        basis.mT @ basis + RIDGE * torch.eye(3).double(), basis.mT @ (y - x)[..., None]
    )[..., 0]
    assert torch.allclose(curve_between(now, wished).double(), wanted, atol=1e-4)
    # A picture of one tone says nothing of the others; it is fitted all the same.
    flat = torch.full((1, 27), 0.4)
    assert torch.isfinite(curve_between(flat, flat + 0.1)).all()


def test_a_killed_gathering_makes_the_shards_that_it_would_have_made(tmp_path, monkeypatch):
    """A shard's number decides what is in it, and shards that are there are not made again."""
    monkeypatch.setattr(training, "SHARD", 32)
    made = []

    def source(number: int):
        made.append(number)
        generator = torch.Generator().manual_seed(number)
        while True:
            yield {"appearance": torch.rand(16, 60, generator=generator), "tones": torch.ones(16, 27)}

    class Killed(Exception):
        pass

    def killed_at_two(line: str) -> None:
        if len(made) == 2:
            raise Killed

    with pytest.raises(Killed):
        training.gather(source, tmp_path / "parts", 1e9, killed_at_two)
    clock = iter(range(1000))
    monkeypatch.setattr(training.time, "monotonic", lambda: float(next(clock)))
    training.gather(source, tmp_path / "parts", 5.0, lambda line: None)
    assert made[:3] == [0, 1, 2] and len(set(made)) == len(made)
    samples = training.load_measurements(tmp_path / "parts")
    expected = torch.rand(32, 60, generator=torch.Generator().manual_seed(1)).half().float()
    assert torch.equal(samples["appearance"][32:64], expected) and samples["tones"].shape[1] == 27


def test_nothing_gathered_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="more --minutes"):
        training.load_measurements(tmp_path)
