"""JPEG as files have it: quantisation tables and chroma subsampling of real cameras and of our styles."""

from __future__ import annotations

import json
import math
from pathlib import Path

from _host import room

STYLES = ("jpeg.camera",)
_RATIOS = {"4:4:4": 1.0, "4:2:2": 2.0, "4:4:0": 2.0, "4:2:0": 4.0}


def numbers_of(luma: list, chroma: list, subsampling: str) -> dict[str, float]:
    """Return what describes a table.

    quality: nearest IJG quality.
    off: mean distance of the luma table from the table of that quality, in steps.
    steep: steps of the last row over those of the first row.
    chroma: mean chroma step over mean luma step.
    pixels: luma samples per chroma sample.
    """
    quality, off = nearest_ijg(luma)
    values = {"quality": float(quality), "off": off, "steep": sum(luma[-8:]) / max(sum(luma[:8]), 1)}
    return values | {"chroma": sum(chroma) / max(sum(luma), 1), "pixels": _RATIOS[subsampling]}


def nearest_ijg(luma: list) -> tuple[int, float]:
    """Return the IJG quality 1..100 whose table is nearest to 64 luma steps, and the mean absolute
    difference.
    """
    jpeg = room("aior_core.degradations.jpeg")
    distances = []
    for quality in range(1, 101):
        table = jpeg.scaled_table(jpeg.LUMA, quality)
        distances.append((sum(abs(a - b) for a, b in zip(table, luma)) / 64, quality))
    off, quality = min(distances)
    return quality, off


def jpeg_of_tables(path: Path) -> list[dict[str, float]]:
    """Return the numbers of every table that a camera wrote.

    Each table occurs as often as the square root of its count, so that one camera does not outvote the
    others.
    """
    rows = []
    for entry in json.loads(path.read_text())["tables"]:
        if not entry["edited"]:
            rows += [numbers_of(entry["luma"], entry["chroma"], entry["subsampling"])] * max(
                1, round(math.sqrt(entry["count"]))
            )
    return rows


def first_file(params: object) -> dict | None:
    """Return the first dict, in nested dicts and lists, with a luma table or with a whole quality and a
    subsampling.
    """
    if isinstance(params, dict):
        if "luma" in params or {"quality", "subsampling"} <= set(params):
            return params
        params = list(params.values())
    inner = params if isinstance(params, list) else []
    return next((found for each in inner if (found := first_file(each)) is not None), None)


def jpeg_of_params(styles: dict, count: int, seed: int) -> tuple[list[dict[str, float]], list[str]]:
    """Return the numbers of the first file that each of STYLES writes, and the names that are missing."""
    draw_of = room("aior_core.degradations.draw").Draw
    stream = room("aior_core.degradations.fields").stream
    jpeg = room("aior_core.degradations.jpeg")
    names = [name for name in STYLES if name in styles]
    rows = []
    for index in range(count if names else 0):
        style = styles[names[index % len(names)]]
        draw = draw_of(stream(seed + index))
        file = first_file(style.draw(draw, draw.uniform(*style.severities)))
        if file is None:
            continue
        luma = file.get("luma") or list(jpeg.scaled_table(jpeg.LUMA, file["quality"]))
        chroma = file.get("chroma") or list(jpeg.scaled_table(jpeg.CHROMA, file["quality"]))
        rows.append(numbers_of(luma, chroma, file["subsampling"]))
    return rows, [name for name in STYLES if name not in names]
