"""Stores results as JSON. `tables.py` makes the tables of the documents from those in benchmarks/results/."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from _host import ROOT, bundled, room

RESULTS = ROOT / "benchmarks" / "results"


def weights_of(name: str, file: str) -> dict[str, str]:
    """A weights file: its name in the results, its file's name, and a hash of its shards."""
    digest = hashlib.sha256()
    for shard in room("aior_core.weights.shards").siblings(Path(file)):
        digest.update(shard.read_bytes())
    return {"name": name, "file": Path(file).name, "sha256": digest.hexdigest()[:16]}


def write_results(path: Path, results: dict) -> Path:
    """Write `results` with the date as JSON, in one step. Makes the folder. Returns the path."""
    dated = {"measured": datetime.now(timezone.utc).strftime("%Y-%m-%d"), **results}
    text = json.dumps(dated, indent=1, allow_nan=False) + "\n"
    room("aior_core.atomic").atomic_write_text(path, text)
    return path


def weights_used(file: str | Path | None) -> list[dict[str, str]]:
    """The weights of the option --weights; the bundled ones without it."""
    return [weights_of(Path(file).stem, str(file)) if file else weights_of("bundled", str(bundled()))]


def as_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> dict:
    """A table of text in the form that `_tables.stored` reads."""
    return {"header": list(header), "rows": [list(row) for row in rows]}
