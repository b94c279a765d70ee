"""Mixtures with names: what each does, that severity goes through it, and that its recipe does it again."""

import pytest
import torch
from aior_pack.aior_core.degradations import AS_NAMED, KINDS, PRESETS, Recipe, apply_recipe, named_recipe
from aior_pack.tests.tiny import picture

ASKED_FOR = {"phone at night", "old JPEG", "rainy windscreen", "film scan", "foggy morning", "snowfall", "shaky hand", "cheap webcam", "web thumbnail"}
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
}


def unit(height=72, width=96):
    return picture(height, width, seed=3).movedim(-1, 1) * 2 - 1


def test_the_names_are_there_and_are_no_kinds():
    assert ASKED_FOR <= set(PRESETS) and not set(PRESETS) & set(KINDS)
    assert set().union(*(named_recipe(name, AS_NAMED, 0).kinds() for name in PRESETS)) == set(KINDS)


@pytest.mark.parametrize("name", HOLDS)
def test_a_name_means_its_damages(name):
    assert HOLDS[name] <= set(named_recipe(name, AS_NAMED, 0).kinds())


@pytest.mark.parametrize("name", PRESETS)
def test_the_recipe_of_a_name_does_the_same_again(name):
    clean, recipe = unit(), named_recipe(name, AS_NAMED, 5)
    damaged = apply_recipe(clean, recipe)
    assert torch.equal(apply_recipe(clean, Recipe.from_json(recipe.to_json())), damaged)
    assert torch.equal(apply_recipe(clean, named_recipe(name, 0.0, 5)), clean)
    error = [(apply_recipe(clean, named_recipe(name, severity, 5)) - clean).square().mean().item() for severity in (0.1, AS_NAMED, 1.0)]
    assert 0 < error[0] < error[1] < error[2]
    assert [step.seed for step in recipe.steps] == list(range(5, 5 + len(recipe.steps)))


def test_severity_goes_through_all_steps_and_ends_at_one():
    usual, mild, worst = (named_recipe("phone at night", severity, 0).steps for severity in (AS_NAMED, AS_NAMED / 2, 1.0))
    assert [step.severity * 2 for step in mild] == pytest.approx([step.severity for step in usual], abs=1e-5)
    assert [step.severity for step in worst] == [min(1.0, 2 * step.severity) for step in usual]


def test_what_is_no_name_is_refused():
    with pytest.raises(ValueError, match="unknown preset 'phone by day'.*phone at night"):
        named_recipe("phone by day", 0.5, 0)
    with pytest.raises(ValueError, match="severity of snowfall is 1.5"):
        named_recipe("snowfall", 1.5, 0)


@pytest.mark.parametrize("degradation", ["noise", "film scan", "rainy windscreen", "random mixture"])
def test_the_node_takes_its_own_recipe_back(host, degradation):
    from aior_pack.nodes.degrade import Degrade

    image = picture(50, 70, batch=2, channels=4)
    damaged, recipe = Degrade.execute(image, degradation, 0.5, 11).result
    again, same = Degrade.execute(image, "from recipe", 0.9, 3, recipe).result
    assert torch.equal(again, damaged) and same == recipe
    assert torch.equal(damaged[..., 3], image[..., 3]) and not torch.equal(damaged[..., :3], image[..., :3])
