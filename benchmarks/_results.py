"""Results as JSON files in benchmarks/results/, which the documents' tables are made from."""

from __future__ import annotations

import hashlib
import json
import os
from datetime import datetime, timezone
from pathlib import Path

from _host import ROOT, room

RESULTS = ROOT / "benchmarks" / "results"


def weights_of(name: str, file: str) -> dict[str, str]:
    """A weights file in words that say no folder: what it is called here, its file's name, and a hash of all
    its shards."""
    digest = hashlib.sha256()
    for shard in room("aior_core.weights.shards").siblings(Path(file)):
        digest.update(shard.read_bytes())
    return {"name": name, "file": Path(file).name, "sha256": digest.hexdigest()[:16]}


def write_results(path: Path, results: dict) -> Path:
    """Write `results` with the date as JSON, whole or not at all; makes the folder. Returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dated = {"measured": datetime.now(timezone.utc).strftime("%Y-%m-%d"), **results}
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(dated, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(part, path)
    return path
