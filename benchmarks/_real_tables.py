"""What benchmarks/real.py measures of one picture, and its tables."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from _host import room

CLEAN = "clean"
WORSE, MUCH_WORSE = 0.2, 2.0
"""By so many dB below its input a result counts as worse, and as much worse."""


@dataclass(frozen=True)
class Row:
    """One picture restored by one set of weights. before, after: PSNR in dB of input and result; change: mean
    of |result - input|, in levels of 255.

    found: the kinds of damage that the report calls found, worst first. main: whether the set's own is among
    them, None where that is not known. certainty, severity: the head's for the set's own damage.
    """

    set: str
    picture: str
    weights: str
    steps: int
    before: float
    after: float
    change: float
    found: list[str]
    main: bool | None
    certainty: float | None
    severity: float | None
    seconds: float

    @property
    def gain(self) -> float:
        return self.after - self.before


def mean(values: Iterable[float]) -> float:
    values = list(values)
    return sum(values) / len(values)


def summary(rows: list[Row]) -> dict[str, float | int | None]:
    """The numbers of one set, one set of weights and one number of steps."""
    whole = {
        "pictures": len(rows),
        "before": mean(r.before for r in rows),
        "after": mean(r.after for r in rows),
        "gain": mean(r.gain for r in rows),
    }
    known = [row for row in rows if row.main is not None]
    return whole | {
        "least_gain": min(row.gain for row in rows),
        "worse": mean(row.gain < 0 for row in rows),
        "worse_by_0.2": sum(row.gain < -WORSE for row in rows),
        "worse_by_2": sum(row.gain < -MUCH_WORSE for row in rows),
        "main_found": mean(row.main for row in known) if known else None,
        "certainty": mean(row.certainty for row in known) if known else None,
        "something_found": mean(bool(row.found) for row in rows),
        "change": mean(row.change for row in rows),
        "largest_change": max(row.change for row in rows),
        "least_after": min(row.after for row in rows),
    }  # fmt: skip


def grouped(rows: list[Row]) -> dict[tuple[str, str, int], list[Row]]:
    """By set, weights and steps, in the order in which they came."""
    groups: dict[tuple[str, str, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.set, row.weights, row.steps), []).append(row)
    return groups


def tables(rows: list[Row]) -> str:
    """Two Markdown tables: damaged sets, and clean ones."""
    markdown, damaged, whole = room("aior_core.report.tables").markdown, [], []
    for (name, weights, steps), chosen in grouped(rows).items():
        numbers = summary(chosen)
        if name.startswith(CLEAN):
            whole.append([
                name, weights, str(steps), str(numbers["pictures"]), f"{numbers['something_found']:.0%}",
                f"{numbers['change']:.2f}",
                f"{numbers['largest_change']:.2f}", f"{numbers['after']:.2f}",
                f"{numbers['least_after']:.2f}",
            ])  # fmt: skip
            continue
        found = "-" if numbers["main_found"] is None else f"{numbers['main_found']:.0%}"
        damaged.append([
            name, weights, str(steps), str(numbers["pictures"]), f"{numbers['before']:.2f}",
            f"{numbers['after']:.2f}", f"{numbers['gain']:+.2f}",
            f"{numbers['least_gain']:+.2f}", f"{numbers['worse']:.0%}",
            f"{numbers['worse_by_0.2']} / {numbers['worse_by_2']}", found,
        ])  # fmt: skip
    heads = (
        [
            "set",
            "weights",
            "steps",
            "n",
            "input",
            "result",
            "gain",
            "least gain",
            "worse",
            "by 0.2 / 2 dB",
            "found",
        ],
        ["set", "weights", "steps", "n", "something found", "change", "at most", "PSNR", "at least"],
    )
    return "\n\n".join(
        markdown(head, lines) for head, lines in zip(heads, (damaged, whole), strict=True) if lines
    )
