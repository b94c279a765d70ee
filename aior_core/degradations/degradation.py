"""The record that says everything about one degradation. `kinds/` has one file per degradation."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch

from .draw import Draw
from .limits import require_choice, require_number
from .published.style import Style

MIXES = ("any", "training", "training of three", "keep", "maps", "tone", "polish", "hold")
"""The occasions on which pictures are damaged at random.

"any" is for recipes that are drawn without weights. The others are stages of training with shares of their
own: "training" for the restoring stages with one or two damages, "training of three" for three, "keep",
"maps" and "tone" for the stages of these names, "polish" for what the stage polish learns by its squared
error, and "hold" for what that stage holds to what it was."""
WORD = re.compile(r"[a-z][a-z0-9_]{0,39}")


@dataclass(frozen=True)
class Degradation:
    """Everything about one kind of damage.

    name: its name in recipes, weights and node inputs.
    number: its row in every label and in the weights, from 0 on without a gap. It never changes.
    label: its name in reports.
    steered, trained: its names in *Steer Degradations* and *Train AIOR Restorer*.
    meaning: what severity 1 is.
    primary: the parameter that carries the severity. Its value is `line[0] + line[1] * severity`, a whole
        number where `whole` is set. A value beyond severity 1 counts as severity 1.
    severities, mild: the ranges that training draws from, in general and for damage that is hardly visible.
    rank: its place when several damages are applied, small first.
    typical: the parameters of presets, beside the primary one.
    sample: `draw -> (severity, params)` of one training sample in the plain form.
    apply: the plain form, on sRGB values in 0..1, `B 3 H W`. It takes `depth` where `takes_depth` is set.
    limits, choices: those of the plain form, as in `Style`. colors: which parameters are three numbers.
    styles: other looks, by name.
    shares: how often the kind occurs in each of `MIXES`.
    validation: by name, the severity and the parameters that training is watched by.
    anchor_start: where the low-frequency anchor of DAEM starts for the kind. At 0 the anchor holds the low
        frequencies of the damaged picture; at -8 it lets them go.
    """

    name: str
    number: int
    label: str
    steered: str
    trained: str
    meaning: str
    primary: str
    line: tuple[float, float]
    severities: tuple[float, float]
    mild: tuple[float, float]
    rank: int
    typical: Mapping[str, object]
    sample: Callable[[Draw], tuple[float, dict]]
    apply: Callable[..., torch.Tensor]
    limits: Mapping[str, tuple[float, float]]
    shares: Mapping[str, float]
    validation: Mapping[str, tuple[float, dict]]
    anchor_start: float = 0.0
    whole: bool = False
    takes_depth: bool = False
    colors: tuple[str, ...] = ()
    choices: Mapping[str, tuple] = field(default_factory=dict)
    styles: Mapping[str, Style] = field(default_factory=dict)

    def __post_init__(self):
        if not WORD.fullmatch(self.name):
            raise ValueError(
                f"degradations: {self.name!r} is not a valid name of a kind; expected small letters, "
                "digits and _, and a letter first"
            )
        # A mix that does not name a kind never trains it, and nobody would notice.
        if set(self.shares) != set(MIXES):
            raise ValueError(
                f"degradations: {self.name} has shares of {sorted(self.shares)}; expected one of each "
                f"of {', '.join(MIXES)}"
            )

    def value(self, severity: float) -> float | int:
        """Return the primary parameter at a severity in 0..1. Raises ValueError outside of that range."""
        if not 0.0 <= severity <= 1.0:
            raise ValueError(
                f"degradations: severity of {self.name} is {severity}; expected a number in 0..1"
            )
        value = round(self.line[0] + self.line[1] * severity, 6)
        return int(round(value)) if self.whole else value

    def severity(self, value: float) -> float:
        """Return the severity, clamped to 0..1, that a value of the primary parameter stands for."""
        return min(1.0, max(0.0, (float(value) - self.line[0]) / self.line[1]))

    def preset(self, severity: float, overrides: Mapping) -> tuple[float, dict]:
        """Return `(severity, params)` with typical parameters, some of them replaced by `overrides`.

        A primary parameter among the overrides decides the severity. Raises ValueError for parameters or
        choices that the kind does not have.
        """
        params: dict = {self.primary: self.value(severity), **self.typical}
        for name, value in overrides.items():
            if name not in params:
                raise ValueError(
                    f"degradations: {self.name} has no parameter {name!r}; it has {', '.join(params)}"
                )
            if name in self.choices:
                require_choice(self.name, name, value, self.choices[name])
            params[name] = value
        if self.primary in overrides:
            severity = self.severity(params[self.primary])
        return severity, params

    def style(self, params: Mapping) -> Style | None:
        """Return the style that `params` name, or None for the plain form.

        Raises ValueError for a style that the kind does not have.
        """
        name = params.get("style")
        if name is None:
            return None
        if not isinstance(name, str) or name not in self.styles:
            listed = ", ".join(self.styles) or "none"
            raise ValueError(
                f"degradations: {self.name} has no style {str(name)[:60]!r}; expected one of {listed}"
            )
        return self.styles[name]

    def require(self, params: Mapping) -> None:
        """Raise ValueError when `params` lack what the kind needs, or hold a value beyond its limits."""
        style = self.style(params)
        if style is not None:
            style.require(params)
            return
        missing = [name for name in (self.primary, *self.typical) if name not in params]
        if missing:
            raise ValueError(
                f"degradations: a step of {self.name} lacks {', '.join(missing)}; start from "
                f"preset_recipe({self.name!r}, ...)"
            )
        for name, ends in self.limits.items():
            require_number(self.name, name, params[name], ends, color=name in self.colors)
        for name, options in self.choices.items():
            require_choice(self.name, name, params[name], options)
