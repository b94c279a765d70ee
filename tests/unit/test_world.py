"""What training draws: how often from which source, in which order, mild or not, and with which labels."""

import json
from itertools import groupby

import numpy as np
import pytest
import torch
from aior_pack.aior_core.degradations import (
    KINDS,
    Recipe,
    apply_recipe,
    of,
    recipe_labels,
    sample_clean,
    sample_world,
    shares,
)
from aior_pack.aior_core.degradations.apart import APART
from aior_pack.aior_core.degradations.world import looks

COUNTS = (0.05, 0.52, 0.25, 0.18)


def drawn(count, seed=7, **options):
    generator = torch.Generator().manual_seed(seed)
    return [sample_world(generator, **{"count_weights": COUNTS, **options}) for _ in range(count)]


@pytest.fixture(scope="module")
def many():
    return drawn(600)


def parts(recipe):
    return {
        json.dumps({**step.mask, "rest": False}) for step in recipe.steps if step.mask and "rest" in step.mask
    }


@pytest.mark.slow
def test_shares_are_those_of_the_design(many):
    clean = np.mean([not recipe.steps for recipe in many])
    assert clean == pytest.approx(0.05, abs=0.025)
    assert np.mean([recipe.camera is not None for recipe in many]) > 0.18
    assert np.mean([bool(parts(recipe)) for recipe in many]) == pytest.approx(0.10 * 0.8 * 0.95, abs=0.03)
    plain = np.mean([all(step.style is None for step in recipe.steps) for recipe in many])
    assert 0.35 < plain < 0.75
    hardly = [
        all(
            severity <= of(kind).mild[1]
            for step in recipe.steps
            for kind, severity in step.severities().items()
        )
        for recipe in many
    ]
    assert 0.1 < np.mean(hardly) < 0.3


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_look_of_a_kind_is_drawn(kind):
    # A messenger makes pictures smaller too. A mixture of one part is not one of the kind's looks.
    known = {None, *looks(kind, "camera"), *looks(kind, "published")} - {"messenger"}
    recipes = drawn(50 * len(known), weights={kind: 1.0}, count_weights=(0, 1))
    assert known == {
        step.params.get("style") for recipe in recipes for step in recipe.steps if step.kind == kind
    }


def test_cameras_of_dark_pictures_mostly_have_the_standard_curve():
    recipes = [
        recipe for recipe in drawn(160, weights={"low_light": 1.0}, count_weights=(0, 1)) if recipe.camera
    ]
    plain = np.mean([recipe.camera["tone"]["curve"] == "srgb" for recipe in recipes if not parts(recipe)])
    assert len(recipes) > 20 and plain > 0.7


@pytest.mark.slow
def test_weather_comes_first_and_files_last(many):
    for recipe in many:
        if parts(recipe):
            continue  # each part has an order of its own
        ranks = [step.rank for step in recipe.steps]
        assert ranks == sorted(ranks), recipe
        # Steps that act on light follow each other without a break, except for the darkness of papers between
        # weather and lens.
        runs = [linear for linear, _ in groupby(step.linear for step in recipe.steps)]
        assert runs.count(True) <= 1 or "low_light" in recipe.kinds(), recipe


@pytest.mark.slow
def test_sampling_follows_its_generator_and_its_weights():
    assert drawn(40, seed=3) == drawn(40, seed=3) and drawn(40, seed=3) != drawn(40, seed=4)
    for weights in ({"rain": 1.0, "jpeg": 0.5, "haze": 0.0}, {"noise": 1.0}, shares("maps")):
        found = set().union(*(recipe.kinds() for recipe in drawn(150, weights=weights)))
        assert found == {kind for kind, weight in weights.items() if weight > 0}
    assert all(not recipe.steps for recipe in drawn(5, weights={})) and all(
        not recipe.steps for recipe in drawn(5, count_weights=(1,))
    )


@pytest.mark.slow
def test_every_recipe_works_comes_back_and_has_labels(many):
    picture = (
        torch.rand(1, 3, 10, 11, generator=torch.Generator().manual_seed(0))
        .repeat_interleave(5, 2)
        .repeat_interleave(5, 3)
        * 1.8
        - 0.9
    )
    for recipe in many[:250]:
        assert Recipe.from_json(recipe.to_json()) == recipe
        damaged = apply_recipe(picture, recipe)
        assert damaged.isfinite().all() and damaged.shape == picture.shape
        severities, maps = recipe_labels(recipe, 50, 55)
        assert (
            ((severities > 0) == (maps.amax(dim=(1, 2)) > 0)).all()
            and maps.max() <= 1
            and severities.max() <= 1
        )
        assert {KINDS[row] for row in severities.nonzero().flatten().tolist()} <= {
            kind for step in recipe.steps for kind in step.severities()
        }


@pytest.mark.slow
def test_patches_damage_each_part_by_its_own_recipe():
    patched = [recipe for recipe in drawn(350) if parts(recipe)]
    checked = 0
    for recipe in patched:
        first, second = {}, {}
        for step in recipe.steps:
            (second if step.mask.get("rest") else first).update(step.severities())
        _, maps = recipe_labels(recipe, 64, 64)
        for one in set(first) - set(second):
            for other in set(second) - set(first):
                a, b = maps[KINDS.index(one)], maps[KINDS.index(other)]
                # The shares are m and 1 - m: where all of the one is, there is none of the other.
                overlap = (a / max(first[one], 1e-6) * b / max(second[other], 1e-6)).max()
                assert overlap < 0.26
                checked += 1
    assert checked > 5


@pytest.mark.slow
def test_chains_and_mixtures_say_all_that_they_do():
    found = [recipe for recipe in drawn(350) if any(step.kind == "mixture" for step in recipe.steps)]
    assert {recipe.steps[0].params["style"] for recipe in found} == {"realesrgan", "bsrgan", "cdd11"}
    for recipe in found:
        severities, _ = recipe_labels(recipe, 32, 32)
        said = recipe.steps[0].severities()
        assert said and {KINDS[row] for row in severities.nonzero().flatten().tolist()} == set(said) == set(
            recipe.kinds()
        )
        assert recipe.only(tuple(said)) == recipe and not recipe.without(tuple(said)[:1]).steps
    assert any(len(recipe.kinds()) >= 4 for recipe in found)


def test_a_look_alike_is_no_damage():
    generator = torch.Generator().manual_seed(0)
    picture = (
        torch.rand(1, 3, 8, 8, generator=generator).repeat_interleave(8, 2).repeat_interleave(8, 3) * 1.6
        - 0.8
    )
    looks_drawn = [sample_clean(generator) for _ in range(60)]
    assert {recipe.steps[0].params["style"] for recipe in looks_drawn} == set(APART["clean"])
    for recipe in looks_drawn:
        assert not recipe_labels(recipe, 64, 64)[0].any() and recipe.kinds() == ()
        assert (
            not torch.equal(apply_recipe(picture, recipe), picture)
            and Recipe.from_json(recipe.to_json()) == recipe
        )
