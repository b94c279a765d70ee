"""The record of a look: how its parameters are drawn, and what they do to a picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch

from ..draw import Draw

RMS = 47.0
"""Root mean square of a layer of rain at severity 1, of 255."""
TINT = (0.5, 2.0, 3, 3)
"""Limits of a tint."""


@dataclass(frozen=True)
class Style:
    """One look of a damage, as a paper or a camera makes it.

    kind: the kind of damage, or "mixture" or "clean".
    source: the paper, or what the look is, for people.
    drawn: `(draw, severity) -> params`: plain numbers, words and lists of numbers, which JSON can hold.
    damage: `(picture, params, seed) -> picture`, `B 3 H W`, sRGB in 0..1, random by `stream(seed)` only.
    limits: the ends of every number, `(low, high)`; for a list with its lengths, `(low, high, least, most)`.
    choices: the words that a parameter can be.
    severities: the range of the published set, for code that draws severities.
    where: `(params, seed, height, width) -> H W` in 0..1, the share of the damage at each place. None: the
        damage is the same everywhere.
    said: `params -> {kind: severity}`, for a look that does several kinds of damage.
    share: how often training takes it, relative to the other looks of its kind.
    takes_depth: whether `damage` takes `depth` (`B 1 H W`, 0 near to 1 far).
    rank: its place among other damages. None: that of its kind.
    averaged: whether the severity of the picture is the mean over its places, as for things that move in
        front of what stands still.
    """

    kind: str
    source: str
    drawn: Callable[..., dict]
    damage: Callable[..., torch.Tensor]
    limits: Mapping[str, tuple]
    choices: Mapping[str, tuple] = field(default_factory=dict)
    severities: tuple[float, float] = (0.1, 1.0)
    where: Callable[..., torch.Tensor] | None = None
    said: Callable[[dict], dict] | None = None
    share: float = 1.0
    takes_depth: bool = False
    rank: float | None = None
    averaged: bool = False

    linear = False
    """Whether the look acts on light inside the recipe's camera; see `CameraStyle`."""

    def draw(self, draw: Draw, severity: float) -> dict:
        """Draw parameters at `severity`. Raises ValueError outside of 0..1."""
        if not 0.0 <= severity <= 1.0:
            raise ValueError(
                f"degradations: severity of a style of {self.kind} is {severity}; expected a number in 0..1"
            )
        return self.drawn(draw, severity)

    def apply(self, picture: torch.Tensor, params: dict, seed: int, **options) -> torch.Tensor:
        """Return `picture` (`B 3 H W`, sRGB, 0..1) with the damage, in the same shape; the caller clamps.

        `options` is `depth` for a look that takes it. Raises ValueError when the picture has another shape,
        or when a parameter is missing or beyond its limits.
        """
        require_picture(picture)
        self.require(params)
        return self.damage(picture, params, seed, **options)

    def truth(self, params: dict, seed: int, height: int, width: int) -> torch.Tensor:
        """Return `H W` in 0..1: the share of the damage at each place of a picture of that size."""
        self.require(params)
        return torch.ones(height, width) if self.where is None else self.where(params, seed, height, width)

    def require(self, params: Mapping) -> None:
        """Raise ValueError unless `params` has every parameter, within its limits or choices."""
        for name in (*self.limits, *self.choices):
            if name not in params:
                raise ValueError(
                    f"degradations: a step of {self.kind} lacks {name}; expected what the style draws"
                )
        for name, (low, high, *counts) in self.limits.items():
            value = params[name]
            numbers = list(value) if counts and isinstance(value, (list, tuple)) else [value]
            least, most = counts or (1, 1)
            if not least <= len(numbers) <= most or not all(
                _is_number(number) and low <= number <= high for number in numbers
            ):
                many = f"{least} to {most} numbers" if counts else "a number"
                said = f"{name} of {self.kind} is {str(value)[:60]}"
                raise ValueError(f"degradations: {said}; expected {many} in {low:g}..{high:g}")
        for name, options in self.choices.items():
            if params[name] not in options:
                expected = ", ".join(map(str, options))
                said = f"{name} of {self.kind} is {str(params[name])[:60]!r}"
                raise ValueError(f"degradations: {said}; expected one of {expected}")


def require_picture(picture: torch.Tensor) -> None:
    """Raise ValueError unless `picture` is `B 3 H W` of floats."""
    if picture.ndim != 4 or picture.shape[1] != 3 or not picture.is_floating_point():
        said = f"a picture of shape {tuple(picture.shape)}, {picture.dtype}"
        raise ValueError(f"degradations: {said}; expected B 3 H W, floats in 0..1")


def screened(picture: torch.Tensor, layer: torch.Tensor) -> torch.Tensor:
    """Blend as the mode "screen" of Photoshop does: `1 - (1 - picture)(1 - layer)`."""
    return picture + layer * (1.0 - picture)


def color(values, like: torch.Tensor) -> torch.Tensor:
    """Return three numbers as `1 3 1 1`, of the dtype and device of `like`."""
    return torch.tensor(values, dtype=torch.float32).to(like).view(1, 3, 1, 1)


def laid(picture: torch.Tensor, layer: torch.Tensor, params: dict) -> torch.Tensor:
    """Add or screen `layer` (`H W`) in its tint onto `picture`."""
    tinted = layer.to(picture) * color(params["tint"], picture)
    return screened(picture, tinted.clamp(0.0, 1.0)) if params.get("blend") == "screen" else picture + tinted


def lean(draw: Draw, most: float) -> float:
    """Draw an angle from the vertical, small ones more often than large ones."""
    return round(draw.uniform(-1.0, 1.0) * draw.uniform(0.3, 1.0) * most, 3)


def pair(draw: Draw, low: tuple, more: tuple) -> list:
    first = draw.uniform(*low)
    return [first, round(first + draw.uniform(*more), 6)]


def grey(draw: Draw, blue: float = 0.0) -> list:
    """Draw a tint whose blue is up to `blue` stronger than its red."""
    lead = draw.uniform(0.0, blue) if blue else 0.0
    return [round(1.0 - lead / 2.0, 6), 1.0, round(1.0 + lead / 2.0, 6)]


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
