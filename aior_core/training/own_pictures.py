"""A user's own pictures for fine-tuning: a folder of clean ones, or pairs in its sub-folders `lq/` and `gt/`."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

from ..picture.suffixes import PICTURE_SUFFIXES
from . import pictures
from .data import AREA_CAP, Photographs
from .pairs import Pairs

SMALLEST = 128
MEMORY = 2 * 2**30
LISTED = 4


@dataclass(frozen=True)
class OwnPictures:
    """Clean pictures, and for pairs the damaged ones too. `found`: how many the folder has."""

    clean: Photographs
    pairs: Pairs | None
    found: int

    @property
    def largest_crop(self) -> int:
        """Side that a crop can have in every picture, a multiple of 8."""
        return min(min(picture.shape[1:]) for picture in self.clean.pictures) // 8 * 8

    def describe(self) -> str:
        """How many of what, in words."""
        what = "clean pictures" if self.pairs is None else "pairs"
        used = len(self.clean.pictures)
        return (
            f"{used} {what}"
            if used == self.found
            else f"{used} of {self.found} {what} (the others are too small, or too many for the memory)"
        )


def find(folder: Path) -> list[tuple[Path, Path | None]]:
    """(clean, damaged) files below `folder`, sorted; damaged is None unless there are `lq/` and `gt/`.

    A pair has one name, suffixes aside. Raises ValueError that says what is missing: the folder, pictures in it, one of the two
    sub-folders, or partners.
    """
    if not folder.is_dir():
        raise ValueError(
            f"there is no folder {folder}. Expected a folder of pictures below ComfyUI's input folder, or an absolute path."
        )
    damaged, clean = folder / "lq", folder / "gt"
    if damaged.is_dir() != clean.is_dir():
        there, absent = ("lq", "gt") if damaged.is_dir() else ("gt", "lq")
        raise ValueError(
            f"{folder} has a sub-folder {there}/ but no {absent}/. Pairs need both: lq/ with the damaged pictures and gt/ with the clean "
            "ones of the same names."
        )
    if not clean.is_dir():
        files = sorted(_pictures(folder).values())
        if not files:
            raise ValueError(
                f"no pictures in {folder}. Expected clean pictures ({', '.join(sorted(PICTURE_SUFFIXES))}), or sub-folders lq/ and gt/ with pairs."
            )
        return [(file, None) for file in files]
    with_damage, without = _pictures(damaged), _pictures(clean)
    lonely = [f"lq/{name}" for name in sorted(with_damage.keys() - without.keys())]
    lonely += [f"gt/{name}" for name in sorted(without.keys() - with_damage.keys())]
    if lonely or not without:
        shown = ", ".join(lonely[:LISTED]) + (
            f" and {len(lonely) - LISTED} more" if len(lonely) > LISTED else ""
        )
        what = f"these have no partner: {shown}" if lonely else "both sub-folders are empty"
        raise ValueError(
            f"{folder}: {what}. Every picture in lq/ needs one of the same name in gt/, and the other way round."
        )
    return [(without[name], with_damage[name]) for name in sorted(without)]


def _pictures(folder: Path) -> dict[str, Path]:
    """Picture files below `folder` by their relative names without suffixes; of two that differ in the suffix only, the last."""
    files = (
        p
        for p in sorted(folder.rglob("*"))
        if p.suffix.lower() in PICTURE_SUFFIXES and not p.name.startswith(".") and p.is_file()
    )
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in files}


def fingerprint(files: list[tuple[Path, Path | None]]) -> str:
    """Changes when a picture is added, removed or written anew."""
    digest = hashlib.sha256()
    for file in (file for pair in files for file in pair if file is not None):
        stat = file.stat()
        digest.update(f"{file}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def load(files: list[tuple[Path, Path | None]], seed: int) -> OwnPictures:
    """Decode what `find` found: pictures of at least 128 pixels a side, and of many only as many (drawn by `seed`) as fit in 2 GiB.

    Raises ValueError for a file that is no picture, for the two of a pair that differ in size, and when nothing is large enough.
    """
    sizes = [pictures.size(clean) for clean, _ in files]
    for (clean, damaged), size in zip(files, sizes):
        if damaged is not None and pictures.size(damaged) != size:
            raise ValueError(
                f"the pair {clean.name} differs in size: lq {'x'.join(map(str, pictures.size(damaged)))}, gt {'x'.join(map(str, size))} pixels. "
                "The two pictures of a pair must lie exactly over each other."
            )
    large = [index for index, size in enumerate(sizes) if min(size) >= SMALLEST]
    if not large:
        raise ValueError(
            f"all {len(files)} pictures are smaller than {SMALLEST}x{SMALLEST} pixels. Larger ones are needed to train on."
        )
    chosen, left = [], MEMORY
    order = torch.randperm(len(large), generator=torch.Generator().manual_seed(seed)).tolist()
    for index in (large[i] for i in order):
        left -= 3 * sizes[index][0] * sizes[index][1] * (1 if files[index][1] is None else 2)
        if left < 0 and chosen:
            break
        chosen.append(index)
    chosen.sort()
    with ThreadPoolExecutor(2) as pool:
        clean, damaged = (
            list(pool.map(pictures.decode, (files[i][side] for i in chosen if files[i][side] is not None)))
            for side in (0, 1)
        )
    names = tuple(files[i][0].name for i in chosen)
    weights = torch.tensor([min(p.shape[1] * p.shape[2], AREA_CAP) for p in clean], dtype=torch.float64)
    photographs = Photographs(tuple(clean), names, weights)
    return OwnPictures(
        photographs,
        Pairs(Photographs(tuple(damaged), names, weights), photographs) if damaged else None,
        len(files),
    )
