"""benchmarks/tables.py: the tables of the documents are those of the results, and mistakes are named."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "benchmarks" / "tables.py"


@pytest.fixture(scope="module")
def tables():
    sys.path.insert(0, str(SCRIPT.parent))
    spec = importlib.util.spec_from_file_location("aior_document_tables", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(SCRIPT.parent))
    del sys.modules[spec.name]


def write(folder: Path, name: str, **results) -> None:
    content = {"measured": "2026-01-02", "benchmark": name, **results}
    (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")


def mean(method: str, psnr: float, *, degradation: str = "noise 25", name: str = "val") -> dict:
    numbers = {"pictures": 22, "psnr": psnr, "ssim": 0.5, "perceptual": None}
    return {"set": name, "degradation": degradation, "method": method, **numbers}


def test_the_documents_hold_the_tables_of_the_results():
    done = subprocess.run([sys.executable, str(SCRIPT), "--check"], capture_output=True, text=True)
    assert done.returncode == 0, f"run python benchmarks/tables.py: {done.stdout}{done.stderr}"


def test_every_result_in_the_repository_makes_its_tables(tables):
    there = {
        name: table
        for name, table in tables.TABLES.items()
        if (tables.RESULTS / f"{table.results}.json").is_file()
    }
    assert there
    for name in there:
        lines = tables.make(name).splitlines()
        assert lines[0].startswith("| ") and lines[-1].startswith("Measured on 2"), name


def test_what_stands_between_the_comments_is_replaced_and_nothing_else(tables, tmp_path):
    means = [mean("input", 20.5), mean("NLM", 29.0), mean("0", 32.0), mean("4", 32.25)]
    means += [mean("input", 100.0, degradation="clean"), mean("4", 61.0, degradation="clean")]
    means += [mean("input", 24.0, name="CBSD68"), mean("4", 33.0, name="CBSD68")]
    weights = [{"name": "bundled", "file": "a.safetensors", "sha256": "0123"}]
    write(tmp_path, "quality", steps=[0, 4], limit=None, weights=weights, means=means)
    text = "Before.\n<!-- table: quality short -->\nold\n<!-- end -->\nAfter.\n"
    made = tables.rewritten(text, tmp_path)
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in made.splitlines()[4:6]]
    assert cells == [
        ["noise, sigma 25", "20.5", "32.2", "+11.8"],
        ["none (clean picture)", "100.0", "61.0", ""],
    ]
    assert made.startswith("Before.\n<!-- table: quality short -->\n| damage")
    assert made.endswith("Measured on 2026-01-02, weights 0123.\n<!-- end -->\nAfter.\n")
    assert tables.rewritten(made, tmp_path) == made
    whole = tables.make("quality all", tmp_path)
    assert "29.00 / 0.5000 (NLM)" in whole and "CBSD68: noise, sigma 25" in whole and "+11.75" in whole


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<!-- table: qualty -->\n<!-- end -->", "there is no table 'qualty'; known are quality, "),
        ("<!-- table: quality -->\n", "has no `<!-- end -->`"),
        ("<!-- table: quality -->\n<!-- table: speed -->\n<!-- end -->", "has no `<!-- end -->`"),
        (
            "<!-- table: speed -->\n<!-- end -->",
            "run `python benchmarks/speed.py --json benchmarks/results/speed.json`",
        ),
        ("<!-- table: seams -->\n<!-- end -->", "run `python benchmarks/memory.py --seams --json"),
        ("<!-- table: real clean -->\n<!-- end -->", "real.json holds no rows for the table 'real clean'"),
        ("<!-- table: damage speed -->\n<!-- end -->", "damage_speed.json holds no rows for the table"),
        ("<!-- table: steering map -->\n<!-- end -->", "steering.json holds no rows for the table"),
        ("<!-- table: memory -->\n<!-- end -->", "memory.json is no JSON"),
    ],
)
def test_a_table_that_cannot_be_made_is_named(tables, tmp_path, text, said):
    write(tmp_path, "real", sets=[])
    write(tmp_path, "damage_speed", mix={})
    write(tmp_path, "steering", grain={"header": ["x"], "rows": [["1"]]})
    (tmp_path / "memory.json").write_text("{", encoding="utf-8")
    with pytest.raises(tables.TableError) as caught:
        tables.rewritten(text, tmp_path)
    assert said in str(caught.value)
