"""A user's own pictures: a folder of clean ones, or pairs in its sub-folders `lq/` and `gt/`."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

from ..picture.suffixes import PICTURE_SUFFIXES
from . import pictures
from .data import SMALLEST, Photographs
from .pairs import Pairs

MAX_BYTES = 2 * 2**30
"""Memory that decoded pictures may take."""
LISTED = 4
"""Files that an error names at most."""

Files = list[tuple[Path, Path | None]]
"""(clean, damaged) files; damaged is None where there are no pairs."""


@dataclass(frozen=True)
class OwnPictures:
    """Clean pictures, and the damaged ones too if they are pairs. found: pictures or pairs in the folder."""

    clean: Photographs
    pairs: Pairs | None
    found: int

    @property
    def largest_crop(self) -> int:
        """The side in pixels, a multiple of 8, of the largest crop that every picture has."""
        return min(min(picture.shape[1:]) for picture in self.clean.pictures) // 8 * 8

    def describe(self) -> str:
        """How many pictures or pairs are used, in words."""
        what = "clean pictures" if self.pairs is None else "pairs"
        used = len(self.clean.pictures)
        if used == self.found:
            return f"{used} {what}"
        return f"{used} of {self.found} {what} (the others are too small, or too many for the memory)"


def find(folder: Path) -> Files:
    """The pictures below `folder`, sorted: pairs where it has sub-folders `lq/` and `gt/`, else clean
    pictures.

    The two files of a pair have the same name apart from the suffix. Raises ValueError that says what is
    missing: the folder, pictures in it, one of the two sub-folders, or the other half of a pair.
    """
    if not folder.is_dir():
        raise ValueError(
            f"there is no folder {folder}. Expected a folder of pictures below ComfyUI's input folder, "
            "or an absolute path."
        )
    damaged, clean = folder / "lq", folder / "gt"
    if damaged.is_dir() != clean.is_dir():
        there, absent = ("lq", "gt") if damaged.is_dir() else ("gt", "lq")
        raise ValueError(
            f"{folder} has a sub-folder {there}/ but no {absent}/. Pairs need both: lq/ with the damaged "
            "pictures and gt/ with the clean ones of the same names."
        )
    if clean.is_dir():
        return _pairs(folder, _by_name(clean), _by_name(damaged))
    files = sorted(_by_name(folder).values())
    if not files:
        raise ValueError(
            f"no pictures in {folder}. Expected clean pictures ({', '.join(sorted(PICTURE_SUFFIXES))}), "
            "or sub-folders lq/ and gt/ with pairs."
        )
    return [(file, None) for file in files]


def _pairs(folder: Path, clean: dict[str, Path], damaged: dict[str, Path]) -> Files:
    single = [f"lq/{name}" for name in sorted(damaged.keys() - clean.keys())]
    single += [f"gt/{name}" for name in sorted(clean.keys() - damaged.keys())]
    if single or not clean:
        more = f" and {len(single) - LISTED} more" if len(single) > LISTED else ""
        shown = ", ".join(single[:LISTED]) + more
        what = f"these have no partner: {shown}" if single else "both sub-folders are empty"
        raise ValueError(
            f"{folder}: {what}. Every picture in lq/ needs one of the same name in gt/, "
            "and the other way round."
        )
    return [(clean[name], damaged[name]) for name in sorted(clean)]


def _by_name(folder: Path) -> dict[str, Path]:
    """The picture files below `folder` by their relative names without suffixes. Of two files that differ in
    the suffix only, the last one counts."""
    files = (
        p
        for p in sorted(folder.rglob("*"))
        if p.suffix.lower() in PICTURE_SUFFIXES and not p.name.startswith(".") and p.is_file()
    )
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in files}


def fingerprint(files: Files) -> str:
    """A hash that changes when a picture is added, removed or rewritten."""
    digest = hashlib.sha256()
    for file in (file for pair in files for file in pair if file is not None):
        stat = file.stat()
        digest.update(f"{file}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def load(files: Files, seed: int) -> OwnPictures:
    """Decode what `find` found, without pictures that have a side below `SMALLEST` pixels. Where the rest
    does not fit into `MAX_BYTES`, `seed` decides which pictures are used.

    Raises ValueError for a file that is no picture, for a pair whose pictures differ in size, and when no
    picture is large enough.
    """
    sizes = _sizes(files)
    large = [index for index, size in enumerate(sizes) if min(size) >= SMALLEST]
    if not large:
        raise ValueError(
            f"all {len(files)} pictures are smaller than {SMALLEST}x{SMALLEST} pixels. "
            "Larger ones are needed to train on."
        )
    chosen = [files[index] for index in _fitting(large, sizes, files, seed)]
    with ThreadPoolExecutor(2) as pool:
        clean = list(pool.map(pictures.decode, (file for file, _ in chosen)))
        damaged = list(pool.map(pictures.decode, (file for _, file in chosen if file is not None)))
    names = [file.name for file, _ in chosen]
    photographs = Photographs.of(clean, names)
    pairs = Pairs(Photographs.of(damaged, names), photographs) if damaged else None
    return OwnPictures(photographs, pairs, len(files))


def _sizes(files: Files) -> list[tuple[int, int]]:
    """Width and height of every clean picture. Raises ValueError where its damaged one has another size."""
    sizes = [pictures.size(clean) for clean, _ in files]
    for (clean, damaged), size in zip(files, sizes):
        if damaged is not None and pictures.size(damaged) != size:
            lq, gt = ("x".join(map(str, each)) for each in (pictures.size(damaged), size))
            raise ValueError(
                f"the pair {clean.name} differs in size: lq {lq}, gt {gt} pixels. "
                "The two pictures of a pair must lie exactly over each other."
            )
    return sizes


def _fitting(large: list[int], sizes: list[tuple[int, int]], files: Files, seed: int) -> list[int]:
    """Of the indices `large`, in random order, as many as fit into `MAX_BYTES`, at least one; sorted."""
    chosen: list[int] = []
    left = MAX_BYTES
    order = torch.randperm(len(large), generator=torch.Generator().manual_seed(seed)).tolist()
    for index in (large[i] for i in order):
        left -= 3 * sizes[index][0] * sizes[index][1] * (1 if files[index][1] is None else 2)
        if left < 0 and chosen:
            break
        chosen.append(index)
    return sorted(chosen)
