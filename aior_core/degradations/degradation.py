"""What a degradation is: one record that says everything about it. `kinds/` has one file per degradation."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch

from .draw import Draw
from .limits import require_choice, require_number
from .published.style import Style

MIXES = ("any", "training", "training of three", "keep", "maps", "tone", "polish", "hold")
"""Where pictures are damaged at random: recipes drawn without weights, then the stages of training that have shares of their own.

`training` is what the restoring stages draw one or two damages from, `training of three` what they draw three from, `keep`, `maps`, `tone`
the stages of these names; `polish` what the stage polish learns by its squared error, and `hold` what it holds to what it was.
"""
WORD = re.compile(r"[a-z][a-z0-9_]{0,39}")


@dataclass(frozen=True)
class Degradation:
    """Everything about one kind of damage.

    name: in recipes, weights and node inputs. number: its row in every label and in the weights, from 0 on without a gap; never changes.
    label: how reports write it. steered, trained: how *Steer Degradations* and *Train AIOR Restorer* speak of it.
    meaning: what severity 1 is. primary: the parameter that carries the severity: its value is `line[0] + line[1] * severity`, a whole
    number where `whole`. severities: the range that training draws from; mild: that of damage that is hardly seen. rank: its place when several damages are applied, small first.
    typical: the parameters of presets, beside the primary one. sample: `(severity, params)` of one training sample in the plain form.
    apply: the plain form, on sRGB values 0..1, `B 3 H W`; takes `depth` where `takes_depth`. limits, choices: of the plain
    form, as in `Style`; colors: which of them are three numbers. styles: other looks, by name. shares: how often it occurs in each of `MIXES`.
    validation: by name the severity and parameters that training is watched by. anchor_start: where the anchor of DAEM starts for it;
    0 holds the low frequencies of the damaged picture, -8 lets go of them.
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
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    styles: Mapping[str, Style] = field(default_factory=dict)

    def __post_init__(self):
        if not WORD.fullmatch(self.name):
            raise ValueError(f"degradations: {self.name!r} is no name of a kind; expected small letters, digits and _")
        # A mix that does not name a kind never trains it, and nobody notices.
        if set(self.shares) != set(MIXES):
            raise ValueError(f"degradations: {self.name} has shares of {sorted(self.shares)}; expected one of each of {', '.join(MIXES)}")

    def value(self, severity: float) -> float | int:
        """The primary parameter at a severity in 0..1. Raises ValueError outside of that range."""
        if not 0.0 <= severity <= 1.0:
            raise ValueError(f"degradations: severity of {self.name} is {severity}; expected a number in 0..1")
        value = round(self.line[0] + self.line[1] * severity, 6)
        return int(round(value)) if self.whole else value

    def severity(self, value: float) -> float:
        """The severity, clamped to 0..1, that a value of the primary parameter stands for."""
        return min(1.0, max(0.0, (float(value) - self.line[0]) / self.line[1]))

    def preset(self, severity: float, overrides: Mapping[str, object]) -> tuple[float, dict]:
        """`(severity, params)` with typical parameters, single ones replaced; a primary one among those decides the severity.

        Raises ValueError for parameters or choices that the kind does not have.
        """
        params = {self.primary: self.value(severity), **self.typical}
        for name, value in overrides.items():
            if name not in params:
                raise ValueError(f"degradations: {self.name} has no parameter {name!r}; it has {', '.join(params)}")
            if name in self.choices:
                require_choice(self.name, name, value, self.choices[name])
            params[name] = value
        if self.primary in overrides:
            severity = self.severity(params[self.primary])
        return severity, params

    def style(self, params: Mapping[str, object]) -> Style | None:
        """The style that `params` name, None for the plain form. Raises ValueError for one that the kind does not have."""
        name = params.get("style")
        if name is None:
            return None
        if not isinstance(name, str) or name not in self.styles:
            listed = ", ".join(self.styles) or "none"
            raise ValueError(f"degradations: {self.name} has no style {str(name)[:60]!r}; expected one of {listed}")
        return self.styles[name]

    def require(self, params: Mapping[str, object]) -> None:
        """Raise ValueError when `params` lack what the kind needs, or bring what is beyond its limits."""
        style = self.style(params)
        if style is not None:
            style.require(params)
            return
        missing = [name for name in (self.primary, *self.typical) if name not in params]
        if missing:
            raise ValueError(
                f"degradations: a step of {self.name} lacks {', '.join(missing)}; start from preset_recipe({self.name!r}, ...)"
            )
        for name, ends in self.limits.items():
            require_number(self.name, name, params[name], ends, color=name in self.colors)
        for name, options in self.choices.items():
            require_choice(self.name, name, params[name], options)
