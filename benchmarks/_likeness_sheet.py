"""The contact sheet of `likeness.py`: eight real pictures at the left, eight of ours at the right."""

from __future__ import annotations

import random

import torch
from _host import room
from _likeness_sets import Pair
from PIL import Image
from torch.nn import functional as F

EACH, COLUMNS, CELL, GAP, CAPTION = 8, 2, 220, 6, 18
palette = room("aior_core.report.palette")
PAPER, TEXT = palette.PAPER, palette.PAPER_INK


def seen(pair: Pair, shown: str) -> torch.Tensor:
    """Return what the sheet shows of a pair, `3 H W` in 0..1, see `Compared.shown`."""
    if shown == "rest":
        return ((pair.lq - pair.gt) * 6 + 0.5).clamp(0, 1)
    if shown == "brightened":
        bright = pair.lq * (pair.gt.mean() / pair.lq.mean().clamp_min(1e-3))
        # The left half is as it is, the right half as bright as the truth.
        half = pair.lq.shape[-1] // 2
        return torch.cat((pair.lq[..., :half], bright[..., half:].clamp(0, 1)), -1)
    return pair.lq


def some(pairs: list[Pair]) -> list[Pair]:
    """Return EACH of the pairs, drawn at random, always the same ones.

    At even steps all of them could be of one style.
    """
    return random.Random(5).sample(pairs, min(EACH, len(pairs)))


def block(pairs: list[Pair], shown: str, title: str) -> Image.Image:
    """Draw pictures in COLUMNS, each under its name."""
    drawing = room("aior_core.report.drawing")
    rows = -(-EACH // COLUMNS)
    made = Image.new("RGB", (COLUMNS * (CELL + GAP), 30 + rows * (CELL + CAPTION + GAP)), PAPER)
    pen = drawing.pen(made)
    pen.text((0, 15), title, fill=TEXT, font=drawing.font(20), anchor="lm")
    for index, pair in enumerate(some(pairs)):
        left, top = index % COLUMNS * (CELL + GAP), 30 + index // COLUMNS * (CELL + CAPTION + GAP)
        pen.text((left, top + CAPTION / 2), pair.name[:34], fill=TEXT, font=drawing.font(11), anchor="lm")
        # The middle, pixel for pixel, because a reduced picture hides noise.
        picture = seen(pair, shown)
        short = (max(0, CELL - picture.shape[-2]), max(0, CELL - picture.shape[-1]))
        picture = F.pad(picture, (0, short[1], 0, short[0]), value=0.98)
        y, x = ((side - CELL) // 2 for side in picture.shape[-2:])
        made.paste(
            drawing.as_sheet(picture[:, y : y + CELL, x : x + CELL].movedim(0, -1)), (left, top + CAPTION)
        )
    return made


def contact_sheet(name: str, real: list[Pair], ours: list[Pair], shown: str) -> Image.Image:
    """Draw real pictures beside ours, pixel for pixel."""
    blocks = [block(real, shown, f"{name}: real"), block(ours, shown, f"{name}: ours")]
    made = Image.new("RGB", (sum(b.width for b in blocks) + 3 * GAP, blocks[0].height + 2 * GAP), PAPER)
    left = GAP
    for each in blocks:
        made.paste(each, (left, GAP))
        left += each.width + GAP
    return made
