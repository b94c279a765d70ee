"""A training batch: one recipe per picture, and the labels that the degradation head learns from."""

import torch
import torch.nn.functional as F

from .kinds import KINDS
from .recipe import Recipe, apply_recipe, step_mask

CELL = 8


def degrade_batch(pictures: torch.Tensor, recipes) -> tuple:
    """Damage ``pictures`` (``B 3 H W``, -1..1), each by its own recipe.

    Returns ``(lq, severities, maps)``: ``B 3 H W`` in -1..1, ``B 8`` and ``B 8 ceil(H/8) ceil(W/8)`` in 0..1, kinds in the
    order of ``KINDS``. Raises ValueError when there is not one recipe per picture.
    """
    recipes = list(recipes)
    if pictures.ndim != 4 or len(recipes) != pictures.shape[0]:
        raise ValueError(
            f"degrade_batch: {len(recipes)} recipes for pictures of shape {tuple(pictures.shape)}; expected B 3 H W and B recipes"
        )
    lq = torch.cat([apply_recipe(picture[None], recipe) for picture, recipe in zip(pictures, recipes)])
    labels = [recipe_labels(recipe, *pictures.shape[-2:]) for recipe in recipes]
    severities = torch.stack([severity for severity, _ in labels])
    maps = torch.stack([coarse for _, coarse in labels])
    return lq, severities.to(pictures.device), maps.to(pictures.device)


def recipe_labels(recipe: Recipe, height: int, width: int) -> tuple:
    """``(severities [8], maps [8, ceil(H/8), ceil(W/8)])`` on the CPU.

    A masked step counts with ``severity * mean(mask)`` globally and ``severity * mask``, area-pooled, in the map; a kind that
    occurs twice counts with its maximum.
    """
    severities = torch.zeros(len(KINDS))
    maps = torch.zeros(len(KINDS), -(-height // CELL), -(-width // CELL))
    for step in recipe.steps:
        row = KINDS.index(step.kind)
        mask = step_mask(step, height, width)
        if mask is None:
            share, coarse = 1.0, torch.ones_like(maps[row])
        else:
            share = mask.mean().item()
            coarse = F.avg_pool2d(mask[None, None], CELL, ceil_mode=True)[0, 0]
        severities[row] = max(severities[row].item(), step.severity * share)
        maps[row] = torch.maximum(maps[row], coarse * step.severity)
    return severities, maps
