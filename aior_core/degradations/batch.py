"""A training batch: one recipe per picture, and the labels that the degradation head learns from."""

import torch
import torch.nn.functional as F

from .kinds import KINDS
from .photograph import scene_depth
from .recipe import Recipe, Step, apply_recipe, step_mask

CELL = 8


def degrade_batch(pictures: torch.Tensor, recipes) -> tuple:
    """Damage `pictures` (`B 3 H W`, -1..1), each by its own recipe.

    Returns `(lq, severities, maps)`: `B 3 H W` in -1..1, `B K` and `B K ceil(H/8) ceil(W/8)` in 0..1, with
    the kinds in the order of `KINDS`. Raises ValueError unless there is one recipe per picture.
    """
    recipes = list(recipes)
    if pictures.ndim != 4 or len(recipes) != pictures.shape[0]:
        raise ValueError(
            f"degrade_batch: {len(recipes)} recipes for pictures of shape {tuple(pictures.shape)}; "
            "expected B 3 H W and B recipes"
        )
    lq = torch.cat([apply_recipe(picture[None], recipe) for picture, recipe in zip(pictures, recipes)])
    labels = [recipe_labels(recipe, *pictures.shape[-2:]) for recipe in recipes]
    severities = torch.stack([severity for severity, _ in labels])
    maps = torch.stack([coarse for _, coarse in labels])
    return lq, severities.to(pictures.device), maps.to(pictures.device)


def recipe_labels(recipe: Recipe, height: int, width: int) -> tuple:
    """Return `(severities [K], maps [K, ceil(H/8), ceil(W/8)])` on the CPU, where K is the number of kinds.

    A step with a mask counts with `severity * mean(mask)` for the picture and with `severity * mask`,
    area-pooled, in the map. A kind that occurs twice counts with its maximum. Where a look says how its
    damage is spread, the map has `severity` where most of the damage is. The picture has that severity too,
    or, for looks that ask for it, the mean over its places.
    """
    severities = torch.zeros(len(KINDS))
    maps = torch.zeros(len(KINDS), -(-height // CELL), -(-width // CELL))
    for step in recipe.steps:
        mask = step_mask(step, height, width)
        share = 1.0 if mask is None else mask.mean().item()
        coarse = torch.ones_like(maps[0]) if mask is None else _pooled(mask)
        spread = _spread(step, recipe.camera, height, width)
        if spread is not None and not spread.any():
            continue  # so few drops that none fell on this picture
        if spread is not None and step.style.averaged:
            share *= spread.mean().item()
        for kind, severity in step.severities().items():
            row = KINDS.index(kind)
            severities[row] = max(severities[row].item(), severity * share)
            where = coarse if spread is None or kind != step.kind else coarse * spread
            maps[row] = torch.maximum(maps[row], where * severity)
    return severities, maps


def _spread(step: Step, camera: dict | None, height: int, width: int) -> torch.Tensor | None:
    """Return the share of a step's damage in each cell, `h w` in 0..1, with 1 where most of it is.

    None stands for looks that are the same everywhere.
    """
    if step.severity <= 0.0 or step.style is None or step.style.where is None:
        return None
    options = {}
    if camera is not None and step.linear and step.style.takes_depth:
        options["depth"] = scene_depth(camera, height, width)
    truth = _pooled(step.style.truth(step.params, step.seed, height, width, **options))
    return truth / truth.max().clamp_min(1e-6)


def _pooled(field: torch.Tensor) -> torch.Tensor:
    return F.avg_pool2d(field[None, None], CELL, ceil_mode=True)[0, 0]
