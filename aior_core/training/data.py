"""Clean photographs, decoded once, and random crops of them."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..picture.suffixes import PICTURE_SUFFIXES
from .pictures import decode

SMALLEST = 128
"""Pictures with a side of fewer pixels are left out."""
AREA_CAP = 1_500_000
"""A picture is drawn in proportion to its area in pixels, up to this one."""
FLAT_SHARE, JITTERED_SHARE = 0.16, 0.3
REDUCED_SHARE = 0.8
REDUCED = (1.5, 3.0)
"""Of `REDUCED_SHARE` of the crops, the factor by which they are made smaller. Many photographs are soft at
full size, and a network that learns from them learns to be soft."""


@dataclass(frozen=True)
class Photographs:
    """Decoded pictures, `3 H W` uint8 each, their file names, and the relative frequencies with which they
    are drawn."""

    pictures: tuple[Tensor, ...]
    names: tuple[str, ...]
    weights: Tensor

    @classmethod
    def of(cls, pictures: Sequence[Tensor], names: Sequence[str]) -> Photographs:
        """Weighted by area, up to `AREA_CAP`."""
        areas = [min(picture.shape[1] * picture.shape[2], AREA_CAP) for picture in pictures]
        return cls(tuple(pictures), tuple(names), torch.tensor(areas, dtype=torch.float64))


TRAINING, VALIDATION = "train", "val"


def splits(manifest: Path) -> dict[Path, str]:
    """The split of every file that a manifest lists, by absolute path with symbolic links resolved.

    A manifest is a CSV file with the columns `file`, relative to the manifest's folder, and `split`. Raises
    ValueError where a column is missing.
    """
    with manifest.open(newline="", encoding="utf-8") as lines:
        rows = csv.DictReader(lines)
        missing = [column for column in ("file", "split") if column not in (rows.fieldnames or ())]
        if missing:
            raise ValueError(
                f"training: {manifest} has no column {' and '.join(missing)}; "
                "expected a CSV file with the columns file and split"
            )
        return {
            (manifest.parent / row["file"]).resolve(): (row["split"] or "").strip()
            for row in rows
            if row["file"]
        }


def find_pictures(folders: list[Path], *, validation: bool) -> list[Path]:
    """The pictures below `folders` to train on, or with `validation` those that are held out.

    The nearest MANIFEST.csv in a folder or above it decides: a split that starts with "val" is for
    validation, one that starts with "train" for training, any other for neither. Files that it does not list
    are for training, and so is everything where there is no manifest. Raises ValueError when there is nothing
    to train on.
    """
    wanted = VALIDATION if validation else TRAINING
    files, seen = [], set()
    for folder in folders:
        split_of = _nearest_splits(folder)
        for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in PICTURE_SUFFIXES):
            resolved = path.resolve()
            if resolved not in seen and (split_of.get(resolved) or TRAINING).startswith(wanted):
                files.append(path)
                seen.add(resolved)
    if not files and not validation:
        raise ValueError(f"training: no training pictures below {', '.join(map(str, folders))}; give --data")
    return files


def _nearest_splits(folder: Path) -> dict[Path, str]:
    """The splits of the nearest manifest; none where there is no manifest."""
    for place in _with_parents(folder):
        if (place / "MANIFEST.csv").is_file():
            return splits(place / "MANIFEST.csv")
    return {}


def _with_parents(folder: Path) -> Iterator[Path]:
    """The folder and its parents, first as it is named, then with symbolic links resolved."""
    for whole in (Path(os.path.abspath(folder)), folder.resolve()):
        yield from (whole, *whole.parents)


def load(files: list[Path]) -> Photographs:
    """Decode `files` as they are shown, and leave out pictures with a side below `SMALLEST` pixels. Raises
    ValueError that names a file which is no picture."""
    with ThreadPoolExecutor(2) as pool:
        decoded = list(pool.map(decode, files))
    kept = [(p, f.name) for p, f in zip(decoded, files) if min(p.shape[1:]) >= SMALLEST]
    return Photographs.of([picture for picture, _ in kept], [name for _, name in kept])


def _uniform(generator: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * torch.rand((), generator=generator).item()


@dataclass(frozen=True)
class Cut:
    """One crop: the number of the picture, its square in pixels, how it is flipped and turned (0..7), and
    changes of its colours.

    gains: per channel, `3 1 1`, after `gamma`; None for neither. flat: (contrast, level, saturation) of a
    crop that is made flat and pale: its remaining contrast, the grey around which it lies, its remaining
    colour.
    """

    picture: int
    side: int
    top: int
    left: int
    turns: int
    gains: Tensor | None = None
    gamma: float = 1.0
    flat: tuple[float, float, float] | None = None


def draw_cut(
    photographs: Photographs, size: int, generator: torch.Generator, *, faithful: bool = False
) -> Cut:
    """Draw a crop that becomes `size` x `size` pixels.

    80 % of the crops are made smaller, as far as the photograph is large enough. They are as sharp as the
    pictures that people look at, and free of the traces of 4:2:0 coding and demosaicing. Half of them are
    reduced 1.5 to 3 times by a filter, half 2 or 3 times by means of pixels, which keep the finest detail.

    16 % of the crops are flattened: pale, yet clean. A wall or pale grass is no haze, and photographs have
    too few of them to learn it from. Another 30 % get a random gamma and white balance.

    faithful: none of this, so that a real pair keeps its damage.
    """
    picture = int(torch.multinomial(photographs.weights, 1, generator=generator).item())
    height, width = photographs.pictures[picture].shape[1:]
    side = min(size, height, width)
    if not faithful:
        side = _reduced_side(side, size, min(height, width), generator)
    top = int(_uniform(generator, 0, height - side + 1))
    left = int(_uniform(generator, 0, width - side + 1))
    turns = int(_uniform(generator, 0, 8))
    if faithful:
        return Cut(picture, side, top, left, turns)
    kind = _uniform(generator, 0, 1)
    if kind < FLAT_SHARE:
        contrast, level = _uniform(generator, 0.2, 0.9), _uniform(generator, 0.3, 0.7)
        saturation = max(0.0, _uniform(generator, -0.5, 1))
        return Cut(picture, side, top, left, turns, flat=(contrast, level, saturation))
    if kind >= FLAT_SHARE + JITTERED_SHARE:
        return Cut(picture, side, top, left, turns)
    gains = torch.empty(3, 1, 1).uniform_(0.9, 1.1, generator=generator)
    return Cut(picture, side, top, left, turns, gains, _uniform(generator, 0.8, 1.25))


def _reduced_side(side: int, size: int, shorter: int, generator: torch.Generator) -> int:
    """The side that is cut out to become `size` pixels, from a picture whose shorter side is `shorter`;
    `side` where it is not reduced."""
    least, most = REDUCED[0] * size, min(REDUCED[1] * size, shorter)
    if most < least or _uniform(generator, 0, 1) >= REDUCED_SHARE:
        return side
    if _uniform(generator, 0, 1) < 0.5 and most >= 2 * size:
        return size * int(_uniform(generator, 2, most // size + 1))
    return int(_uniform(generator, least, most))


def take(photographs: Photographs, cut: Cut, size: int) -> Tensor:
    """The crop `3 size size` in -1..1 that `cut` describes."""
    side = cut.side
    pixels = photographs.pictures[cut.picture][:, cut.top : cut.top + side, cut.left : cut.left + side]
    crop = pixels.float() / 255
    if side != size:
        how: dict[str, Any] = {"mode": "bicubic", "antialias": side > size}
        if side % size == 0:
            how = {"mode": "area"}
        crop = F.interpolate(crop[None], size=(size, size), **how)[0].clamp(0, 1)
    crop = torch.rot90(crop, cut.turns % 4, (1, 2))
    crop = crop.flip(2) if cut.turns >= 4 else crop
    if cut.gains is not None:
        crop = (crop.clamp_min(1e-4) ** cut.gamma * cut.gains).clamp(0, 1)
    if cut.flat is not None:
        crop = _flattened(crop, *cut.flat)
    return crop * 2 - 1


def _flattened(crop: Tensor, contrast: float, level: float, saturation: float) -> Tensor:
    """A crop `3 H W` in 0..1 with less contrast and colour around the grey `level`."""
    grey = crop.mean(dim=0, keepdim=True)
    crop = level + contrast * (grey + saturation * (crop - grey) - grey.mean())
    return crop.clamp(0, 1)


def draw_batch(
    photographs: Photographs, count: int, size: int, generator: torch.Generator, *, rows: slice = slice(None)
) -> Tensor:
    """Draw `count` crops and return `rows` of them (default: all), `B 3 size size` in -1..1, channels
    last."""
    cuts = [draw_cut(photographs, size, generator) for _ in range(count)]
    return stack_crops([take(photographs, cut, size) for cut in cuts[rows]])


def stack_crops(crops: list[Tensor]) -> Tensor:
    """Crops `3 H W` -> `B 3 H W`, channels last in memory."""
    return torch.stack(crops).contiguous(memory_format=torch.channels_last)


def centre_crop(picture: Tensor, size: int) -> Tensor:
    """The middle of a picture `3 H W` uint8 -> `1 3 h w` in -1..1, at most `size` pixels a side, multiples of
    8."""
    height, width = (min(size, n) // 8 * 8 for n in picture.shape[1:])
    top, left = (picture.shape[1] - height) // 2, (picture.shape[2] - width) // 2
    return picture[None, :, top : top + height, left : left + width].float() / 127.5 - 1
