"""The mixtures of CDD-11, and changes that look like damage and are none, by numbers."""

import pytest
import torch
from aior_pack.aior_core.degradations.draw import Draw
from aior_pack.aior_core.degradations.fields import stream
from aior_pack.aior_core.degradations.published.clean import STYLES as CLEAN
from aior_pack.aior_core.degradations.published.mixtures import MIXTURES, STYLES

CDD = STYLES["cdd11"]
KIND = {"low": "low_light", "haze": "haze", "rain": "rain", "snow": "snow"}


def drawn(severity, seed=0, **instead):
    return CDD.draw(Draw(stream(seed)), severity) | instead


def texture(size=96, seed=0):
    small = torch.rand(1, 3, size // 4, size // 4, generator=stream(seed))
    return torch.nn.functional.interpolate(small, size=(size, size), mode="bicubic").clamp(0.05, 0.95)


def test_there_are_eleven_and_every_one_is_drawn():
    assert len(MIXTURES) == len(set(MIXTURES)) == 11
    assert {drawn(1.0, seed)["mixture"] for seed in range(120)} == set(MIXTURES)
    for seed in range(40):
        params = drawn(1.0, seed)
        assert 2 <= params["exponent"] <= 3 and 0.03 <= params["noise"] <= 0.08
        assert 1 <= params["beta"] <= 2 and 0.6 <= params["air"] <= 0.9


@pytest.mark.parametrize("mixture", MIXTURES)
def test_labels_name_the_parts_and_a_mixture_is_worse_than_each(mixture):
    picture, parts = texture(), mixture.split("_")
    params = drawn(0.8, 5, mixture=mixture)
    labels = CDD.said(params)
    expected = {KIND[part] for part in parts} | ({"noise"} if "low" in parts else set())
    assert set(labels) == expected and all(0 < severity <= 1 for severity in labels.values())
    damaged = CDD.apply(picture, params, 1)
    assert not torch.equal(damaged, picture)
    if len(parts) > 1:
        for part in parts:
            single = CDD.apply(picture, params | {"mixture": part}, 1)
            assert (damaged - single).abs().mean() > 0.005


def test_light_is_lost_before_it_rains_and_haze_lies_over_both():
    picture = torch.full((1, 3, 96, 96), 0.5)
    fixed = {"noise": 0.0, "exponent": 3.0, "scene": "slope"}
    dark = CDD.apply(picture, drawn(1.0, 2, mixture="low", **fixed), 4)
    # A flat picture is its own illumination: 0.5 becomes 0.5^3.
    assert dark.mean().item() == pytest.approx(0.125, abs=0.01)
    rain = CDD.apply(picture, drawn(1.0, 2, mixture="rain", **fixed), 4) - picture
    both = CDD.apply(picture, drawn(1.0, 2, mixture="low_rain", **fixed), 4) - dark
    below = rain < 0.45
    assert (both - rain)[below].abs().max() < 0.01, "the rain is as bright in the dark"
    hazy = drawn(1.0, 2, mixture="haze_rain", **fixed) | {"beta": 2.0, "air": 0.8}
    veiled = CDD.apply(picture, hazy, 4) - CDD.apply(picture, hazy | {"mixture": "haze"}, 4)
    assert (veiled[rain > 0.1] / rain[rain > 0.1]).max() < 0.95, "haze lies over the rain"


def test_look_alikes_keep_the_rest_of_the_picture():
    picture = texture()
    for name in ("pale_wall", "grey_sky", "snow_ground", "shallow_focus"):
        style = CLEAN[name]
        for seed in range(4):
            made = style.apply(picture, style.draw(Draw(stream(seed)), 0.5), seed)
            change = (made - picture).abs().amax(1)
            assert (change < 1e-3).float().mean() > 0.05, name
            assert (change > 0.05).float().mean() > 0.02, name


def test_a_pale_wall_is_bright_even_and_beside_full_contrast():
    style = CLEAN["pale_wall"]
    params = style.draw(Draw(stream(1)), 0.6) | {"angle": 0.0, "light": [0.9, 0.9, 0.9], "shade": 0.1}
    made = style.apply(texture(), params, 2)[0]
    wall, rest = made[..., :30], made[..., 70:]
    assert wall.mean() > 0.8 and wall.std() < 0.06 and rest.std() > 0.15


def test_a_night_scene_has_white_lamps_and_no_noise():
    style = CLEAN["night_scene"]
    picture = torch.full((1, 3, 96, 96), 0.5)
    params = style.draw(Draw(stream(2)), 0.9) | {"lamps": 2}
    made = style.apply(picture, params, 4)
    assert made.max() > 0.99 and made.median() < 0.3
    # Without noise only the glow differs from pixel to pixel, and it is smooth.
    assert made.diff(dim=-1).abs().flatten().quantile(0.8) < 0.01


def test_kept_grain_is_grey_and_strongest_in_the_middle():
    style = CLEAN["kept_grain"]
    params = {"sigma": 6.0, "soft": 0.8}

    def grain(level):
        picture = torch.full((1, 3, 128, 128), level)
        return (style.apply(picture, params, 3) - picture)[0]

    middle, dark = grain(0.5), grain(0.05)
    assert middle.std().item() * 255 == pytest.approx(6.0, rel=0.05) and dark.std() < 0.5 * middle.std()
    assert torch.equal(middle[0], middle[2])
    assert (middle[0, :, 1:] * middle[0, :, :-1]).mean() > 0.3 * middle[0].var()
