"""Mixtures with names: what each does, how severity scales it, and that its recipe repeats it."""

import pytest
import torch
from aior_pack.aior_core.degradations import AS_NAMED, KINDS, PRESETS, Recipe, apply_recipe, named_recipe
from aior_pack.tests.tiny import picture

ASKED_FOR = {
    "phone at night",
    "old JPEG",
    "rainy windscreen",
    "film scan",
    "foggy morning",
    "snowfall",
    "shaky hand",
    "cheap webcam",
    "web thumbnail",
}
HOLDS = {
    "phone at night": {"low_light", "noise", "jpeg"},
    "rainy windscreen": {"rain", "blur"},
    "film scan": {"noise"},
    "old JPEG": {"jpeg"},
    "foggy morning": {"haze"},
    "snowfall": {"snow"},
    "shaky hand": {"blur"},
    "cheap webcam": {"low_resolution", "noise", "jpeg"},
    "web thumbnail": {"low_resolution", "jpeg"},
    "phone at night, real sensor": {"low_light", "blur", "noise", "jpeg"},
    "security camera": {"noise", "low_resolution", "jpeg"},
    "old film scan": {"noise", "blur"},
    "messenger picture": {"jpeg", "low_resolution"},
    "reposted picture": {"jpeg", "blur"},
    "rain: rain100l": {"rain"},
    "mixture: cdd11": set(),
}


def unit(height=72, width=96):
    return picture(height, width, seed=3).movedim(-1, 1) * 2 - 1


def test_the_names_are_there_and_are_no_kinds():
    assert ASKED_FOR <= set(PRESETS) and not set(PRESETS) & set(KINDS)
    assert set().union(*(named_recipe(name, AS_NAMED, 0).kinds() for name in PRESETS)) == set(KINDS)


@pytest.mark.parametrize("name", HOLDS)
def test_a_name_means_its_damages(name):
    assert HOLDS[name] <= set(named_recipe(name, AS_NAMED, 0).kinds()) != set()


@pytest.mark.slow
@pytest.mark.parametrize("name", PRESETS)
def test_the_recipe_of_a_name_does_the_same_again(name):
    clean, recipe = unit(), named_recipe(name, AS_NAMED, 5)
    damaged = apply_recipe(clean, recipe)
    assert torch.equal(apply_recipe(clean, Recipe.from_json(recipe.to_json())), damaged)
    assert torch.equal(apply_recipe(clean, named_recipe(name, 0.0, 5)), clean)
    # Light rain in a picture this small may leave nothing for some seeds.
    error = [
        sum(
            (apply_recipe(clean, named_recipe(name, severity, seed)) - clean).square().mean().item()
            for seed in (5, 6, 7)
        )
        for severity in (0.1, AS_NAMED, 1.0)
    ]
    assert 0 < error[0] < error[1] < error[2]
    assert [step.seed for step in recipe.steps] == list(range(5, 5 + len(recipe.steps)))


def test_severity_goes_through_all_steps_and_ends_at_one():
    usual, mild, worst = (
        named_recipe("phone at night", severity, 0).steps for severity in (AS_NAMED, AS_NAMED / 2, 1.0)
    )
    assert [step.severity * 2 for step in mild] == pytest.approx([step.severity for step in usual], abs=1e-5)
    assert [step.severity for step in worst] == [min(1.0, 2 * step.severity) for step in usual]


def test_what_is_no_name_is_refused():
    with pytest.raises(ValueError, match="unknown preset 'phone by day'.*phone at night"):
        named_recipe("phone by day", 0.5, 0)
    with pytest.raises(ValueError, match="severity of snowfall is 1.5"):
        named_recipe("snowfall", 1.5, 0)


@pytest.mark.parametrize(
    "degradation",
    [
        "noise",
        "film scan",
        "rainy windscreen",
        "random mixture",
        "random world",
        "security camera",
        "haze: camera",
        "mixture: bsrgan",
    ],
)
def test_the_node_takes_its_own_recipe_back(host, degradation):
    from aior_pack.nodes.degrade import Degrade

    image = picture(50, 70, batch=2, channels=4)
    damaged, recipe = Degrade.execute(image, degradation, 0.5, 11).result
    again, same = Degrade.execute(image, "from recipe", 0.9, 3, recipe).result
    assert torch.equal(again, damaged) and same == recipe
    assert torch.equal(damaged[..., 3], image[..., 3]) and not torch.equal(damaged[..., :3], image[..., :3])


FOLLOWS = (
    "haze",
    "haze: camera",
    "haze: outdoor_haze",
    "haze: machine_haze",
    "rain: heavy_rain",
    "snow: csd",
    "fog on the road",
)


@pytest.mark.parametrize("name", FOLLOWS)
def test_a_depth_picture_is_followed(host, name):
    """Bright is near: the dark half of the depth picture has more haze."""
    from aior_pack.nodes.degrade import Degrade

    image = torch.full((1, 96, 128, 3), 0.3)
    depth = torch.ones(1, 48, 64, 3)
    depth[:, :, 32:] = 0.0
    changed = [0.0, 0.0]
    for seed in range(4):
        near_is_left, _ = Degrade.execute(image, name, 0.5, seed, "", depth).result
        near_is_right, _ = Degrade.execute(image, name, 0.5, seed, "", depth.flip(2)).result
        for result in (near_is_left, near_is_right.flip(2)):
            error = (result - image).abs().mean(dim=(0, 1, 3))
            changed[0], changed[1] = (
                changed[0] + error[:56].mean().item(),
                changed[1] + error[72:].mean().item(),
            )
    assert changed[1] > 1.3 * changed[0], changed


def test_a_depth_that_is_none_is_refused(host):
    from aior_pack.nodes.degrade import Degrade

    image = picture(32, 32, batch=2)
    for depth in (torch.full((1, 8, 8, 3), float("nan")), torch.rand(3, 8, 8, 3), torch.rand(8, 8)):
        with pytest.raises(ValueError, match="Synthesize Degradation: .*depth"):
            Degrade.execute(image, "haze", 0.5, 1, "", depth)
