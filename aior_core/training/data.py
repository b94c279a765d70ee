"""Clean photographs, decoded once, and crops from them by index."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ..picture.suffixes import PICTURE_SUFFIXES
from .pictures import decode

AREA_CAP = 1_500_000
FLAT_SHARE = 0.16
REDUCED_SHARE = 0.8
REDUCED = (1.5, 3.0)
"""How many times smaller, of as many crops as `REDUCED_SHARE` says: many photographs are soft at full size,
and what repairs those best is their softness."""


@dataclass(frozen=True)
class Photographs:
    """Decoded pictures, `3 H W` uint8 each, and how often each is drawn (by its area, at most 1.5 MP)."""

    pictures: tuple[Tensor, ...]
    names: tuple[str, ...]
    weights: Tensor


TRAINING, VALIDATION = "train", "val"


def splits(manifest: Path) -> dict[Path, str]:
    """The split of every file that a manifest lists, by its whole path without symbolic links.

    A manifest is a CSV file with the columns `file`, relative to the manifest's folder, and `split`. Raises
    ValueError without those.
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
    """Pictures below `folders` to train on, or those kept for validation.

    The MANIFEST.csv nearest above a folder says which is which: what it lists with a split that starts with
    "val" is for validation (`val2` too), what it lists with one that starts with neither "val" nor "train" is
    for neither, and what it does not list trains. Raises ValueError when there is nothing to train on;
    without a manifest nothing is held out for validation.
    """
    files, seen = [], set()
    for folder in folders:
        split_of = next(
            (
                splits(place / "MANIFEST.csv")
                for place in _above(folder)
                if (place / "MANIFEST.csv").is_file()
            ),
            {},
        )
        for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in PICTURE_SUFFIXES):
            whole = path.resolve()
            wanted = (split_of.get(whole) or TRAINING).startswith(VALIDATION if validation else TRAINING)
            if wanted and whole not in seen:
                files.append(path)
                seen.add(whole)
    if not files and not validation:
        raise ValueError(f"training: no training pictures below {', '.join(map(str, folders))}; give --data")
    return files


def _above(folder: Path) -> Iterator[Path]:
    """The folder and its parents: as it is named, and then without symbolic links."""
    for whole in (Path(os.path.abspath(folder)), folder.resolve()):
        yield from (whole, *whole.parents)


def load(files: list[Path]) -> Photographs:
    """Decode `files` as they are shown; pictures below 128 pixels a side are left out. Raises ValueError that
    names what is no picture."""
    with ThreadPoolExecutor(2) as pool:
        decoded = list(pool.map(decode, files))
    kept = [(p, f.name) for p, f in zip(decoded, files) if min(p.shape[1:]) >= 128]
    weights = torch.tensor([min(p.shape[1] * p.shape[2], AREA_CAP) for p, _ in kept], dtype=torch.float64)
    return Photographs(tuple(p for p, _ in kept), tuple(n for _, n in kept), weights)


def _uniform(generator: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * torch.rand((), generator=generator).item()


@dataclass(frozen=True)
class Cut:
    """One crop: of which picture, where, how it is turned (0..7), and the jitter of its colours, if any.

    `flat`: (contrast, level, saturation) of a crop made flat and pale: what it has of contrast, about which
    grey, and of colour.
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
    """Draw a crop that becomes `size` x `size`; 80 % are reduced, 30 % get gamma and white balance of their
    own, 16 % are flat.

    Reduced as far as the photograph reaches, they are as sharp as pictures that people see, and free of what
    4:2:0 coding and demosaicing left there: half of them 1.5 to 3 times by a filter, half 2 or 3 times by
    plain means, which leave the finest detail that there is. Flat crops are pale and still clean: a wall or
    pale grass is no haze, and photographs have too few of them to learn it from. `faithful`: none of the
    three.
    """
    picture = torch.multinomial(photographs.weights, 1, generator=generator).item()
    height, width = photographs.pictures[picture].shape[1:]
    side = min(size, height, width)
    least, most = REDUCED[0] * size, min(REDUCED[1] * size, height, width)
    if not faithful and most >= least and _uniform(generator, 0, 1) < REDUCED_SHARE:
        whole = _uniform(generator, 0, 1) < 0.5 and most >= 2 * size
        side = (
            size * int(_uniform(generator, 2, most // size + 1))
            if whole
            else int(_uniform(generator, least, most))
        )
    top = int(_uniform(generator, 0, height - side + 1))
    left = int(_uniform(generator, 0, width - side + 1))
    turns = int(_uniform(generator, 0, 8))
    if faithful:
        return Cut(picture, side, top, left, turns)
    kind = _uniform(generator, 0, 1)
    if kind < FLAT_SHARE:
        flat = (
            _uniform(generator, 0.2, 0.9),
            _uniform(generator, 0.3, 0.7),
            max(0.0, _uniform(generator, -0.5, 1)),
        )
        return Cut(picture, side, top, left, turns, flat=flat)
    if kind >= FLAT_SHARE + 0.3:
        return Cut(picture, side, top, left, turns)
    gains = torch.empty(3, 1, 1).uniform_(0.9, 1.1, generator=generator)
    return Cut(picture, side, top, left, turns, gains, _uniform(generator, 0.8, 1.25))


def take(photographs: Photographs, cut: Cut, size: int) -> Tensor:
    """The crop `3 size size` in -1..1 that `cut` describes."""
    side = cut.side
    crop = (
        photographs.pictures[cut.picture][:, cut.top : cut.top + side, cut.left : cut.left + side].float()
        / 255
    )
    if side != size:
        how = {"mode": "area"} if side % size == 0 else {"mode": "bicubic", "antialias": side > size}
        crop = F.interpolate(crop[None], size=(size, size), **how)[0].clamp(0, 1)
    crop = torch.rot90(crop, cut.turns % 4, (1, 2))
    crop = crop.flip(2) if cut.turns >= 4 else crop
    if cut.gains is not None:
        crop = (crop.clamp_min(1e-4) ** cut.gamma * cut.gains).clamp(0, 1)
    if cut.flat is not None:
        contrast, level, saturation = cut.flat
        grey = crop.mean(dim=0, keepdim=True)
        crop = level + contrast * (grey + saturation * (crop - grey) - grey.mean())
        crop = crop.clamp(0, 1)
    return crop * 2 - 1


def draw_batch(
    photographs: Photographs, count: int, size: int, generator: torch.Generator, *, rows: slice = slice(None)
) -> Tensor:
    """`rows` (default: all) of `count` crops, `B 3 size size` in -1..1, channels last in memory."""
    cuts = [draw_cut(photographs, size, generator) for _ in range(count)]
    return stack_crops([take(photographs, cut, size) for cut in cuts[rows]])


def stack_crops(crops: list[Tensor]) -> Tensor:
    """Crops `3 H W` -> `B 3 H W`, channels last in memory."""
    return torch.stack(crops).contiguous(memory_format=torch.channels_last)


def centre_crop(picture: Tensor, size: int) -> Tensor:
    """The middle `size` x `size` pixels (or what there is, in multiples of 8), `1 3 h w` in -1..1."""
    height, width = (min(size, n) // 8 * 8 for n in picture.shape[1:])
    top, left = (picture.shape[1] - height) // 2, (picture.shape[2] - width) // 2
    return picture[None, :, top : top + height, left : left + width].float() / 127.5 - 1
