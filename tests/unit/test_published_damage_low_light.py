"""Low light of the published sets, by numbers: missing light, noise in the dark, lamps that stay."""

import math

import pytest
import torch
from aior_pack.aior_core.degradations.draw import Draw
from aior_pack.aior_core.degradations.fields import stream
from aior_pack.aior_core.degradations.light import decode, encode
from aior_pack.aior_core.degradations.published.low_light import STYLES, severity_of, stops_of

PLAIN = {
    "tint": [1.0, 1.0, 1.0],
    "shot": 0.0,
    "read": 0.0,
    "black": 0.0,
    "soft": 0.0,
    "shared": 0.0,
    "bend": 1.0,
}


def grey(level, size=128):
    return torch.full((1, 3, size, size), level)


def drawn(name, severity, seed=0, **instead):
    return STYLES[name].draw(Draw(stream(seed)), severity) | instead


def test_linear_light_and_back():
    values = torch.linspace(0, 1, 1001)
    assert (encode(decode(values)) - values).abs().max() < 2e-6
    assert decode(torch.tensor(0.5)).item() == pytest.approx(0.21404, abs=1e-4)
    assert encode(torch.tensor([-0.1, 1.5])).isfinite().all()


def test_severity_is_stops_over_five_up_to_four_and_reaches_nine():
    assert stops_of(0) == 0 and stops_of(0.4) == pytest.approx(2) and stops_of(0.8) == pytest.approx(4)
    assert stops_of(1) == pytest.approx(9) and severity_of(20) == 1 and severity_of(-1) == 0
    for severity in (0.1, 0.5, 0.79, 0.81, 0.95):
        assert severity_of(stops_of(severity)) == pytest.approx(severity, abs=1e-5)


@pytest.mark.parametrize("stops", [1.0, 2.5, 4.0])
def test_a_short_exposure_has_lost_the_light_that_it_says(stops):
    params = drawn("lol", 0.5, **PLAIN) | {"stops": stops}
    dark = STYLES["lol"].apply(grey(0.8), params, 0)
    missing = math.log2(decode(grey(0.8)).mean() / decode(dark).mean())
    assert missing == pytest.approx(stops, abs=0.1)
    assert (dark * 255 - (dark * 255).round()).abs().max() < 1e-4


@pytest.mark.parametrize("severity", [0.1, 0.4, 1.0])
def test_a_bent_curve_takes_the_stops_from_mid_grey(severity):
    for seed in range(5):
        params = drawn("gamma_light", severity, seed, tint=[1.0, 1.0, 1.0], shot=0.0, read=0.0)
        dark = STYLES["gamma_light"].apply(grey(0.5), params, 0)
        assert math.log2(decode(grey(0.5)).mean() / decode(dark).mean()) == pytest.approx(
            5 * severity, abs=0.02
        )
        assert 1.0 <= params["gamma"] <= 4.5 and 0.2 <= params["scale"] <= 1.0


def test_noise_of_a_short_exposure_is_that_of_lol():
    """LOL's own training pairs have 1 to 3 of 255 in the dark, red stronger than green, and channels that
    correlate by 0.2 to 0.5.
    """
    noise, ratio, shared = [], [], []
    for seed in range(24):
        params = drawn("lol", 0.88, seed, tint=[1.0, 1.0, 1.0])
        rest = STYLES["lol"].apply(grey(0.6), params, seed)[0].flatten(1) * 255
        noise.append(rest.std(1).mean().item())
        ratio.append((rest[0].std() / rest[1].std()).item())
        shared.append(torch.corrcoef(rest)[0, 1].item())
    middle = sorted(noise)[6:18]
    assert 0.6 < middle[0] and middle[-1] < 3.5 and max(noise) > 2.5
    assert 1.2 < sum(ratio) / 24 < 1.8 and 0.15 < sum(shared) / 24 < 0.5


def test_the_variance_of_the_noise_is_poisson_gauss():
    params = drawn("lol", 0.5, **PLAIN) | {
        "shot": 2e-3,
        "read": 4e-3,
        "uneven": [1.0, 1.0, 1.0],
        "stops": 3.0,
    }
    for level in (0.5, 0.9):
        light = decode(torch.tensor(level)).item() / 8
        dark = decode(STYLES["lol"].apply(grey(level, 256), params, 1))
        assert dark.var().item() == pytest.approx(2e-3 * light + 1.6e-5, rel=0.05)


def test_lamps_keep_their_light_and_the_truth_says_where():
    for seed in range(4):
        params = drawn("night", 0.7, seed, **PLAIN) | {"lamps": 2, "lamp": [1.0, 1.0, 1.0]}
        night = STYLES["night"].apply(grey(0.9), params, seed)
        missing = torch.log2(decode(grey(0.9)) / decode(night))[0, 0]
        truth = STYLES["night"].truth(params, seed, 128, 128)
        assert (missing - truth * params["stops"]).abs().max() < 0.35
        assert missing.max() > 0.9 * params["stops"] and missing.min() < 0.75 * params["stops"]
