"""Mixtures with everyday names: how a picture looks that was taken, sent or kept in a certain way.

At the severity `AS_NAMED` a preset is what its name says. Less severity is a milder case, more a worse one.
The steps come in physical order, except where the name asks for another one: behind a windscreen the view is
blurred, and the drops on the glass are not.
"""

from dataclasses import replace

import torch

from .apart import APART
from .draw import Draw
from .kinds import DEGRADATIONS
from .photograph import draw_camera
from .recipe import Recipe, Step
from .sampling import preset_recipe, styled_step

AS_NAMED = 0.5
"""The severity at which a preset is as its name says. Its steps then have the severities of `_PRESETS`."""

# For each name the steps in the order in which they are applied. A step is (kind, severity, parameters that
# replace the typical ones).
_PRESETS = {
    "phone at night": (
        ("low_light", 0.5, {"tint": [1.06, 1.0, 0.9], "shot": 0.035, "read": 0.025}),
        ("blur", 0.2, {"shape": "motion", "bend": 0.8}),
        ("noise", 0.2, {"model": "poisson"}),
        ("jpeg", 0.35, {}),
    ),
    "rainy night": (
        ("rain", 0.45, {"light": 0.8, "angle": -10.0}),
        ("low_light", 0.4, {"tint": [0.94, 1.0, 1.07]}),
        ("noise", 0.2, {"model": "poisson"}),
    ),
    "rainy windscreen": (
        ("haze", 0.3, {"slope": 0.2, "rough": 0.5, "cue": 0.1}),
        ("blur", 0.4, {"shape": "disc"}),
        ("rain", 0.35, {"length": 28.0, "width": 1.2, "angle": 4.0, "veil": 0.3}),
    ),
    "downpour": (("haze", 0.3, {}), ("rain", 0.9, {"length": 32.0, "veil": 0.25, "angle": 20.0})),
    "snowfall": (("haze", 0.2, {"light": [0.92, 0.93, 0.95]}), ("snow", 0.6, {})),
    "foggy morning": (
        ("haze", 0.75, {"light": [0.82, 0.84, 0.87], "slope": 0.9}),
        ("noise", 0.06, {"model": "poisson"}),
    ),
    "shaky hand": (("blur", 0.55, {"shape": "motion", "bend": 1.0}), ("noise", 0.08, {"model": "poisson"})),
    "out of focus": (("blur", 0.6, {"shape": "disc"}),),
    "high ISO": (("noise", 0.5, {"model": "poisson"}), ("jpeg", 0.1, {})),
    "film scan": (
        ("haze", 0.22, {"light": [0.86, 0.78, 0.66], "slope": 0.05, "rough": 0.1, "cue": 0.0}),
        ("blur", 0.25, {}),
        ("noise", 0.16, {"model": "grey"}),
    ),
    "old JPEG": (("low_resolution", 0.15, {}), ("jpeg", 0.9, {})),
    "web thumbnail": (("low_resolution", 0.67, {"kernel": "area"}), ("jpeg", 0.6, {})),
    "messenger photo": (("low_resolution", 0.33, {"kernel": "bilinear"}), ("jpeg", 0.75, {})),
    "cheap webcam": (
        ("low_light", 0.2, {"tint": [0.96, 1.02, 1.04]}),
        ("low_resolution", 0.35, {"kernel": "bilinear"}),
        ("noise", 0.25, {}),
        ("jpeg", 0.65, {}),
    ),
}

# The same for looks. A step is (kind, style, severity).
_OF_LOOKS = {
    "phone at night, real sensor": (
        ("low_light", "camera", 0.35),
        ("blur", "camera", 0.2),
        ("noise", "camera", 0.25),
        ("jpeg", "camera", 0.3),
    ),
    "security camera": (
        ("low_light", "camera", 0.2),
        ("noise", "camera", 0.22),
        ("low_resolution", "reduced", 0.45),
        ("jpeg", "camera", 0.75),
    ),
    "old film scan": (("clean", "film", 0.5), ("blur", "camera", 0.2), ("noise", "film", 0.22)),
    "messenger picture": (("noise", "camera", 0.04), ("jpeg", "messenger", 0.6)),
    "reposted picture": (("mixture", "realesrgan", 0.5),),
    "dashcam in the rain": (
        ("rain", "camera", 0.45),
        ("haze", "camera", 0.2),
        ("blur", "camera", 0.2),
        ("noise", "camera", 0.1),
        ("jpeg", "camera", 0.5),
    ),
    "drops on the lens": (("rain", "lens_drops", 0.45),),
    "fog on the road": (("haze", "camera", 0.6), ("noise", "camera", 0.05)),
    "blizzard": (("haze", "camera", 0.2), ("snow", "camera", 0.6)),
    "night street": (("low_light", "night", 0.55), ("jpeg", "camera", 0.25)),
    "something moved": (("blur", "camera", 0.55),),
    "digital zoom": (("noise", "camera", 0.12), ("low_resolution", "reduced", 0.6), ("jpeg", "camera", 0.35)),
}


def _single_looks() -> dict[str, tuple]:
    """Return every look alone, by "kind: look", at the severity that is asked for."""
    of_kinds = {
        f"{each.label}: {name}": (each.name, name, AS_NAMED) for each in DEGRADATIONS for name in each.styles
    }
    return {
        name: (step,)
        for name, step in (
            of_kinds | {f"mixture: {name}": ("mixture", name, AS_NAMED) for name in APART["mixture"]}
        ).items()
    }


_LOOKS = _OF_LOOKS | _single_looks()
PRESETS = (*_PRESETS, *_LOOKS)


def named_recipe(name: str, severity: float, seed: int) -> Recipe:
    """Return the mixture called `name` (of `PRESETS`). Each step draws from its own seed, counted from
    `seed`.

    severity: 0..1. `AS_NAMED` is the case that the name speaks of, and 0 leaves the picture as it is. The
    severities of all steps go in proportion, up to 1. Raises ValueError for an unknown name or a severity
    outside of 0..1.
    """
    if name not in PRESETS:
        raise ValueError(
            f"degradations: unknown preset {str(name)[:60]!r}; expected one of {', '.join(PRESETS)}"
        )
    if not 0.0 <= severity <= 1.0:
        raise ValueError(f"degradations: severity of {name} is {severity}; expected a number in 0..1")
    if name in _LOOKS:
        return _of_looks(_LOOKS[name], severity, int(seed))
    steps: list[Step] = []
    for index, (kind, usual, params) in enumerate(_PRESETS[name]):
        of_step = round(min(1.0, usual * severity / AS_NAMED), 6)
        steps += preset_recipe(kind, of_step, int(seed) + index, **params).steps
    return Recipe(tuple(steps))


def _of_looks(wanted: tuple, severity: float, seed: int) -> Recipe:
    """Return the steps of `wanted` in their looks, all by one camera.

    The random part of the looks comes from the seed and is the same for every severity.
    """
    dark = any(kind == "low_light" for kind, _, _ in wanted)
    camera = draw_camera(Draw(torch.Generator().manual_seed(seed)), dark=dark)
    steps = []
    for index, (kind, style, usual) in enumerate(wanted):
        of_step = round(min(1.0, usual * severity / AS_NAMED), 6)
        draw = Draw(torch.Generator().manual_seed(seed + index))
        step = styled_step(kind, style, of_step, draw, camera=camera)
        # A look that is no damage has no severity. It is either there or not.
        steps.append(replace(step, seed=seed + index, severity=step.severity if severity > 0.0 else 0.0))
    return Recipe(tuple(steps), camera if any(step.linear for step in steps) else None)
