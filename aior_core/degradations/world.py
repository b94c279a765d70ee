"""Recipes as training draws them: damage as papers make it, as cameras make it, and as it meets in one picture.

Plain forms stay, as published tables are made with them. Beside them come cameras (noise of a sensor, blur in linear light, short exposures,
files), the field's published looks, chains of damage of the second order, and patches: different damage in different parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch

from .draw import Draw
from .fields import MASK_KINDS, PATCH_KINDS
from .kinds import of, shares
from .photograph import NestedStyle, draw_camera
from .recipe import DEFAULT_COUNTS, Recipe, Step, choose_kinds, sampled, styled_step

SOURCES = {"plain": 0.36, "camera": 0.26, "published": 0.20, "chain": 0.08, "patches": 0.10}
"""How often recipes with damage come from where."""
MILD = 0.2
"""Of those of plain forms, cameras and papers so many are mild: there the right answer is nearly the picture that came in."""
CHAINED = ("blur", "low_resolution", "noise", "jpeg")
PATCH_COUNTS = (0.0, 0.7, 0.3)
FAMILY = 0.85
"""In a recipe of papers, how often a kind comes in a look of theirs, if it has one, and not in its plain form."""


def sample_world(
    generator: torch.Generator, *, weights: Mapping[str, float] | None = None, count_weights=DEFAULT_COUNTS, spatial: float = 0.15
) -> Recipe:
    """Draw a training recipe from all of `SOURCES`; the parameters are those of `sample_recipe`.

    Sources that need kinds which `weights` leaves out do not occur. Raises ValueError for unknown kinds.
    """
    draw = Draw(generator)
    weights = shares("training") if weights is None else {of(kind).name: weight for kind, weight in weights.items() if weight > 0.0}
    count = draw.index(count_weights)
    if count == 0 or not weights:
        return Recipe()
    sources = {name: share for name, share in SOURCES.items() if name != "chain" or set(CHAINED) <= set(weights)}
    source = draw.choice(tuple(sources), tuple(sources.values()))
    if source == "chain":
        return _chain(draw)
    if source == "patches":
        return _patches(draw, weights)
    mild = draw.uniform() < MILD
    camera = draw_camera(draw) if source == "camera" else None
    steps = [_step(draw, kind, source, camera, mild) for kind in choose_kinds(draw, weights, count)]
    if draw.uniform() < spatial:
        place = draw.index([1.0] * len(steps))
        steps[place] = replace(steps[place], mask={"seed": draw.seed(), "kind": draw.choice(MASK_KINDS)})
    return _recipe(in_order(steps), camera)


def in_order(steps: list[Step]) -> list[Step]:
    """Steps as light, lens, sensor and file do them; of the same place those on display values first, so that light is undone once."""
    return sorted(steps, key=lambda step: (step.rank, step.linear))


def looks(kind: str, source: str) -> dict[str, float]:
    """The names and shares of a kind's looks that a camera makes ("camera"), or that papers do ("published")."""
    return {name: look.share for name, look in of(kind).styles.items() if isinstance(look, NestedStyle) == (source == "camera")}


def _recipe(steps: list[Step], camera: dict | None) -> Recipe:
    return Recipe(tuple(steps), camera if any(step.linear for step in steps) else None)


def _step(draw: Draw, kind: str, source: str, camera: dict | None, mild: bool) -> Step:
    """One step of a kind, in a look of the source where it has one."""
    degradation = of(kind)
    own = looks(kind, source)
    names = own or looks(kind, "published")
    # A camera does all that it can: a plain form between two of its stages would part them.
    plain = draw.uniform() > FAMILY and not (source == "camera" and own)
    if source == "plain" or not names or plain:
        severity, params = sampled(kind, draw)
        if mild:
            severity = draw.uniform(*degradation.mild)
            params = {**params, degradation.primary: degradation.value(severity)}
        return Step(kind, severity, draw.seed(), params)
    name = draw.choice(tuple(names), tuple(names.values()))
    look = degradation.styles[name]
    severity = draw.uniform(*(degradation.mild if mild else look.severities))
    return styled_step(kind, name, severity, draw, camera=camera)


def _chain(draw: Draw) -> Recipe:
    """Blur, reduction, noise and JPEG, twice, the second time weaker or not at all, in shuffled order; JPEG last.

    The degradation models of BSRGAN (Zhang et al., ICCV 2021, shuffled order) and Real-ESRGAN (Wang et al., ICCVW 2021, second order).
    """
    steps = []
    for strength in (1.0, 0.6):
        around = [kind for kind in CHAINED if draw.uniform() < (0.85 if strength == 1.0 else 0.6)]
        shuffled = []
        while around:
            shuffled.append(around.pop(draw.index([1.0] * len(around))))
        steps += [_link(draw, kind, strength) for kind in shuffled]
    if not steps or steps[-1].kind != "jpeg":
        steps.append(_link(draw, "jpeg", 0.8))
    return Recipe(tuple(steps))


def _link(draw: Draw, kind: str, strength: float) -> Step:
    """One step of a chain: none of them is as strong as it may be alone."""
    degradation = of(kind)
    _, params = sampled(kind, draw)
    low, high = degradation.mild[0], 0.6 * strength
    severity = draw.uniform(low, max(low, high))
    # Noise that is not clipped has no place before a file.
    params = {**params, degradation.primary: degradation.value(severity), **({"clip": True} if "clip" in params else {})}
    return Step(kind, severity, draw.seed(), params)


def _patches(draw: Draw, weights: Mapping[str, float]) -> Recipe:
    """Two recipes, one in a part of the picture, the other in the rest (as CutMix does with pictures: Yun et al., ICCV 2019)."""
    camera = draw_camera(draw)
    part = {"seed": draw.seed(), "kind": draw.choice(PATCH_KINDS)}
    steps = []
    for mask in (part, {**part, "rest": True}):
        source = draw.choice(("plain", "camera", "published"))
        kinds = choose_kinds(draw, weights, draw.index(PATCH_COUNTS))
        own = [_step(draw, kind, source, camera, draw.uniform() < MILD) for kind in kinds]
        # One side in five is left as it was.
        if mask is part or draw.uniform() < 0.8:
            steps += [replace(step, mask=mask) for step in in_order(own)]
    return _recipe(steps, camera)
