"""The pictures that the benchmarks measure: clean pictures with known damages, always the same ones."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from _host import room
from PIL import Image
from torch.nn import functional as F

CROP = 256
PICTURES = room("aior_core.picture.suffixes").PICTURE_SUFFIXES

# Steps by label, in physical order: each is (kind, severity, parameters that replace those of the preset).
VALIDATION = {
    "clean": (),
    "noise 15": (("noise", 0.25, {"sigma": 15.0}),),
    "noise 25": (("noise", 0.42, {"sigma": 25.0}),),
    "noise 50": (("noise", 0.83, {"sigma": 50.0}),),
    "blur": (("blur", 0.5, {}),),
    "low_resolution x4": (("low_resolution", 1.0, {}),),
    "rain": (("rain", 0.5, {}),),
    "snow": (("snow", 0.5, {}),),
    "haze": (("haze", 0.6, {}),),
    "low_light": (("low_light", 0.6, {}),),
    "jpeg q10": (("jpeg", 1.0, {}),),
    "rain + noise": (("rain", 0.5, {}), ("noise", 0.42, {"sigma": 25.0})),
    "haze + noise": (("haze", 0.6, {}), ("noise", 0.42, {"sigma": 25.0})),
    "low_light + noise": (("low_light", 0.6, {}), ("noise", 0.25, {"sigma": 15.0})),
    "blur + jpeg": (("blur", 0.5, {}), ("jpeg", 0.8, {"quality": 30})),
    "haze + rain + noise": (("haze", 0.4, {}), ("rain", 0.4, {}), ("noise", 0.25, {"sigma": 15.0})),
}


@dataclass(frozen=True)
class Case:
    """A picture to restore. `lq` and `gt` are `1 3 H W`, -1..1; `lq` exceeds this range if its noise is not
    clipped.

    kinds: its damages. sigma: of its noise on the scale 0..255, if noise is its only damage. scale: the
    factor of super-resolution. border, channel: of the protocol to measure with.
    """

    set: str
    degradation: str
    picture: str
    lq: torch.Tensor
    gt: torch.Tensor
    kinds: tuple[str, ...] = ()
    sigma: float | None = None
    scale: int | None = None
    border: int = 0
    channel: str = "rgb"


def read(path: Path) -> torch.Tensor:
    """A picture file as `1 3 H W`, -1..1. Alpha is dropped, grey becomes RGB."""
    with Image.open(path) as picture:
        values = np.asarray(picture.convert("RGB"), dtype=np.float32) / 255
    return torch.from_numpy(values).movedim(-1, 0)[None] * 2 - 1


def spaced(items: list, limit: int | None) -> list:
    """At most `limit` items, evenly spaced, so that a quick run sees the variety of a set."""
    if limit is None or limit >= len(items):
        return items
    return [items[index * len(items) // limit] for index in range(limit)]


def _need(path: Path, what: str) -> Path:
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is missing: {what}. Point --data at the folder that holds it, or leave the "
            f"set out of --sets."
        )
    return path


def damage(clean: torch.Tensor, steps: tuple, seed: int) -> torch.Tensor:
    """Apply preset steps (kind, severity, parameters) to `1 3 H W`, -1..1, each with a seed of its own."""
    degradations = room("aior_core.degradations")
    single = [
        degradations.preset_recipe(kind, severity, seed + index, **params)
        for index, (kind, severity, params) in enumerate(steps)
    ]
    return degradations.apply_recipe(
        clean, degradations.Recipe(tuple(step for recipe in single for step in recipe.steps))
    )


def held_out(data: Path) -> list[Path]:
    """The pictures that `data`'s MANIFEST.csv gives to validation. Raises FileNotFoundError without one."""
    manifest = _need(data / "MANIFEST.csv", "the list of pictures, with the columns `file` and `split`")
    with open(manifest, newline="") as lines:
        return sorted(data / row["file"] for row in csv.DictReader(lines) if row["split"] == "val")


def middle(path: Path, *, halved: bool = False) -> torch.Tensor:
    """The middle of a picture file, `1 3 CROP CROP`, -1..1.

    `halved` halves the picture before, if it is large enough.
    """
    whole = read(path)
    if halved and min(whole.shape[-2:]) >= 2 * CROP:
        whole = F.avg_pool2d(whole, 2)
    top, left = (whole.shape[-2] - CROP) // 2, (whole.shape[-1] - CROP) // 2
    return whole[..., top : top + CROP, left : left + CROP]


