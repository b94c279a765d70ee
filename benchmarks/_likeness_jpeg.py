"""JPEG as files have it: quantisation tables and chroma subsampling, of real cameras and of what our styles
draw."""

from __future__ import annotations

import json
import math
from pathlib import Path

from _host import room

STYLES = ("jpeg.camera",)
_RATIOS = {"4:4:4": 1.0, "4:2:2": 2.0, "4:4:0": 2.0, "4:2:0": 4.0}


def numbers_of(luma: list, chroma: list, subsampling: str) -> dict[str, float]:
    """Nearest IJG quality, `off`: how many steps the luma table is from it on average, `steep`: the highest
    frequency's step over the lowest's, `chroma`: mean chroma step over mean luma step, `pixels`: luma samples
    per chroma sample."""
    quality, off = nearest_ijg(luma)
    values = {"quality": float(quality), "off": off, "steep": sum(luma[-8:]) / max(sum(luma[:8]), 1)}
    return values | {"chroma": sum(chroma) / max(sum(luma), 1), "pixels": _RATIOS[subsampling]}


def nearest_ijg(luma: list) -> tuple[int, float]:
    """Quality 1..100 of the IJG table that is nearest to a luma table of 64 steps, and the mean absolute
    difference."""
    jpeg = room("aior_core.degradations.jpeg")
    distances = []
    for quality in range(1, 101):
        table = jpeg.scaled_table(jpeg.LUMA, quality)
        distances.append((sum(abs(a - b) for a, b in zip(table, luma)) / 64, quality))
    off, quality = min(distances)
    return quality, off


def jpeg_of_tables(path: Path) -> list[dict[str, float]]:
    """Every table that a camera wrote, each as often as the square root of its count, so that one camera does
    not outvote all others."""
    rows = []
    for entry in json.loads(path.read_text())["tables"]:
        if not entry["edited"]:
            rows += [numbers_of(entry["luma"], entry["chroma"], entry["subsampling"])] * max(
                1, round(math.sqrt(entry["count"]))
            )
    return rows


def first_file(params: object) -> dict | None:
    """The first dict in dicts and lists, in their order, that has a luma table or a whole quality with a
    subsampling."""
    if isinstance(params, dict):
        if "luma" in params or {"quality", "subsampling"} <= set(params):
            return params
        params = list(params.values())
    inner = params if isinstance(params, list) else []
    return next((found for each in inner if (found := first_file(each)) is not None), None)


def jpeg_of_params(styles: dict, count: int, seed: int) -> tuple[list[dict[str, float]], list[str]]:
    """The first file that each of STYLES writes, and which of them is missing."""
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
