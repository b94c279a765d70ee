"""The pairs that `likeness.py` compares: real ones, and clean pictures that a style damages."""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from _cases import read
from _host import room

SIDE = 256


@dataclass(frozen=True)
class Pair:
    """A damaged picture and its truth, `3 H W` in 0..1, and their origin: a file, or a style and its
    severity.
    """

    name: str
    lq: torch.Tensor
    gt: torch.Tensor


@dataclass(frozen=True)
class InRegistry:
    """A look of the registry of degradations as a style.

    It draws a recipe of one step, with a camera where the step acts on light.
    """

    kind: str
    look: str
    severities: tuple[float, float]

    def draw(self, draw, severity: float) -> dict:
        """Draw the parameters of the step, with the recipe as JSON under `recipe`."""
        names = ("recipe", "sampling", "photograph")
        recipe, sampling, photograph = (room(f"aior_core.degradations.{name}") for name in names)
        camera = photograph.draw_camera(draw)
        step = sampling.styled_step(self.kind, self.look, severity, draw, camera=camera)
        made = recipe.Recipe((step,), camera if step.linear else None)
        return {**step.params, "recipe": made.to_json()}

    def apply(self, picture: torch.Tensor, params: dict, seed: int) -> torch.Tensor:
        """Damage `B 3 H W` in 0..1 by the recipe in `params`, which holds all seeds."""
        recipe = room("aior_core.degradations.recipe")
        return recipe.apply_recipe(picture * 2 - 1, recipe.Recipe.from_json(params["recipe"])) * 0.5 + 0.5


def all_styles() -> dict:
    """Return the published styles by their names, and the looks of the registry as `kind.look`."""
    looks = {
        f"{each.name}.{name}": InRegistry(each.name, name, style.severities)
        for each in room("aior_core.degradations.kinds").DEGRADATIONS
        for name, style in each.styles.items()
    }
    return {**room("aior_core.degradations.published").PUBLISHED, **looks}


def middle_of(picture: torch.Tensor, side: int) -> torch.Tensor:
    """Return the middle `side` x `side` of `... H W`, or all of a smaller picture."""
    height, width = picture.shape[-2:]
    top, left = max(0, height - side) // 2, max(0, width - side) // 2
    return picture[..., top : top + side, left : left + side]


def real_pairs(folders: list[Path], side: int = SIDE) -> Iterator[Pair]:
    """Yield the middles of all pairs under `lq/` and `gt/` of the folders.

    Raises FileNotFoundError for a folder without any.
    """
    for folder in folders:
        files = sorted((folder / "lq").glob("*"))
        if not files:
            where = f"No pictures in {folder / 'lq'}: expected a set with lq/ and gt/"
            raise FileNotFoundError(f"{where}. Point --real at the folder of the sets.")
        for file in files:
            lq, gt = (
                middle_of(read(folder / part / file.name)[0] * 0.5 + 0.5, side) for part in ("lq", "gt")
            )
            yield Pair(f"{folder.name}/{file.stem}", lq, gt)


def clean_files(data: Path) -> list[Path]:
    """Return the held-out photographs of the MANIFEST.csv in `data` (splits `val` and `val2`).

    Raises FileNotFoundError without a manifest.
    """
    manifest = data / "MANIFEST.csv"
    if not manifest.exists():
        raise FileNotFoundError(
            f"{manifest} is missing. Point --data at the folder of photographs that holds it."
        )
    with open(manifest, newline="") as lines:
        return sorted(data / row["file"] for row in csv.DictReader(lines) if row["split"] in ("val", "val2"))


def exposed(picture: torch.Tensor, stops: float) -> torch.Tensor:
    """Return `picture` (`B 3 H W` in -1..1) rendered darker, so that mid-grey loses `stops` of linear light.

    A power of the display value darkens it, which keeps black and white and adds contrast, as dark scenes of
    the real sets have it. The result has 8 bits. At 0 stops the picture is returned as it is.
    """
    if stops == 0.0:
        return picture
    light = room("aior_core.degradations.light")
    grey = torch.tensor(0.5)
    power = (light.encode(light.decode(grey) * 2.0**-stops).log() / grey.log()).item()
    return (((picture * 0.5 + 0.5) ** power) * 255.0).round() / 127.5 - 1.0


def made_pairs(
    styles: dict,
    names: list[str],
    files: list[Path],
    count: int,
    seed: int,
    side: int = SIDE,
    darker: tuple[float, ...] = (0.0,),
) -> Iterator[Pair]:
    """Yield `count` clean crops, each damaged by the next of the styles.

    The severity is drawn evenly from the range of the style. The crops are rendered `darker` by these stops,
    in turn, before they are damaged.
    """
    draw_of = room("aior_core.degradations.draw").Draw
    stream = room("aior_core.degradations.fields").stream
    as_8bit = room("aior_core.metrics").as_8bit
    order = list(files)
    random.Random(seed).shuffle(order)
    kept: dict[Path, torch.Tensor] = {}
    for index in range(count):
        file = order[index % len(order)]
        if file not in kept:
            kept[file] = middle_of(read(file), side)
        clean = exposed(kept[file], darker[index % len(darker)])
        name = names[index % len(names)]
        draw = draw_of(stream(seed + index))
        severity = draw.uniform(*styles[name].severities)
        params = styles[name].draw(draw, severity)
        damaged = styles[name].apply(clean * 0.5 + 0.5, params, draw.seed())
        yield Pair(f"{name} {severity:.2f}", as_8bit(damaged * 2 - 1)[0] * 0.5 + 0.5, clean[0] * 0.5 + 0.5)
