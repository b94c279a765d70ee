"""The measurements of benchmarks/real.py for one picture, and their summaries and tables."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from _tables import real_clean, real_details

WORSE, MUCH_WORSE = 0.2, 2.0
"""dB below the input from which a result counts as worse, and as much worse."""


@dataclass(frozen=True)
class Row:
    """A picture restored with one set of weights.

    before, after: PSNR in dB of input and result. change: mean of |result - input|, in levels of 255. found:
    the kinds of damage that the report calls found, worst first. main: whether the set's own damage is among
    them, None where it is not known. certainty, severity: the degradation head's for the set's own damage.
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
    """The rows by set, weights and steps, in order of their first rows."""
    groups: dict[tuple[str, str, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.set, row.weights, row.steps), []).append(row)
    return groups


def entries(rows: list[Row], kinds: dict[str, str] | None = None) -> list[dict]:
    """A summary for every set, set of weights and number of steps. `kinds` names the main damage of sets."""
    return [
        {"set": name, "weights": weights, "steps": steps, "main": (kinds or {}).get(name)} | summary(chosen)
        for (name, weights, steps), chosen in grouped(rows).items()
    ]


def tables(rows: list[Row]) -> str:
    """Two Markdown tables: of damaged sets, and of clean ones."""
    results = {"sets": entries(rows)}
    return "\n\n".join(table for table in (real_details(results), real_clean(results)) if table)
