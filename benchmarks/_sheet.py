"""Writes every measurement into a CSV file while a benchmark runs, and counts the pictures."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, fields
from pathlib import Path
from typing import TypeVar

Item = TypeVar("Item")


@contextmanager
def sheet(path: Path | None, kind: type) -> Iterator[Callable[[list], None]]:
    """Yield a function that appends rows (`kind` dataclasses) to a CSV at `path`, or does nothing without."""
    if path is None:
        yield lambda rows: None
        return
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([field.name for field in fields(kind)])

        def add(rows: list) -> None:
            writer.writerows(astuple(row) for row in rows)
            file.flush()

        yield add


def counted(name: str, items: Iterable[Item]) -> Iterator[Item]:
    """Yield the items. On a terminal, show how many are done."""
    shown = sys.stderr.isatty()
    for count, item in enumerate(items, 1):
        yield item
        if shown:
            print(f"\r{name}: {count} pictures", end="", file=sys.stderr, flush=True)
    if shown:
        print(file=sys.stderr)
