"""Recipes as training draws them, from papers, from cameras, and from both in one picture.

The plain forms stay, because published tables are made with them. Beside them there are cameras (noise of a
sensor, blur in linear light, short exposures, files), the published looks of the field, second-order chains,
mixtures, and patches with different damage in different parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch

from .apart import APART
from .draw import Draw
from .fields import MASK_KINDS, PATCH_KINDS
from .kinds import of, shares
from .photograph import NestedStyle, draw_camera
from .recipe import Recipe, Step
from .sampling import DEFAULT_COUNTS, choose_kinds, sampled, styled_step

SOURCES = {"plain": 0.34, "camera": 0.25, "published": 0.18, "chain": 0.08, "mixture": 0.05, "patches": 0.10}
"""The share of each source among recipes with damage."""
MILD = 0.2
"""The share of mild recipes among those of plain forms, cameras and papers.

Their right restoration is nearly the picture that came in."""
LOOKS_OF_MANY = {"chain": {"realesrgan": 0.5, "bsrgan": 0.5}, "mixture": {"cdd11": 1.0}}
"""Looks that do several kinds of damage at once, and their shares."""
PATCH_COUNTS = (0.0, 0.7, 0.3)
FAMILY = 0.85
"""How often, in a recipe of papers, a kind comes in a published look and not in its plain form.

It holds for kinds that have one."""


def sample_world(
    generator: torch.Generator,
    *,
    weights: Mapping[str, float] | None = None,
    count_weights=DEFAULT_COUNTS,
    spatial: float = 0.15,
    separable: bool = False,
) -> Recipe:
    """Draw a training recipe from all of `SOURCES`. The parameters are those of `sample_recipe`.

    A look that does a kind of damage that `weights` leave out gives way to the plain form. With `separable`
    so does a look that does several kinds of damage at once, because none of them could be left in alone.
    Raises ValueError for unknown kinds.
    """
    draw = Draw(generator)
    weights = (
        shares("training")
        if weights is None
        else {of(kind).name: weight for kind, weight in weights.items() if weight > 0.0}
    )
    count = draw.index(count_weights)
    if count == 0 or not weights:
        return Recipe()
    source = draw.choice(tuple(SOURCES), tuple(SOURCES.values()))
    if source in LOOKS_OF_MANY:
        names = LOOKS_OF_MANY[source]
        name = draw.choice(tuple(names), tuple(names.values()))
        step = styled_step("mixture", name, draw.uniform(*APART["mixture"][name].severities), draw)
        if set(step.severities()) <= set(weights) and not separable:
            return Recipe((step,))
        source = "plain"
    if source == "patches":
        return _patches(draw, weights, separable)
    mild = draw.uniform() < MILD
    chosen = choose_kinds(draw, weights, count)
    camera = draw_camera(draw, dark="low_light" in chosen)
    steps = [
        _step(draw, kind, source, camera, mild, {kind} if separable else set(weights)) for kind in chosen
    ]
    if draw.uniform() < spatial:
        place = draw.index([1.0] * len(steps))
        steps[place] = replace(steps[place], mask={"seed": draw.seed(), "kind": draw.choice(MASK_KINDS)})
    return _recipe(in_order(steps), camera)


def random_world(seed: int) -> Recipe:
    """Draw one to three damages from all sources from `seed`; never the clean picture."""
    return sample_world(torch.Generator().manual_seed(seed), count_weights=(0.0, *DEFAULT_COUNTS[1:]))


def sample_clean(generator: torch.Generator) -> Recipe:
    """Draw a change of the clean picture that looks like damage and is none.

    Examples are a pale wall, a night scene, and grain that belongs to the picture.
    """
    draw, known = Draw(generator), APART["clean"]
    name = draw.choice(tuple(known), [look.share for look in known.values()])
    return Recipe((styled_step("clean", name, draw.uniform(*known[name].severities), draw),))


def in_order(steps: list[Step]) -> list[Step]:
    """Sort steps as weather, lens, sensor and file follow each other.

    At the same rank steps on display values come first, so that the tone curve is undone only once.
    """
    return sorted(steps, key=lambda step: (step.rank, step.linear))


def looks(kind: str, source: str) -> dict[str, float]:
    """Return the names and shares of a kind's looks by a camera ("camera") or by papers ("published")."""
    return {
        name: look.share
        for name, look in of(kind).styles.items()
        if isinstance(look, NestedStyle) == (source == "camera")
    }


def _recipe(steps: list[Step], camera: dict | None) -> Recipe:
    return Recipe(tuple(steps), camera if any(step.linear for step in steps) else None)


def _step(draw: Draw, kind: str, source: str, camera: dict, mild: bool, allowed: set) -> Step:
    """Draw one step of a kind in a look of `source`, or of the other source where this one has none.

    The step does no kind of damage outside of `allowed`.
    """
    degradation = of(kind)
    own = looks(kind, source)
    names = own or looks(kind, "published" if source == "camera" else "camera")
    # A recipe of a camera uses camera looks throughout: a plain form between two of its stages would separate
    # them.
    plain = draw.uniform() > FAMILY and source == "published" and own
    if source != "plain" and names and not plain:
        name = draw.choice(tuple(names), tuple(names.values()))
        severity = draw.uniform(*(degradation.mild if mild else degradation.styles[name].severities))
        step = styled_step(kind, name, severity, draw, camera=camera)
        if set(step.severities()) <= allowed:
            return step
    severity, params = sampled(kind, draw)
    if mild:
        severity = draw.uniform(*degradation.mild)
        params = {**params, degradation.primary: degradation.value(severity)}
    return Step(kind, severity, draw.seed(), params)


def _patches(draw: Draw, weights: Mapping[str, float], separable: bool) -> Recipe:
    """Draw two recipes, one for a part of the picture and one for the rest.

    CutMix combines pictures in this way (Yun et al., ICCV 2019).
    """
    camera = draw_camera(draw)
    part = {"seed": draw.seed(), "kind": draw.choice(PATCH_KINDS)}
    steps = []
    for mask in (part, {**part, "rest": True}):
        source = draw.choice(("plain", "camera", "published"))
        kinds = choose_kinds(draw, weights, draw.index(PATCH_COUNTS))
        own = [
            _step(draw, kind, source, camera, draw.uniform() < MILD, {kind} if separable else set(weights))
            for kind in kinds
        ]
        # One side in five is left as it was.
        if mask is part or draw.uniform() < 0.8:
            steps += [replace(step, mask=mask) for step in in_order(own)]
    return _recipe(steps, camera)
