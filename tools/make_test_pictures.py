"""Makes tests/pictures/ (damaged photographs) and tests/clean/ (the undamaged ones) from freely licensed
photographs.

    .host/venv/bin/python -m tools.make_test_pictures FOLDER...

Searches the folders for the names in PICTURES. The folders `data` of scikit-image and `datasets/images` of
scikit-learn hold all of them. Needs torch, numpy and Pillow. The same sources always give the same pictures.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy
import torch
from PIL import Image

from aior_core.degradations import Recipe, apply_recipe, preset_recipe
from aior_core.picture.suffixes import PICTURE_SUFFIXES

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Damaged:
    """A picture: its name, the stem of its source, the suffix of its file, and its damages in order.

    Each damage is `(kind, seed, parameters)` of `preset_recipe`. `severity` is one of the parameters, or
    follows from them.
    """

    name: str
    source: str
    suffix: str
    damages: tuple[tuple[str, int, dict], ...]

    @property
    def recipe(self) -> Recipe:
        steps = (
            preset_recipe(
                kind,
                options.get("severity", 1.0),
                seed,
                **{key: value for key, value in options.items() if key != "severity"},
            )
            for kind, seed, options in self.damages
        )
        return Recipe(tuple(step for recipe in steps for step in recipe.steps))


# JPEG (quality 97, no chroma subsampling) for pictures whose noise would make a PNG larger than 450 KB.
PICTURES = (
    Damaged("astronaut_noise", "astronaut", ".jpg", (("noise", 1, {"sigma": 25.0}),)),
    Damaged("cat_blur_noise", "chelsea", ".png", (("blur", 2, {"sigma": 1.6}), ("noise", 3, {"sigma": 8.0}))),
    Damaged("coffee_low_light", "coffee", ".png", (("low_light", 4, {"stops": 3.0}),)),
    Damaged("dahlia_rain", "flower", ".jpg", (("rain", 5, {"severity": 0.5}),)),
    Damaged("pavilion_haze", "china", ".jpg", (("haze", 6, {"severity": 0.8}),)),
    Damaged("pavilion_snow", "china", ".jpg", (("snow", 7, {"severity": 0.6}),)),
    Damaged("rocket_jpeg", "rocket", ".png", (("jpeg", 8, {"quality": 12}),)),
)


def find_source(folders: list[Path], stem: str) -> Path:
    """The picture whose stem is `stem`, or ends with `_stem`. Raises FileNotFoundError."""
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.suffix.lower() in PICTURE_SUFFIXES and (
                path.stem == stem or path.stem.endswith(f"_{stem}")
            ):
                return path
    raise FileNotFoundError(f"no picture called {stem} is in {', '.join(map(str, folders))}")


def damage(picture: Image.Image, recipe: Recipe) -> Image.Image:
    """`picture` with the damage of `recipe`, rounded to 8 bits."""
    array = numpy.asarray(picture.convert("RGB"), numpy.float32) / 127.5 - 1.0
    damaged = apply_recipe(torch.from_numpy(array).movedim(-1, 0)[None], recipe)
    return Image.fromarray(
        ((damaged[0].movedim(0, -1) + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy()
    )


def save(picture: Image.Image, path: Path) -> None:
    """Write a picture in the format of its suffix, as small as possible without visible loss."""
    options = {
        ".png": {"optimize": True},
        ".jpg": {"quality": 97, "subsampling": 0, "optimize": True},
        ".webp": {"quality": 95, "method": 6},
    }
    picture.save(path, **options[path.suffix])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "folders", nargs="+", type=Path, metavar="FOLDER", help="folders with the clean photographs"
    )
    folders = parser.parse_args().folders
    damaged_folder, clean_folder = ROOT / "tests" / "pictures", ROOT / "tests" / "clean"
    for folder in (damaged_folder, clean_folder):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        sources = [find_source(folders, entry.source) for entry in PICTURES]
    except FileNotFoundError as error:
        parser.error(str(error))
    for entry, source in zip(PICTURES, sources, strict=True):
        with Image.open(source) as file:
            clean = file.convert("RGB")
        damaged = damaged_folder / f"{entry.name}{entry.suffix}"
        save(damage(clean, entry.recipe), damaged)
        save(clean, clean_folder / f"{entry.source}.webp")
        print(
            f"{damaged.relative_to(ROOT)}: {clean.width}x{clean.height}, "
            f"{damaged.stat().st_size / 1024:.0f} KiB"
        )


if __name__ == "__main__":
    main()
