"""What a run leaves beside its checkpoint: its curve as a table and a picture, and which experts its routers chose."""

from __future__ import annotations

import csv
import importlib.util
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from torch import Tensor

Logs = dict[str, Any]
"""Numbers (float, or a tensor without dimensions) by name. "experts" is a histogram, a tensor `levels E`, see
`experts.shares`."""

TRAINING_ROW = "training"
"""The name under which the table of experts holds the batches of training."""


class RunLog:
    """`STAGE.csv`, `STAGE-experts.csv` and `STAGE.png` in `out`, one line per report and per validation.

    A run resumed at `step` goes on in the same files; what a killed one wrote after its last checkpoint is left out, as those steps
    are trained again.
    """

    def __init__(self, out: Path, stage: str, step: int, say: Callable[[str], None]):
        self.curve, self.routes, self.picture = (
            out / f"{stage}.csv",
            out / f"{stage}-experts.csv",
            out / f"{stage}.png",
        )
        self.rows, self.shares = _read(self.curve, step), _read(self.routes, step)
        self.draws = importlib.util.find_spec("matplotlib") is not None
        if not self.draws:
            say(
                f"{stage}: matplotlib is not installed, so there is {self.curve.name} but no {self.picture.name}; pip install matplotlib"
            )

    def trained(
        self, step: int, seconds: float, samples_per_second: float, learning_rate: float, losses: Logs
    ) -> None:
        """Note the averages since the last report."""
        columns = {"samples_per_second": samples_per_second, "learning_rate": learning_rate}
        self._add(
            step,
            seconds,
            columns | {k: v for k, v in losses.items() if not isinstance(v, Tensor)},
            {TRAINING_ROW: losses.get("experts")},
        )

    def validated(self, step: int, seconds: float, numbers: Logs) -> None:
        """Note dB per damage, and where there are histograms (`experts DAMAGE`), those."""
        routes = {
            name.removeprefix("experts "): value
            for name, value in numbers.items()
            if isinstance(value, Tensor)
        }
        self._add(
            step,
            seconds,
            {f"dB {name}": value for name, value in numbers.items() if not isinstance(value, Tensor)},
            routes,
        )

    def _add(
        self, step: int, seconds: float, columns: dict[str, float], routes: dict[str, Tensor | None]
    ) -> None:
        when = {"step": str(step), "seconds": f"{seconds:.1f}"}
        self.rows.append(when | {name: f"{value:.6g}" for name, value in columns.items()})
        for pictures, shares in routes.items():
            for level, row in enumerate(() if shares is None else shares.tolist()):
                self.shares.append(
                    when
                    | {"pictures": pictures, "level": str(level)}
                    | {f"expert {i}": f"{v:.4f}" for i, v in enumerate(row)}
                )
        _write(self.curve, self.rows)
        if self.shares:
            _write(self.routes, self.shares)

    def draw(self) -> None:
        """Draw the curve anew; does nothing without matplotlib."""
        if not self.draws or not self.rows:
            return
        from matplotlib.figure import Figure

        figure = Figure(figsize=(12, 8), layout="constrained")
        loss, validation, speed, experts = figure.subplots(2, 2).flat
        _lines(
            loss, self.rows, [name for name in _columns(self.rows) if name in ("loss", "fit", "v")], "loss"
        )
        _lines(
            validation,
            self.rows,
            [name for name in _columns(self.rows) if name.startswith("dB ")],
            "validation, PSNR dB",
        )
        _lines(speed, self.rows, ["samples_per_second"], "samples per second, learning rate")
        _lines(speed.twinx(), self.rows, ["learning_rate"], "", place="lower right", color="tab:orange")
        _heat_map(experts, self.shares)
        part = self.picture.with_name(self.picture.name + ".part")
        figure.savefig(part, format="png", dpi=90)
        os.replace(part, self.picture)


def _read(path: Path, step: int) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as lines:
        rows = [{name: value for name, value in row.items() if value} for row in csv.DictReader(lines)]
    return [row for row in rows if int(row["step"]) <= step]


def _columns(rows: Iterable[dict[str, str]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _write(path: Path, rows: list[dict[str, str]]) -> None:
    """Written whole each time: a kill leaves the old table or the new one, and a later column gets its place in all lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with part.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, _columns(rows), restval="")
        writer.writeheader()
        writer.writerows(rows)
    os.replace(part, path)


def _lines(
    axes, rows: list[dict[str, str]], names: list[str], title: str, place: str = "best", **style
) -> None:
    for name in names:
        points = [(float(row["seconds"]) / 60, float(row[name])) for row in rows if name in row]
        axes.plot(*zip(*points), marker=".", label=name.removeprefix("dB "), **style)
    axes.set_title(title)
    axes.set_xlabel("minutes")
    if names:
        axes.legend(fontsize="x-small", loc=place)


def _heat_map(axes, shares: list[dict[str, str]]) -> None:
    """The newest histogram of each kind of picture: one column per level and expert."""
    newest = {
        (row["pictures"], row["level"]): [float(v) for k, v in row.items() if k.startswith("expert ")]
        for row in shares
    }
    kinds = list(dict.fromkeys(pictures for pictures, _ in newest))
    axes.set_title("experts: share of samples, level by level, finest first")
    if not kinds:
        axes.set_axis_off()
        return
    levels = sorted({level for _, level in newest})
    axes.imshow(
        [sum((newest[kind, level] for level in levels), []) for kind in kinds],
        vmin=0,
        vmax=1,
        aspect="auto",
        cmap="viridis",
    )
    axes.set_yticks(range(len(kinds)), kinds)
    width = len(newest[kinds[0], levels[0]])
    for index in range(1, len(levels)):
        axes.axvline(index * width - 0.5, color="white")
    axes.set_xticks(range(width * len(levels)), [str(i % width) for i in range(width * len(levels))])
