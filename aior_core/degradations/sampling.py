"""Recipes that are drawn at random by the shares of the kinds, and single steps in their plain form or in a
look.
"""

import torch

from .apart import APART
from .draw import Draw
from .fields import MASK_KINDS
from .kinds import KINDS, look_of, of, shares
from .recipe import Recipe, Step

DEFAULT_WEIGHTS = shares("any")
DEFAULT_COUNTS = (0.05, 0.60, 0.25, 0.10)


def sample_recipe(
    generator: torch.Generator,
    *,
    kinds=KINDS,
    weights=None,
    count_weights=DEFAULT_COUNTS,
    spatial: float = 0.15,
) -> Recipe:
    """Draw a training recipe of plain forms.

    weights: the relative frequency of each kind (None: noise 0.28, the others equal). count_weights:
        `count_weights[n]` is the relative frequency of n damages at once, all of different kinds. spatial:
        the share of recipes in which one step gets a mask.

    The steps come in physical order. Rain, snow and haze come in random order among themselves.
    """
    draw = Draw(generator)
    weights = DEFAULT_WEIGHTS if weights is None else weights
    pool = {of(kind).name: float(weights.get(kind, 0.0)) for kind in kinds}
    chosen = choose_kinds(draw, pool, draw.index(count_weights))
    # The kinds were drawn in random order, and the sort is stable: weather keeps a random order within its
    # rank.
    chosen.sort(key=lambda kind: of(kind).rank)
    masked = draw.index([1.0] * len(chosen)) if chosen and draw.uniform() < spatial else -1
    steps = []
    for position, kind in enumerate(chosen):
        severity, params = sampled(kind, draw)
        seed = draw.seed()
        mask = {"seed": draw.seed(), "kind": draw.choice(MASK_KINDS)} if position == masked else None
        steps.append(Step(kind, severity, seed, params, mask))
    return Recipe(tuple(steps))


def choose_kinds(draw: Draw, weights, count: int) -> list:
    """Draw `count` different kinds by their weights, in random order.

    There are fewer where fewer kinds have a weight above 0.
    """
    pool = {kind: weight for kind, weight in weights.items() if weight > 0.0}
    chosen: list[str] = []
    while pool and len(chosen) < count:
        kind = draw.choice(tuple(pool), tuple(pool.values()))
        del pool[kind]
        chosen.append(kind)
    return chosen


def styled_step(
    kind: str,
    style: str,
    severity: float,
    draw: Draw,
    *,
    camera: dict | None = None,
    mask: dict | None = None,
) -> Step:
    """Draw one step of `kind` in one of its styles, at about `severity` in 0..1.

    A style that acts on light needs `camera`. The severity of the step is what its primary parameter stands
    for. Raises ValueError for a style that the kind does not have.
    """
    look = look_of(kind, {"style": style})
    if look is None:
        raise ValueError(
            f"degradations: no style of {kind} is named; expected one of {', '.join(of(kind).styles)}"
        )
    options = {"camera": camera} if look.linear else {}
    params = {"style": style, **look.draw(draw, severity, **options)}
    if kind not in APART and of(kind).primary in params:
        severity = of(kind).severity(params[of(kind).primary])
    return Step(kind, round(severity, 6), draw.seed(), params, mask)


def sampled(kind: str, draw: Draw) -> tuple:
    """Draw `(severity, params)` of one training step of `kind` in its plain form."""
    degradation = of(kind)
    severity, style = degradation.sample(draw)
    return severity, {degradation.primary: degradation.value(severity), **style}


def random_mixture(seed: int) -> Recipe:
    """Draw one to three damages from `seed` as training mixes plain forms; never the clean picture."""
    return sample_recipe(torch.Generator().manual_seed(seed), count_weights=(0.0, *DEFAULT_COUNTS[1:]))


def preset_recipe(kind: str, severity: float, seed: int, **params) -> Recipe:
    """Return one step of `kind` with typical parameters, some of them replaced by `params`.

    A primary parameter that is given (`sigma`, `scale`, `amount`, `beta`, `stops`, `quality`) overrides
    `severity`. Raises ValueError for unknown kinds, parameters or choices, and for severities outside of
    0..1.
    """
    severity, params = of(kind).preset(severity, params)
    return Recipe((Step(kind, severity, int(seed), params),))
