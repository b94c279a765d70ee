"""Writes the tables of the documents from benchmarks/results/*.json.

    python benchmarks/tables.py             rewrites the tables in the documents
    python benchmarks/tables.py --check     exits with 1 when a document's table differs from the results
    python benchmarks/tables.py --list      prints every table whose results are there

In a document a table stands between two comments, and everything between them is replaced:

    <!-- table: quality -->
    <!-- end -->

Needs nothing but Python.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import _tables

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
DOCUMENTS = ("README.md", "models/README.md", "docs/*.md", "docs/lab/*.md")
BLOCK = re.compile(
    r"(?P<start><!-- table: (?P<name>[^\n]*?) -->\n)(?P<table>.*?)(?P<end><!-- end -->)", re.DOTALL
)


class TableError(ValueError):
    """A document asks for a table that cannot be made. The message says which and why."""


@dataclass(frozen=True)
class Table:
    """A table: the name of its results in benchmarks/results/, the function that makes it from them, and the
    benchmark that measures them, if it has another name."""

    results: str
    make: Callable[[dict], str]
    benchmark: str = ""


TABLES = {
    "quality": Table("quality", partial(_tables.quality, sets=("val",))),
    "quality all": Table("quality", _tables.quality),
    "quality half": Table("quality", partial(_tables.quality, sets=("val/2",))),
    "quality test sets": Table("quality", partial(_tables.quality, sets=("CBSD68", "Set5"))),
    "quality short": Table("quality", partial(_tables.quality_short, sets=("val",))),
    "real": Table("real", _tables.real),
    "real details": Table("real", _tables.real_details),
    "real clean": Table("real", _tables.real_clean),
    "latent errors": Table("latent", _tables.latent_errors),
    "latent decoded": Table("latent", _tables.latent_decoded),
    "speed": Table("speed", _tables.speed),
    "speed of DAFF": Table("speed", _tables.speed_of_daff),
    "memory": Table("memory", _tables.memory),
    "seams": Table("seams", _tables.stored, "memory.py --seams"),
    "fidelity": Table("fidelity", _tables.stored),
    "ablation": Table("ablation", _tables.stored),
    "steering grain": Table("steering", partial(_tables.stored, name="grain")),
    "steering map": Table("steering", partial(_tables.stored, name="map")),
    "finetune": Table("finetune", _tables.stored),
    "flicker": Table("flicker", _tables.stored),
    "daff": Table("daff", _tables.stored),
    "daff tokens": Table("daff", partial(_tables.stored, name="tokens")),
    "sdxl cache": Table("sdxl_cache", _tables.stored),
    "damage speed": Table("damage_speed", _tables.damage_speed),
}


def read(table: Table, results: Path = RESULTS) -> dict:
    """The results of a table. Raises TableError when they were not measured."""
    path = results / f"{table.results}.json"
    benchmark = table.benchmark or f"{table.results}.py"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise TableError(
            f"{path.name} is missing: "
            f"run `python benchmarks/{benchmark} --json benchmarks/results/{path.name}`"
        ) from None
    except ValueError as error:
        raise TableError(f"{path} is no JSON: {error}") from None


def make(name: str, results: Path = RESULTS) -> str:
    """The table `name` in Markdown, with a line that says when it was measured. Raises TableError."""
    if name not in TABLES:
        raise TableError(f"there is no table {name!r}; known are {', '.join(TABLES)}")
    held = read(TABLES[name], results)
    table = TABLES[name].make(held)
    if not table:
        raise TableError(f"{TABLES[name].results}.json holds no rows for the table {name!r}")
    weights = ", ".join(each["sha256"] for each in held.get("weights", []))
    limit = f", at most {held['limit']} pictures each" if held.get("limit") else ""
    measured = f"Measured on {held['measured']}{limit}" + (f", weights {weights}." if weights else ".")
    return f"{table}\n\n{measured}\n"


def rewritten(text: str, results: Path = RESULTS) -> str:
    """`text` with the table of every block made anew. Raises TableError, also for a block without an end."""
    starts = text.count("<!-- table: ")
    if starts != len(BLOCK.findall(text)):
        raise TableError("a `<!-- table: NAME -->` has no `<!-- end -->`")
    return BLOCK.sub(lambda block: block["start"] + make(block["name"], results) + block["end"], text)


def main(argv: list[str] | None = None) -> int:
    """Run the command. Returns its exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--check", action="store_true", help="change nothing, and exit with 1 at a difference")
    group.add_argument("--list", action="store_true", help="print the tables whose results are there")
    options = parser.parse_args(argv)
    if options.list:
        for name, table in TABLES.items():
            if (RESULTS / f"{table.results}.json").is_file():
                print(f"<!-- table: {name} -->\n{make(name)}<!-- end -->\n")
        return 0
    different = False
    for path in sorted(path for pattern in DOCUMENTS for path in ROOT.glob(pattern)):
        text = path.read_text(encoding="utf-8")
        try:
            new = rewritten(text)
        except TableError as error:
            print(f"{path.relative_to(ROOT)}: {error}", file=sys.stderr)
            return 2
        if new != text:
            different = True
            print(f"{path.relative_to(ROOT)}: {'differs' if options.check else 'rewritten'}")
            if not options.check:
                path.write_text(new, encoding="utf-8")
    return 1 if different and options.check else 0


if __name__ == "__main__":
    raise SystemExit(main())
