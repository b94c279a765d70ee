"""Recipes: what was done to a picture, written down so that it can be done again, in part or in full."""

import json
from dataclasses import asdict, dataclass

import torch

from .draw import Draw
from .fields import MASK_KINDS, mask_field
from .kinds import KINDS, of, shares
from .limits import MOST_STEPS, require_seed

DEFAULT_WEIGHTS = shares("any")
DEFAULT_COUNTS = (0.05, 0.60, 0.25, 0.10)


@dataclass(frozen=True)
class Step:
    """One damage: its ``kind``, ``severity`` in 0..1, the ``seed`` of its random fields, its JSON-able ``params``,
    and optionally a smooth ``mask`` ``{"seed": int, "kind": "half" | "field"}`` saying where it acts."""

    kind: str
    severity: float
    seed: int
    params: dict
    mask: dict | None = None

    def __post_init__(self):
        of(self.kind).require(self.params)
        require_seed(self.seed, self.kind)
        if not 0.0 <= self.severity <= 1.0:
            raise ValueError(f"degradations: severity of {self.kind} is {self.severity}; expected a number in 0..1")
        if self.mask is not None and (self.mask.get("kind") not in MASK_KINDS or "seed" not in self.mask):
            raise ValueError(f"degradations: mask of {self.kind} is {self.mask}; expected a seed and a kind of {MASK_KINDS}")
        if self.mask is not None:
            require_seed(self.mask["seed"], f"the mask of {self.kind}")


@dataclass(frozen=True)
class Recipe:
    """Steps in the order in which they are applied."""

    steps: tuple = ()

    def only(self, kinds) -> "Recipe":
        """The same steps, with the same parameters and seeds, of ``kinds`` alone."""
        wanted = {of(kind).name for kind in kinds}
        return Recipe(tuple(step for step in self.steps if step.kind in wanted))

    def without(self, kinds) -> "Recipe":
        """The same steps, with the same parameters and seeds, except those of ``kinds``."""
        unwanted = {of(kind).name for kind in kinds}
        return Recipe(tuple(step for step in self.steps if step.kind not in unwanted))

    def kinds(self) -> tuple:
        """The kinds that occur, in order of application, each once."""
        return tuple(dict.fromkeys(step.kind for step in self.steps))

    def to_json(self) -> str:
        return json.dumps({"steps": [asdict(step) for step in self.steps]})

    @classmethod
    def from_json(cls, text: str) -> "Recipe":
        """Read what ``to_json`` wrote. Raises ValueError when the text is not a recipe."""
        try:
            steps = json.loads(text)["steps"]
            if len(steps) > MOST_STEPS:
                raise ValueError(f"degradations: a recipe of {len(steps)} steps; at most {MOST_STEPS} are possible")
            return cls(tuple(Step(**step) for step in steps))
        # Nested deep enough, JSON ends Python's recursion.
        except (TypeError, KeyError, AttributeError, RecursionError, json.JSONDecodeError) as error:
            raise ValueError(f"degradations: this text is not a recipe ({error}); expected what Recipe.to_json wrote") from error


def sample_recipe(
    generator: torch.Generator, *, kinds=KINDS, weights=None, count_weights=DEFAULT_COUNTS, spatial: float = 0.15
) -> Recipe:
    """Draw a training recipe.

    ``weights`` maps kinds to their relative frequency (default: noise 0.28, the others equal); ``count_weights[n]`` is
    the relative frequency of n damages at once, all of different kinds; ``spatial`` is the share of recipes in which one step
    gets a mask. Steps come in physical order, the weather's among themselves at random.
    """
    draw = Draw(generator)
    weights = DEFAULT_WEIGHTS if weights is None else weights
    pool = {of(kind).name: float(weights.get(kind, 0.0)) for kind in kinds}
    pool = {kind: weight for kind, weight in pool.items() if weight > 0.0}
    count = draw.index(count_weights)
    chosen = []
    while pool and len(chosen) < count:
        kind = draw.choice(tuple(pool), tuple(pool.values()))
        del pool[kind]
        chosen.append(kind)
    # Drawn in random order, and sorting is stable: weather keeps a random order within its rank.
    chosen.sort(key=lambda kind: of(kind).rank)
    masked = draw.index([1.0] * len(chosen)) if chosen and draw.uniform() < spatial else -1
    steps = []
    for position, kind in enumerate(chosen):
        severity, params = sampled(kind, draw)
        seed = draw.seed()
        mask = {"seed": draw.seed(), "kind": draw.choice(MASK_KINDS)} if position == masked else None
        steps.append(Step(kind, severity, seed, params, mask))
    return Recipe(tuple(steps))


def sampled(kind: str, draw: Draw) -> tuple:
    """Draw ``(severity, params)`` of one training step of ``kind`` in its plain form."""
    degradation = of(kind)
    severity, style = degradation.sample(draw)
    return severity, {degradation.primary: degradation.value(severity), **style}


def random_mixture(seed: int) -> Recipe:
    """One to three damages as training mixes them, from `seed`; never the clean picture."""
    return sample_recipe(torch.Generator().manual_seed(seed), count_weights=(0.0, *DEFAULT_COUNTS[1:]))


def preset_recipe(kind: str, severity: float, seed: int, **params) -> Recipe:
    """One step of ``kind`` with fixed, typical parameters, single ones replaced by ``params``.

    A primary parameter given explicitly (``sigma``, ``scale``, ``amount``, ``beta``, ``stops``, ``quality``) decides over
    ``severity``. Raises ValueError for unknown kinds, parameters or choices and for severities outside 0..1.
    """
    severity, params = of(kind).preset(severity, params)
    return Recipe((Step(kind, severity, int(seed), params),))


def step_mask(step: Step, height: int, width: int) -> torch.Tensor | None:
    """``H W`` mask of a step on the CPU, or None when it acts everywhere."""
    return None if step.mask is None else mask_field(height, width, step.mask)


@torch.no_grad()
def apply_recipe(picture: torch.Tensor, recipe: Recipe) -> torch.Tensor:
    """Damage ``picture`` (``B C H W``, RGB, -1..1) by ``recipe``; every picture of the batch gets the same random fields.

    The result has the shape, dtype and device of the input and is clamped to -1..1, except after noise with
    ``clip: False``. Steps of severity 0 are skipped. Raises ValueError when the picture is not ``B 3 H W``.
    """
    if picture.ndim != 4 or picture.shape[1] != 3:
        raise ValueError(f"apply_recipe: picture has the shape {tuple(picture.shape)}; expected B 3 H W in -1..1")
    steps = [step for step in recipe.steps if step.severity > 0.0]
    if not steps:
        return picture.clamp(-1.0, 1.0)
    current = picture.float().clamp(-1.0, 1.0) * 0.5 + 0.5
    for step in steps:
        damaged = of(step.kind).apply(current, step.params, step.seed)
        if step.params.get("clip", True):
            damaged = damaged.clamp(0.0, 1.0)
        mask = step_mask(step, *picture.shape[-2:])
        current = damaged if mask is None else torch.lerp(current, damaged, mask.to(current).expand_as(current))
    return (current * 2.0 - 1.0).to(picture.dtype)
