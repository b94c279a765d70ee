"""The loss of a run over time, kept beside its checkpoint and drawn for people. Pillow draws it, because
ComfyUI installs no plotting library."""

from __future__ import annotations

import itertools
import json
import logging
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path

from PIL import Image
from torch import Tensor

from ..atomic import atomic_write_text
from ..report.drawing import as_image, font, pen
from ..report.palette import BACKGROUND, BLUE, DARK_BLUE, GREEN, GRID, INK

Points = list[tuple[float, float]]

WIDTH, PANEL, LEFT, RIGHT, HEAD, FOOT, FONT_SIZE = 768, 256, 84, 24, 40, 36, 16
SMOOTH = 0.05
"""A smoothed point is the mean of this share of all points."""


@dataclass
class LossCurve:
    """The loss of every step and, less often, the PSNR of the validation picture in dB, each with the seconds
    of training before it.

    picture: identifies the validation picture.
    """

    picture: str = ""
    losses: Points = field(default_factory=list)
    decibels: Points = field(default_factory=list)

    @classmethod
    def load(cls, path: Path, picture: str) -> LossCurve:
        """The curve that `save` wrote, without the decibels of another picture; empty where there is no file.

        A file that holds no curve is reported in the log, and the curve begins anew. Nothing is lost by that:
        what was learnt is in the checkpoint.
        """
        if not path.exists():
            return cls(picture)
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            losses, decibels = (
                [(float(x), float(y)) for x, y in stored[name]] for name in ("losses", "decibels")
            )
            same = stored["picture"] == picture
        except (ValueError, TypeError, LookupError) as error:
            logging.warning(
                f"{path} holds no curve of a training ({error}); it begins anew. "
                "Nothing that was learnt is lost."
            )
            return cls(picture)
        return cls(picture, losses, decibels if same else [])

    def save(self, path: Path) -> None:
        """Replace the file at `path` in one step. The format is JSON."""
        atomic_write_text(path, json.dumps(asdict(self)))

    def cut(self, seconds: float) -> None:
        """Drop what came after `seconds`: a killed run resumes from its last checkpoint and repeats those
        steps."""
        self.losses = [point for point in self.losses if point[0] <= seconds]
        self.decibels = [point for point in self.decibels if point[0] <= seconds]

    def ends(self) -> tuple[float, float]:
        """Mean loss of the first and of the last twentieth of the steps; NaN where there are none."""
        values = [y for _, y in self.losses]
        count = max(1, math.ceil(SMOOTH * len(values)))
        return (_mean(values[:count]), _mean(values[-count:])) if values else (math.nan, math.nan)

    def draw(self, title: str) -> Tensor:
        """An IMAGE `1 H W 3` in 0..1: the loss over minutes and, where it was measured, the PSNR below it."""
        panels = [(f"{title}: loss", self.losses, _smoothed(self.losses), BLUE)]
        if self.decibels:
            panels.append(("validation picture, PSNR in dB", [], self.decibels, GREEN))
        canvas = Image.new("RGB", (WIDTH, PANEL * len(panels)), BACKGROUND)
        end = max((x for _, dots, line, _ in panels for x, _ in (*dots, *line)), default=0.0)
        for row, panel in enumerate(panels):
            _panel(canvas, row * PANEL, max(end, 1e-3), *panel)
        return as_image(canvas)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _smoothed(points: Points) -> Points:
    """Each value replaced by its mean with the values before it."""
    window = max(1, round(SMOOTH * len(points)))
    sums = [0.0, *itertools.accumulate(y for _, y in points)]
    return [
        (x, (sums[i + 1] - sums[max(0, i + 1 - window)]) / min(window, i + 1))
        for i, (x, _) in enumerate(points)
    ]


def _panel(
    canvas: Image.Image,
    top: int,
    end: float,
    title: str,
    dots: Points,
    line: Points,
    color: tuple[int, int, int],
) -> None:
    draw, letters = pen(canvas), font(FONT_SIZE)
    right, above, below = WIDTH - RIGHT, top + HEAD, top + PANEL - FOOT
    values = [y for _, y in line]
    low, high = min(values, default=0.0), max(values, default=1.0)
    margin = 0.1 * (high - low) or 0.5
    low, high = low - margin, high + margin

    def place(x: float, y: float) -> tuple[float, float]:
        # Single steps lie far above the smoothed line; they are drawn at the border.
        return LEFT + x / end * (right - LEFT), below - min(1.0, max(0.0, (y - low) / (high - low))) * (
            below - above
        )

    draw.text((LEFT, top + HEAD // 2), title, fill=INK, font=letters, anchor="lm")
    for part in range(5):
        y = low + part / 4 * (high - low)
        height = place(0, y)[1]
        draw.line((LEFT, height, right, height), fill=GRID)
        draw.text((LEFT - 8, height), f"{y:.4g}", fill=INK, font=letters, anchor="rm")
        x = part / 4 * end
        anchor = {0: "lm", 4: "rm"}.get(part, "mm")
        draw.text(
            (place(x, 0)[0], below + FOOT // 2), f"{x / 60:.3g} min", fill=INK, font=letters, anchor=anchor
        )
    for x, y in dots:
        across, up = place(x, y)
        draw.point((across, up), fill=DARK_BLUE)
        draw.point((across, up - 1), fill=DARK_BLUE)
    if len(line) > 1:
        draw.line([place(x, y) for x, y in line], fill=color, width=2, joint="curve")
    for x, y in line[-1:]:
        across, up = place(x, y)
        draw.ellipse((across - 3, up - 3, across + 3, up + 3), fill=color)
