"""Haze of the published sets, by numbers: transmission by distance, and the airlight of the set."""

import math

import pytest
import torch
from aior_pack.aior_core.degradations.draw import Draw
from aior_pack.aior_core.degradations.fields import stream
from aior_pack.aior_core.degradations.published.haze import STYLES, beta_of, severity_of

SIDE = 96


def drawn(name, severity, seed=0, **instead):
    return STYLES[name].draw(Draw(stream(seed)), severity) | instead


def transmission(name, params, seed, picture=None):
    """Return `H W`: what is left of the difference between two pictures that differ by a constant."""
    picture = torch.full((1, 3, SIDE, SIDE), 0.4) if picture is None else picture
    params = params | {"follow": 0.0}
    lighter = STYLES[name].apply(picture + 0.1, params, seed)
    return ((lighter - STYLES[name].apply(picture, params, seed)) / 0.1)[0, 0]


def test_severity_is_thickness_and_back():
    assert beta_of(0) == 0 and beta_of(0.5) == pytest.approx(0.65) and beta_of(1) == pytest.approx(2.8)
    for severity in (0.1, 0.69, 0.71, 0.99):
        assert severity_of(beta_of(severity)) == pytest.approx(severity, abs=1e-5)
    assert severity_of(9) == 1 and severity_of(-1) == 0


@pytest.mark.parametrize("name", sorted(STYLES))
def test_what_is_left_of_the_light_follows_beta(name):
    for seed in range(4):
        params = drawn(name, 0.8, seed, patches=0.0)
        left = transmission(name, params, seed)
        assert left.min() >= math.exp(-params["beta"]) - 1e-3
        assert left.max() <= math.exp(-params["beta"] * params["near"]) + 1e-3
        # Twice the thickness is the square of what is left.
        thicker = transmission(name, params | {"beta": params["beta"] * 2}, seed)
        assert (thicker - left.square()).abs().max() < 1e-3


def test_published_ranges():
    for seed in range(40):
        indoor, outdoor = drawn("indoor_haze", 0.6, seed), drawn("outdoor_haze", 0.6, seed)
        assert all(0.7 <= light <= 1 for light in indoor["light"]) and len(set(indoor["light"])) == 1
        assert all(0.8 <= light <= 1 for light in outdoor["light"]) and len(set(outdoor["light"])) == 1
    low, high = STYLES["outdoor_haze"].severities
    assert math.exp(-beta_of(low)) == pytest.approx(0.88, abs=0.03) and math.exp(-beta_of(high)) < 0.1


def test_haze_of_a_machine_has_patches_and_the_light_of_the_room():
    params = drawn("machine_haze", 0.8, 1, near=1.0, patches=0.5, uneven=0.0)
    left = transmission("machine_haze", params, 3)
    assert left.log().std() / left.log().mean().abs() > 0.1
    even = transmission("machine_haze", params | {"patches": 0.0}, 3)
    assert even.std() < 1e-4
    dark, bright = torch.full((1, 3, SIDE, SIDE), 0.1), torch.full((1, 3, SIDE, SIDE), 0.7)
    following = params | {"follow": 1.0, "beta": 2.8}
    assert STYLES["machine_haze"].apply(dark, following, 0).mean() < 0.3
    assert STYLES["machine_haze"].apply(bright, following, 0).mean() > 0.6
    assert STYLES["machine_haze"].apply(bright, following, 0).max() <= 1


def test_the_truth_is_the_thickness():
    params = drawn("outdoor_haze", 0.9, 2)
    left = transmission("outdoor_haze", params, 6)
    truth = STYLES["outdoor_haze"].truth(params, 6, SIDE, SIDE)
    thickness = -left.log() / (-left.log()).max()
    assert (
        truth.max() == 1 and torch.corrcoef(torch.stack((truth.flatten(), thickness.flatten())))[0, 1] > 0.9
    )
