"""Recipes: what was done to a picture, written down so that it can be done again, in part or in full."""

import json
from dataclasses import asdict, dataclass, replace
from itertools import groupby

import torch

from .apart import APART
from .depth import given_depth
from .fields import MASK_PARTS, PATCH_KINDS, mask_field, sides
from .kinds import look_of, of
from .limits import MOST_STEPS, require_seed
from .photograph import SensorStyle, develop, require_camera, scene_depth, undevelop

TRIAL = 32
"""Side of the picture on which recipes with looks are tried when they are read."""


@dataclass(frozen=True)
class Step:
    """One damage.

    kind: a kind of damage, or "mixture" (looks that do several kinds of damage), or "clean" (looks that are
        no damage).
    severity: 0..1.
    seed: of its random fields.
    params: parameters that JSON can hold. `params["style"]` names a look of the kind; without it the step has
        the kind's plain form.
    mask: where the step acts, `{"seed": int, "kind": "half" | "field" | "boxes"}`, or None for everywhere.
        With `"rest": True` it acts everywhere else.
    """

    kind: str
    severity: float
    seed: int
    params: dict
    mask: dict | None = None

    def __post_init__(self):
        style = look_of(self.kind, self.params)
        if style is not None:
            style.require(self.params)
        else:
            of(self.kind).require(self.params)
        require_seed(self.seed, self.kind)
        if not 0.0 <= self.severity <= 1.0:
            raise ValueError(
                f"degradations: severity of {self.kind} is {self.severity}; expected a number in 0..1"
            )
        if self.mask is not None and (
            self.mask.get("kind") not in PATCH_KINDS or "seed" not in self.mask or set(self.mask) - MASK_PARTS
        ):
            raise ValueError(
                f"degradations: mask of {self.kind} is {self.mask}; expected a seed and a kind of "
                f"{PATCH_KINDS}"
            )
        if self.mask is not None:
            require_seed(self.mask["seed"], f"the mask of {self.kind}")

    @property
    def style(self):
        """The `Style` of this step, or None in the plain form."""
        return look_of(self.kind, self.params)

    @property
    def linear(self) -> bool:
        """Whether the step acts on light, inside the recipe's camera."""
        return self.style is not None and self.style.linear

    @property
    def rank(self) -> float:
        """Its place among other steps, small first."""
        style = self.style
        if style is not None and style.rank is not None:
            return style.rank
        return 0.0 if self.kind in APART else of(self.kind).rank

    def severities(self) -> dict:
        """Return the severities of the step by kind. Some looks do several kinds of damage."""
        said = {} if self.style is None or self.style.said is None else self.style.said(self.params)
        return said if self.kind in APART else {**said, self.kind: self.severity}


@dataclass(frozen=True)
class Recipe:
    """Steps in the order in which they are applied, and the camera for those that act on light."""

    steps: tuple = ()
    camera: dict | None = None

    def __post_init__(self):
        if self.camera is not None:
            require_camera(self.camera)
        elif any(step.linear for step in self.steps):
            raise ValueError(
                "degradations: a recipe with steps that act on light has no camera; expected one, as "
                "draw_camera gives it"
            )

    def only(self, kinds) -> "Recipe":
        """Return the same steps, with the same parameters and seeds, of `kinds` alone."""
        wanted = {of(kind).name for kind in kinds}
        return replace(self, steps=tuple(step for step in self.steps if wanted.issuperset(step.severities())))

    def without(self, kinds) -> "Recipe":
        """Return the same steps, with the same parameters and seeds, without those of `kinds`."""
        unwanted = {of(kind).name for kind in kinds}
        return replace(
            self, steps=tuple(step for step in self.steps if unwanted.isdisjoint(step.severities()))
        )

    def kinds(self) -> tuple:
        """Return the kinds that occur, in order of application, each once."""
        return tuple(dict.fromkeys(kind for step in self.steps for kind in step.severities()))

    def to_json(self) -> str:
        content = {"steps": [asdict(step) for step in self.steps]}
        return json.dumps(content if self.camera is None else content | {"camera": self.camera})

    @classmethod
    def from_json(cls, text: str) -> "Recipe":
        """Read what `to_json` wrote. Raises ValueError when the text is not a recipe."""
        try:
            content = json.loads(text)
            steps = content["steps"]
            if len(steps) > MOST_STEPS:
                raise ValueError(
                    f"degradations: a recipe of {len(steps)} steps; at most {MOST_STEPS} are possible"
                )
            recipe = cls(tuple(Step(**step) for step in steps), content.get("camera"))
        # JSON that is nested deep enough ends Python's recursion.
        except (TypeError, KeyError, AttributeError, RecursionError, json.JSONDecodeError) as error:
            raise ValueError(
                f"degradations: this text is not a recipe ({error}); expected what Recipe.to_json wrote"
            ) from error
        if any(step.style for step in recipe.steps):
            recipe._try()
        return recipe

    def _try(self) -> None:
        """Raise ValueError when the recipe cannot be applied.

        Only use shows whether nested parameters are complete and of the right shape.
        """
        try:
            apply_recipe(torch.zeros(1, 3, TRIAL, TRIAL), self)
        # A matrix without an inverse is a RuntimeError. What is no matrix is a ValueError of torch.
        except (
            TypeError,
            KeyError,
            AttributeError,
            LookupError,
            RuntimeError,
            ArithmeticError,
            ValueError,
        ) as error:
            raise ValueError(
                f"degradations: this recipe cannot be applied ({error}); expected what Recipe.to_json wrote"
            ) from error


