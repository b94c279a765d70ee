"""What a run leaves beside its checkpoint: its losses as a table and a chart, and which experts its routers
chose."""

from __future__ import annotations

import csv
import importlib.util
import io
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ..atomic import atomic_write, atomic_write_bytes

Logs = dict[str, Any]
"""Numbers by name: floats, or tensors without dimensions. "experts" is a histogram, a tensor `levels E`, see
`experts.shares`."""

TRAINING_ROW = "training"
"""The name under which the table of experts holds the batches of training."""

Row = dict[str, str]


class RunLog:
    """`STAGE.csv`, `STAGE-experts.csv` and `STAGE.png` in the folder `out`: one row per report and
    validation.

    A run that is resumed at `step` continues the same files. Rows that a killed run wrote after its last
    checkpoint are dropped, because those steps are trained again.
    """

    def __init__(self, out: Path, stage: str, step: int, say: Callable[[str], None]):
        self.losses_path = out / f"{stage}.csv"
        self.experts_path = out / f"{stage}-experts.csv"
        self.chart_path = out / f"{stage}.png"
        self.rows, self.shares = _read(self.losses_path, step), _read(self.experts_path, step)
        self.draws = importlib.util.find_spec("matplotlib") is not None
        if not self.draws:
            say(
                f"{stage}: matplotlib is not installed, so there is {self.losses_path.name} but no "
                f"{self.chart_path.name}; pip install matplotlib"
            )

    def trained(
        self, step: int, seconds: float, samples_per_second: float, learning_rate: float, losses: Logs
    ) -> None:
        """Add a row with the mean losses since the last report."""
        columns = {"samples_per_second": samples_per_second, "learning_rate": learning_rate}
        columns |= {k: v for k, v in losses.items() if not isinstance(v, Tensor)}
        self._add(step, seconds, columns, {TRAINING_ROW: losses.get("experts")})

    def validated(self, step: int, seconds: float, numbers: Logs) -> None:
        """Add a row with the dB of each damage, and the histograms named `experts DAMAGE`."""
        routes = {
            name.removeprefix("experts "): value
            for name, value in numbers.items()
            if isinstance(value, Tensor)
        }
        columns = {f"dB {name}": value for name, value in numbers.items() if not isinstance(value, Tensor)}
        self._add(step, seconds, columns, routes)

    def _add(
        self, step: int, seconds: float, columns: dict[str, float], routes: Mapping[str, Tensor | None]
    ) -> None:
        when = {"step": str(step), "seconds": f"{seconds:.1f}"}
        self.rows.append(when | {name: f"{value:.6g}" for name, value in columns.items()})
        for pictures, shares in routes.items():
            for level, row in enumerate([] if shares is None else shares.tolist()):
                experts = {f"expert {i}": f"{v:.4f}" for i, v in enumerate(row)}
                self.shares.append(when | {"pictures": pictures, "level": str(level)} | experts)
        _write(self.losses_path, self.rows)
        if self.shares:
            _write(self.experts_path, self.shares)

    def draw(self) -> None:
        """Draw the chart anew. Does nothing without matplotlib."""
        if not self.draws or not self.rows:
            return
        from matplotlib.figure import Figure

        figure = Figure(figsize=(12, 8), layout="constrained")
        loss, validation, speed, experts = figure.subplots(2, 2).flat
        columns = _columns(self.rows)
        _lines(loss, self.rows, [name for name in columns if name in ("loss", "fit", "v")], "loss")
        decibels = [name for name in columns if name.startswith("dB ")]
        _lines(validation, self.rows, decibels, "validation, PSNR dB")
        _lines(speed, self.rows, ["samples_per_second"], "samples per second, learning rate")
        _lines(speed.twinx(), self.rows, ["learning_rate"], "", place="lower right", color="tab:orange")
        _heat_map(experts, self.shares)
        atomic_write(self.chart_path, lambda partial: figure.savefig(partial, format="png", dpi=90))


def _read(path: Path, step: int) -> list[Row]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as lines:
        rows = [{name: value for name, value in row.items() if value} for row in csv.DictReader(lines)]
    return [row for row in rows if int(row["step"]) <= step]


def _columns(rows: Iterable[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _write(path: Path, rows: list[Row]) -> None:
    """Write the whole table each time: a kill leaves the old table or the new one, and a column that appears
    later gets its place in all rows."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, _columns(rows), restval="")
    writer.writeheader()
    writer.writerows(rows)
    atomic_write_bytes(path, text.getvalue().encode("utf-8"))


def _lines(axes, rows: list[Row], names: list[str], title: str, place: str = "best", **style) -> None:
    for name in names:
        points = [(float(row["seconds"]) / 60, float(row[name])) for row in rows if name in row]
        axes.plot(*zip(*points), marker=".", label=name.removeprefix("dB "), **style)
    axes.set_title(title)
    axes.set_xlabel("minutes")
    if names:
        axes.legend(fontsize="x-small", loc=place)


def _heat_map(axes, shares: list[Row]) -> None:
    """The latest histogram of each kind of picture, with a column per level and expert."""
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