def validation(data: Path, limit: int | None, *, halved: bool = False) -> Iterator[Case]:
    """The middle (`middle`) of the MANIFEST's `val` pictures with the damages of `VALIDATION`, in 8 bits."""
    files = held_out(data)
    as_8bit = room("aior_core.metrics").as_8bit
    for label, steps in VALIDATION.items():
        for index, file in spaced(list(enumerate(files)), limit):
            clean = middle(_need(file, "a validation picture"), halved=halved)
            yield Case(
                "val/2" if halved else "val",
                label,
                file.stem,
                as_8bit(damage(clean, steps, 1000 * index + 17)),
                clean,
                kinds=tuple(kind for kind, _, _ in steps),
                sigma=steps[0][2].get("sigma") if len(steps) == 1 else None,
                scale=4 if label == "low_resolution x4" else None,
            )


def cbsd68(data: Path, limit: int | None) -> Iterator[Case]:
    """CBSD68 with Gaussian noise as in papers (float, not clipped) and as in files (8 bits), and JPEG."""
    files = sorted(_need(data / "test" / "CBSD68", "the 68 pictures of CBSD68").glob("*.png"))
    as_8bit = room("aior_core.metrics").as_8bit
    noise = [
        (f"noise {sigma} {form}", "noise", {"sigma": float(sigma), "clip": form == "8-bit"})
        for form in ("float", "8-bit")
        for sigma in (15, 25, 50)
    ]
    for label, kind, params in [
        *noise,
        *((f"jpeg q{quality}", "jpeg", {"quality": quality}) for quality in (10, 20, 40)),
    ]:
        for index, file in spaced(list(enumerate(files)), limit):
            clean = read(file)
            damaged = damage(clean, ((kind, 0.5, params),), index)
            yield Case(
                "CBSD68",
                label,
                file.stem,
                as_8bit(damaged) if params.get("clip", True) else damaged,
                clean,
                kinds=(kind,),
                sigma=params.get("sigma"),
            )


def set5(data: Path, limit: int | None) -> Iterator[Case]:
    """Set5's own small pictures, enlarged bicubically; measured on Y without a border of `scale` pixels."""
    files = sorted(_need(data / "test" / "Set5" / "gt", "Set5's ground truth").glob("*.png"))
    for scale in (2, 4):
        for file in spaced(files, limit):
            clean = read(file)
            clean = clean[..., : clean.shape[-2] // scale * scale, : clean.shape[-1] // scale * scale]
            small = _need(
                file.parents[1] / f"lq_x{scale}" / f"{file.stem}x{scale}.png",
                "a low-resolution picture of Set5",
            )
            with Image.open(small) as picture:
                enlarged = picture.convert("RGB").resize(clean.shape[:1:-1], Image.Resampling.BICUBIC)
            lq = torch.from_numpy(np.asarray(enlarged, dtype=np.float32) / 255).movedim(-1, 0)[None] * 2 - 1
            yield Case(
                "Set5",
                f"x{scale}",
                file.stem,
                lq,
                clean,
                kinds=("low_resolution",),
                scale=scale,
                border=scale,
                channel="y",
            )


def partner(stem: str, truths: dict[str, Path]) -> Path | None:
    """The ground truth of `stem`: of the same name, or the longest that `stem` begins with."""
    fitting = [name for name in truths if stem == name or stem.startswith((name + "_", name + "-"))]
    return truths[max(fitting, key=len)] if fitting else None


def paired(name: str, folder: Path, limit: int | None) -> Iterator[Case]:
    """A set of pairs in `folder/lq` and `folder/gt`, paired by name, or by order if no name matches."""
    sides = []
    for side in ("lq", "gt"):
        found = sorted(
            path
            for path in _need(folder / side, f"{side}/ of the set {name}").iterdir()
            if path.suffix.lower() in PICTURES
        )
        sides.append({path.stem: path for path in found})
    degraded, truths = sides
    pairs = [(path, partner(stem, truths)) for stem, path in degraded.items()]
    if not any(truth for _, truth in pairs) and len(degraded) == len(truths):
        pairs = list(zip(degraded.values(), truths.values(), strict=True))
    for lq_file, gt_file in spaced(pairs, limit):
        if gt_file is None:
            raise ValueError(
                f"{name}: no picture in {folder / 'gt'} belongs to {lq_file.name}. Give both the same name."
            )
        lq, gt = read(lq_file), read(gt_file)
        if lq.shape != gt.shape:
            raise ValueError(
                f"{name}: {lq_file.name} is {tuple(lq.shape[-2:])}, but {gt_file.name} is "
                f"{tuple(gt.shape[-2:])}. Both pictures of a pair must have the same size."
            )
        yield Case(name, "as given", lq_file.stem, lq, gt)
