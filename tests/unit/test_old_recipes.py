"""Recipes from before the registry of degradations still make the very same picture, and seeds the same
recipe.
"""

import json
from pathlib import Path

import pytest
import torch
from aior_pack.aior_core.degradations import (
    PRESETS,
    Recipe,
    apply_recipe,
    named_recipe,
    random_mixture,
    sample_recipe,
)

KEPT = json.loads((Path(__file__).parent / "old_recipes.json").read_text(encoding="utf-8"))
"""What the code of 2026-12-01 made: recipes as text, and for each the mean, the spread and 24 values of what
it makes of `scene`."""


def scene(height=56, width=72):
    """Return `1 3 H W` in -1..1: ramps, blocks and fine texture."""
    generator = torch.Generator().manual_seed(20)
    rows = torch.linspace(0, 1, height)[:, None].expand(height, width)
    columns = torch.linspace(0, 1, width)[None].expand(height, width)
    base = torch.stack((0.2 + 0.5 * rows, 0.6 - 0.4 * columns, 0.3 + 0.3 * rows * columns))
    block = (
        torch.rand(3, height // 8, width // 8, generator=generator)
        .repeat_interleave(8, 1)
        .repeat_interleave(8, 2)
    )
    fine = torch.rand(3, height, width, generator=generator)
    return (0.6 * base + 0.3 * block + 0.1 * fine)[None] * 2 - 1


@pytest.mark.parametrize("index", range(len(KEPT["cases"])))
def test_an_old_recipe_makes_the_same_picture(index):
    case = KEPT["cases"][index]
    recipe = Recipe.from_json(case["recipe"])
    assert recipe.to_json() == case["recipe"]
    damaged = apply_recipe(scene(), recipe)
    at = torch.randperm(damaged.numel(), generator=torch.Generator().manual_seed(21))[:24]
    # Values are kept to five decimals. The rounding of a processor is smaller than that, and a level of 255
    # is 0.0078.
    torch.testing.assert_close(damaged.flatten()[at], torch.tensor(case["pixels"]), atol=3e-5, rtol=0)
    assert damaged.mean().item() == pytest.approx(case["mean"], abs=5e-6)
    assert damaged.std().item() == pytest.approx(case["std"], abs=5e-6)


def test_old_names_and_seeds_give_the_same_recipes():
    assert set(KEPT["named"]) <= set(PRESETS)
    for name, text in KEPT["named"].items():
        assert named_recipe(name, 0.5, 7).to_json() == text
    for seed, text in KEPT["mixtures"].items():
        assert random_mixture(int(seed)).to_json() == text


def test_sampling_by_weights_draws_as_it_did():
    generator = torch.Generator().manual_seed(5)
    drawn = [
        sample_recipe(generator, spatial=1.0, count_weights=(0, 0.5, 0.3, 0.2)).to_json()
        for _ in KEPT["masked"]
    ]
    assert drawn == KEPT["masked"]
