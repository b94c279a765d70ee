"""What was learnt over time, kept beside a checkpoint and drawn for people: with Pillow, as ComfyUI brings no
plotting library."""

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
"""Share of the points that a smoothed one is the mean of."""


@dataclass
class LossCurve:
    """`losses` per step and `decibels` (PSNR of the validation picture) now and then, each with the seconds
    of training before it.

    `picture` says which validation picture it was.
    """

    picture: str = ""
    losses: Points = field(default_factory=list)
    decibels: Points = field(default_factory=list)

    @classmethod
    def load(cls, path: Path, picture: str) -> LossCurve:
        """What `save` wrote, without the decibels of another picture; empty where nothing was.

        A file that holds no curve is said in the log, and the curve begins anew: it is a drawing for people,
        and what was learnt lies in the checkpoint.
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
        """Write it as JSON, making the folder. A kill leaves the old file or the new one, whole."""
        atomic_write_text(path, json.dumps(asdict(self)))

    def cut(self, seconds: float) -> None:
        """Forget what came after `seconds`: a killed run goes on from its last checkpoint and does those
        steps again."""
        self.losses = [point for point in self.losses if point[0] <= seconds]
        self.decibels = [point for point in self.decibels if point[0] <= seconds]

    def ends(self) -> tuple[float, float]:
        """Mean loss of the first and of the last twentieth; NaN if there is none."""
        values = [y for _, y in self.losses]
        count = max(1, math.ceil(SMOOTH * len(values)))
        return (_mean(values[:count]), _mean(values[-count:])) if values else (math.nan, math.nan)

    def draw(self, title: str) -> Tensor:
        """The loss over minutes, and below it PSNR where it was measured -> IMAGE `1 H W 3`, 0..1."""
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
    """Each point's mean with those before it."""
    reach = max(1, round(SMOOTH * len(points)))
    sums = [0.0, *itertools.accumulate(y for _, y in points)]
    return [
        (x, (sums[i + 1] - sums[max(0, i + 1 - reach)]) / min(reach, i + 1))
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
        # Single steps reach far above the smoothed line: they are held at the border.
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