def step_mask(step: Step, height: int, width: int) -> torch.Tensor | None:
    """Return the mask `H W` of a step on the CPU, or None when it acts everywhere."""
    return None if step.mask is None else mask_field(height, width, step.mask)


@torch.no_grad()
def apply_recipe(picture: torch.Tensor, recipe: Recipe, *, depth: torch.Tensor | None = None) -> torch.Tensor:
    """Damage `picture` (`B 3 H W`, RGB, -1..1) by `recipe`. All pictures of the batch get the same random
    fields.

    The result has the shape, dtype and device of the input. It is clamped to -1..1, except after noise with
    `clip: False`. Steps of severity 0 are skipped. depth: the distance of everything, `B 1 h w` or `1 1 h w`,
    larger is farther, for damage that depends on it. It is resized and stretched to its own range. Without it
    a depth is invented. Raises ValueError when the picture is not `B 3 H W`, or when there is neither one
    depth for all pictures nor one for each.
    """
    if picture.ndim != 4 or picture.shape[1] != 3:
        raise ValueError(
            f"apply_recipe: picture has the shape {tuple(picture.shape)}; expected B 3 H W in -1..1"
        )
    if depth is not None:
        depth = given_depth(depth.float(), *picture.shape[-2:])
        if len(depth) not in (1, len(picture)):
            raise ValueError(
                f"apply_recipe: {len(depth)} depths for {len(picture)} pictures; expected one for "
                "all, or one for each"
            )
    steps = [step for step in recipe.steps if step.severity > 0.0]
    if not steps:
        return picture.clamp(-1.0, 1.0)
    current = picture.float().clamp(-1.0, 1.0) * 0.5 + 0.5
    for linear, neighbours in groupby(steps, key=lambda step: step.linear):
        group = list(neighbours)
        current = (
            _photographed(current, group, recipe.camera, depth)
            if linear
            else _displayed(current, group, depth)
        )
    return (current * 2.0 - 1.0).to(picture.dtype)


def _displayed(picture: torch.Tensor, steps, depth: torch.Tensor | None) -> torch.Tensor:
    """Apply steps that act on display values to `picture` (`B 3 H W`, 0..1)."""
    for step in steps:
        look = step.style or of(step.kind)
        options = {"depth": depth} if look.takes_depth and depth is not None else {}
        damaged = look.apply(picture, step.params, step.seed, **options)
        if step.params.get("clip", True):
            damaged = damaged.clamp(0.0, 1.0)
        picture = _where(step, picture, damaged)
    return picture


def _photographed(
    picture: torch.Tensor, steps: list[Step], camera: dict | None, depth: torch.Tensor | None
) -> torch.Tensor:
    """Apply steps that act on light, between one undoing of the tone curve and one development.

    A step of camera noise ends the pass with a development of its own.
    """
    if camera is None:
        raise ValueError(
            "degradations: steps that act on light have no camera; expected one, as draw_camera gives it"
        )
    styles = [step.style for step in steps]
    light: torch.Tensor | None = undevelop(picture, camera)
    far = None
    if any(style.takes_depth for style in styles if style is not None):
        far = depth if depth is not None else scene_depth(camera, *sides(picture), picture)
        far = far.to(picture)
    for step, style in zip(steps, styles):
        if light is None:
            light = undevelop(picture, camera)
        if isinstance(style, SensorStyle):
            shot = style.shoot(light, step.params, step.seed, camera)
            picture, light = _where(step, develop(light, camera), shot), None
        elif style is not None:
            light = _where(step, light, style.apply(light, step.params, step.seed, depth=far))
    return picture if light is None else develop(light, camera)


def _where(step: Step, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """Return `after` where the step's mask is 1 and `before` where it is 0."""
    mask = step_mask(step, *before.shape[-2:])
    return after if mask is None else torch.lerp(before, after, mask.to(before).expand_as(before))
