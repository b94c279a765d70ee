"""Mixtures named as people speak: what a picture looks like that was taken, sent or kept in a certain way.

A preset is what its name says at `AS_NAMED`; less severity is a milder case of the same, more a worse one. Steps come in
physical order, but where the name asks for another one: behind a windscreen the view is blurred and the drops on it are not.
"""

from .recipe import Recipe, preset_recipe

AS_NAMED = 0.5
"""The severity at which a preset is as its name says: its steps then have the severities of `_PRESETS`."""

# name: steps in the order in which they are applied, each (kind, severity, parameters that replace the typical ones)
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
    "foggy morning": (("haze", 0.75, {"light": [0.82, 0.84, 0.87], "slope": 0.9}), ("noise", 0.06, {"model": "poisson"})),
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

PRESETS = tuple(_PRESETS)


def named_recipe(name: str, severity: float, seed: int) -> Recipe:
    """The mixture called `name` (of `PRESETS`); each step draws from a seed of its own, counted from `seed`.

    severity: 0..1; `AS_NAMED` is the case that the name speaks of, 0 leaves the picture as it is, and every step's severity goes in
    proportion, up to 1. Raises ValueError for an unknown name or a severity outside of 0..1.
    """
    if name not in _PRESETS:
        raise ValueError(f"degradations: unknown preset {str(name)[:60]!r}; expected one of {', '.join(PRESETS)}")
    if not 0.0 <= severity <= 1.0:
        raise ValueError(f"degradations: severity of {name} is {severity}; expected a number in 0..1")
    steps = []
    for index, (kind, usual, params) in enumerate(_PRESETS[name]):
        of_step = round(min(1.0, usual * severity / AS_NAMED), 6)
        steps += preset_recipe(kind, of_step, int(seed) + index, **params).steps
    return Recipe(tuple(steps))
