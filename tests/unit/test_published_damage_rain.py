"""Rain of the published sets, by numbers: how much of the picture, how bright, which directions, how long."""

import math

import pytest
import torch
from aior_pack.aior_core.degradations.draw import Draw
from aior_pack.aior_core.degradations.fields import stream
from aior_pack.aior_core.degradations.published.rain import STYLES
from aior_pack.aior_core.degradations.published.streaks import blurred_specks, streaks

GREY = torch.full((1, 3, 256, 256), 0.3)
STREAK = {"spread": 0.0, "length": [30.0, 40.0], "thick": [2.0, 2.0], "faint": 0.5, "taper": 0.2}


def layer(name, severity, seed):
    """Return what a style adds to a grey picture, `3 H W` of 255."""
    params = STYLES[name].draw(Draw(stream(seed)), severity)
    return (STYLES[name].apply(GREY, params, seed).clamp(0, 1) - GREY)[0] * 255


def mean_share_and_light(name, severity, count=24):
    """Return means over draws: the share of pixels brighter by more than 10 of 255, their mean, the share of
    darker ones.
    """
    share, light, darker = 0.0, 0.0, 0.0
    for seed in range(count):
        added = layer(name, severity, seed).mean(0)
        seen = added > 10
        share += seen.float().mean().item() / count
        light += added[seen].mean().item() / count
        darker += (added < -1).float().mean().item() / count
    return share, light, darker


@pytest.mark.parametrize(
    "name, severity, share, light",
    [
        ("rain100l", 0.3, (0.12, 0.22), (26, 40)),
        ("rain100h", 0.88, (0.75, 0.93), (55, 75)),
        ("sirr_streaks", 0.25, (0.09, 0.20), (20, 32)),
        ("sirr_drops", 0.36, (0.45, 0.65), (16, 24)),
        ("sirr_curtain", 0.7, (0.75, 1.0), (30, 46)),
    ],
)
def test_share_and_brightness_are_those_of_the_set(name, severity, share, light):
    seen, mean, darker = mean_share_and_light(name, severity)
    assert share[0] <= seen <= share[1] and light[0] <= mean <= light[1] and darker == 0, (seen, mean, darker)


def test_separate_streaks_have_the_mean_square_that_is_promised():
    for cover in (0.05, 0.4, 2.0):
        squares = [
            streaks(200, 200, stream(seed), cover=cover, angles=[20.0], **STREAK).square().mean()
            for seed in range(40)
        ]
        assert torch.stack(squares).mean().sqrt().item() == pytest.approx(1.0, rel=0.05)
    assert streaks(20, 20, stream(0), cover=0.0, angles=[0.0], **STREAK).abs().max() == 0


def test_more_cover_keeps_the_streaks_that_less_of_it_has():
    few = streaks(128, 128, stream(3), cover=0.05, angles=[10.0], **STREAK)
    many = streaks(128, 128, stream(3), cover=0.15, angles=[10.0], **STREAK)
    scale = few.max() / many.max()
    where = few > 0.3 * few.max()
    ratio = (many[where] / few[where]).median()
    assert scale > 0 and (many[where] >= 0.9 * ratio * few[where]).float().mean() > 0.95


def directions(picture):
    """Return the power of a layer `H W` by the lean of its lines from the vertical, in degrees -89..90."""
    height, width = picture.shape
    window = torch.hann_window(height)[:, None] * torch.hann_window(width)[None]
    power = torch.fft.fft2((picture - picture.mean()) * window).abs().square()
    down, right = torch.meshgrid(torch.fft.fftfreq(height), torch.fft.fftfreq(width), indexing="ij")
    radius = (down**2 + right**2).sqrt()
    band = (radius > 0.04) & (radius < 0.25)
    lean = (torch.rad2deg(torch.atan2(-down, right)) + 90) % 180 - 90
    bins = torch.zeros(180).index_add_(0, (lean[band].round().long() + 89) % 180, power[band])
    return bins


def test_streaks_and_blurred_specks_lean_to_where_they_are_told():
    for angle in (-40.0, 0.0, 25.0):
        for made in (
            streaks(256, 256, stream(1), cover=0.3, angles=[angle], **STREAK),
            blurred_specks(256, 256, stream(1), grain=1.5, angle=angle, length=40.0, sparse=0.5),
        ):
            power = directions(made)
            smooth = sum(power.roll(step) for step in range(-4, 5))
            found = smooth.argmax().item() - 89
            assert abs(found - angle) <= 4, (found, angle)


def test_rain100h_crosses_and_rain100l_does_not():
    def spread(name):
        widths = []
        for seed in range(8):
            power = directions(layer(name, 0.8, seed).mean(0))
            widths.append((power > 0.1 * power.max()).sum().item())
        return sum(widths) / len(widths)

    assert spread("rain100h") > 1.5 * spread("rain100l")
    counts = {len(STYLES["rain100h"].draw(Draw(stream(seed)), 1.0)["angles"]) for seed in range(60)}
    assert counts == {1, 2, 3, 4, 5}
    assert {len(STYLES["rain100l"].draw(Draw(stream(seed)), 1.0)["angles"]) for seed in range(20)} == {1}


def test_blurred_specks_are_as_long_and_as_thick_as_they_are_told():
    field = blurred_specks(400, 300, stream(0), grain=3.0, angle=0.0, length=30.0, sparse=0.0)
    assert field.mean().abs() < 1e-4 and field.std().item() == pytest.approx(1.0, abs=0.01)

    def correlation(step, dim):
        return (field * field.roll(step, dim)).mean().item()

    # Noise that a box of length L blurs has the correlation 1 - d / L; by a Gaussian it is exp(-d^2 / 4
    # sigma^2).
    assert correlation(15, 0) == pytest.approx(0.5, abs=0.08)
    assert correlation(2, 1) == pytest.approx(math.exp(-(2**2) / (4 * (3.0 / 2.355) ** 2)), abs=0.08)


def test_screened_rain_spares_highlights_and_added_rain_does_not():
    params = STYLES["rain800"].draw(Draw(stream(2)), 0.7)
    for blend, least, most in (("screen", 0.15, 0.25), ("add", 0.9, 1.1)):
        gains = []
        for level in (0.1, 0.82):
            picture = torch.full((1, 3, 128, 128), level)
            gains.append((STYLES["rain800"].apply(picture, params | {"blend": blend}, 4) - picture).mean())
        assert least < (gains[1] / gains[0]).item() < most


def test_the_veil_of_heavy_rain_takes_contrast_where_it_is_far():
    params = STYLES["heavy_rain"].draw(Draw(stream(1)), 1.0) | {"cover": 0.0, "veil": 2.0, "scene": "outdoor"}
    black, white = torch.zeros(1, 3, 128, 128), torch.ones(1, 3, 128, 128)
    contrast = (STYLES["heavy_rain"].apply(white, params, 3) - STYLES["heavy_rain"].apply(black, params, 3))[
        0, 0
    ]
    assert contrast.min() < 0.2 < 0.6 < contrast.max()
    assert contrast[-20:].mean() > contrast[:20].mean() + 0.2


def test_drops_on_the_lens_cover_as_much_as_their_truth_says():
    style = STYLES["lens_drops"]
    for seed in range(4):
        params = style.draw(Draw(stream(seed)), 0.5)
        picture = torch.rand(1, 3, 128, 128, generator=stream(seed))
        change = (style.apply(picture, params, seed) - picture)[0].abs().mean(0)
        truth = style.truth(params, seed, 128, 128)
        assert change[truth == 0].max() == 0 and change[truth > 0.5].mean() > 0.1
        assert 0.02 < truth.mean() < 0.5
