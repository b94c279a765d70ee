"""What training draws: how often from where, in which order, mild or not, and with which labels."""

import json

import numpy as np
import pytest
import torch
from aior_pack.aior_core.degradations import KINDS, Recipe, apply_recipe, of, recipe_labels, sample_world, shares
from aior_pack.aior_core.degradations.world import CHAINED, looks

COUNTS = (0.05, 0.52, 0.25, 0.18)


def drawn(count, seed=7, **options):
    generator = torch.Generator().manual_seed(seed)
    return [sample_world(generator, **{"count_weights": COUNTS, **options}) for _ in range(count)]


@pytest.fixture(scope="module")
def many():
    return drawn(1200)


def parts(recipe):
    return {json.dumps({**step.mask, "rest": False}) for step in recipe.steps if step.mask and "rest" in step.mask}


def test_shares_are_those_of_the_design(many):
    clean = np.mean([not recipe.steps for recipe in many])
    assert clean == pytest.approx(0.05, abs=0.02)
    assert np.mean([recipe.camera is not None for recipe in many]) > 0.18
    assert np.mean([bool(parts(recipe)) for recipe in many]) == pytest.approx(0.10 * 0.8 * 0.95, abs=0.03)
    plain = np.mean([all(step.style is None for step in recipe.steps) for recipe in many])
    assert 0.35 < plain < 0.75
    styles = {(step.kind, step.params.get("style")) for recipe in many for step in recipe.steps}
    wanted = {(kind, name) for kind in KINDS for source in ("camera", "published") for name in looks(kind, source)}
    assert wanted <= styles and {(kind, None) for kind in KINDS} <= styles
    hardly = [max((step.severity / of(step.kind).mild[1] for step in recipe.steps), default=0.0) <= 1.0 for recipe in many]
    assert 0.1 < np.mean(hardly) < 0.3


def test_weather_comes_first_and_files_last(many):
    for recipe in many:
        masks = [json.dumps(step.mask) for step in recipe.steps]
        chain = set(recipe.kinds()) <= set(CHAINED) and all(step.style is None for step in recipe.steps)
        if parts(recipe) or chain:
            continue  # these have an order of their own
        ranks = [step.rank for step in recipe.steps]
        assert ranks == sorted(ranks), recipe
        # What acts on light is done in one go, unless weather of papers is between.
        linear = [step.linear for step in recipe.steps if step.rank > 0]
        assert linear == sorted(linear, reverse=True) or not any(linear) or len(set(masks)) > 1, recipe


def test_sampling_follows_its_generator_and_its_weights():
    assert drawn(40, seed=3) == drawn(40, seed=3) and drawn(40, seed=3) != drawn(40, seed=4)
    for weights in ({"rain": 1.0, "jpeg": 0.5, "haze": 0.0}, {"noise": 1.0}, shares("maps")):
        found = set().union(*(recipe.kinds() for recipe in drawn(150, weights=weights)))
        assert found == {kind for kind, weight in weights.items() if weight > 0}
    assert all(not recipe.steps for recipe in drawn(5, weights={})) and all(not recipe.steps for recipe in drawn(5, count_weights=(1,)))


def test_every_recipe_works_comes_back_and_has_labels(many):
    picture = torch.rand(1, 3, 10, 11, generator=torch.Generator().manual_seed(0)).repeat_interleave(5, 2).repeat_interleave(5, 3) * 1.8 - 0.9
    for recipe in many[:250]:
        assert Recipe.from_json(recipe.to_json()) == recipe
        damaged = apply_recipe(picture, recipe)
        assert damaged.isfinite().all() and damaged.shape == picture.shape
        severities, maps = recipe_labels(recipe, 50, 55)
        assert ((severities > 0) == (maps.amax(dim=(1, 2)) > 0)).all() and maps.max() <= 1 and severities.max() <= 1
        assert {KINDS[row] for row in severities.nonzero().flatten().tolist()} <= {kind for step in recipe.steps for kind in step.severities()}


def test_patches_damage_each_part_by_its_own_recipe():
    patched = [recipe for recipe in drawn(600) if parts(recipe)]
    checked = 0
    for recipe in patched:
        first = [kind for step in recipe.steps if not step.mask.get("rest") for kind in step.severities()]
        second = [kind for step in recipe.steps if step.mask.get("rest") for kind in step.severities()]
        _, maps = recipe_labels(recipe, 64, 64)
        for one in set(first) - set(second):
            for other in set(second) - set(first):
                a, b = maps[KINDS.index(one)], maps[KINDS.index(other)]
                # Where all of the one is, there is none of the other.
                overlap = (a / a.max().clamp_min(1e-6) * b / b.max().clamp_min(1e-6)).max()
                assert overlap < 0.6
                checked += 1
    assert checked > 10


def test_a_chain_has_its_kinds_twice_and_ends_in_a_file():
    chains = [recipe for recipe in drawn(900) if len(recipe.steps) > len(recipe.kinds()) and not parts(recipe)]
    assert len(chains) > 20 and all(recipe.steps[-1].kind == "jpeg" and set(recipe.kinds()) <= set(CHAINED) for recipe in chains)
    assert len({recipe.kinds() for recipe in chains}) > 10
