"""Damage to pictures, on tensors and from seeds. Pictures are `B 3 H W`, RGB, -1..1."""

from .batch import degrade_batch, recipe_labels
from .kinds import DEGRADATIONS, KINDS, of, primary_from_severity, severity_from_primary, shares
from .presets import AS_NAMED, PRESETS, named_recipe
from .recipe import Recipe, Step, apply_recipe
from .sampling import DEFAULT_COUNTS, DEFAULT_WEIGHTS, preset_recipe, random_mixture, sample_recipe
from .world import random_world, sample_clean, sample_world

__all__ = [
    "AS_NAMED",
    "DEFAULT_COUNTS",
    "DEFAULT_WEIGHTS",
    "DEGRADATIONS",
    "KINDS",
    "PRESETS",
    "Recipe",
    "Step",
    "apply_recipe",
    "degrade_batch",
    "named_recipe",
    "of",
    "preset_recipe",
    "primary_from_severity",
    "random_mixture",
    "random_world",
    "recipe_labels",
    "sample_clean",
    "sample_recipe",
    "sample_world",
    "severity_from_primary",
    "shares",
]
