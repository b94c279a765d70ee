"""The tables of benchmarks/real.py and benchmarks/latent.py: means, shares and what is written, from rows
made by hand; and their walk on a small model."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from aior_pack.tests.tiny import picture
from PIL import Image

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def real():
    sys.path.insert(0, str(BENCHMARKS))
    import real

    yield real
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def latent():
    sys.path.insert(0, str(BENCHMARKS))
    import latent

    yield latent
    sys.path.remove(str(BENCHMARKS))


def cells(table: str) -> list[list[str]]:
    """The lines of a Markdown table, without its head."""
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]


def row(real, name: str, before: float, after: float, main: bool | None, **changes):
    numbers = {
        "change": 1.0,
        "found": ["noise"],
        "certainty": None if main is None else 0.5,
        "severity": None if main is None else 0.2,
        "seconds": 1.0,
    }
    return real.Row(name, "a", "w", 4, before, after, main=main, **(numbers | changes))


def test_real_counts_what_got_worse_and_what_was_found(real):
    rows = [
        row(real, "s", 30.0, after, main)
        for after, main in ((33.0, True), (29.9, False), (29.5, True), (27.0, True))
    ]
    (numbers,) = real.entries(rows)
    assert numbers["gain"] == pytest.approx(-0.15) and numbers["least_gain"] == pytest.approx(-3.0)
    assert (numbers["worse"], numbers["worse_by_0.2"], numbers["worse_by_2"], numbers["main_found"]) == (
        0.75,
        2,
        1,
        0.75,
    )
    unknown = [
        row(real, "other", 20.0, 21.0, None, found=[]),
        row(real, "clean x", 100.0, 55.0, None, change=0.5, found=[]),
    ]
    assert (
        real.entries(unknown[:1])[0]["main_found"] is None
        and real.entries(unknown)[0]["something_found"] == 0
    )
    text = real.tables([*rows, *unknown])
    damaged, clean = (cells(table) for table in text.split("\n\n"))
    assert damaged == [
        ["s", "w", "4", "4", "30.00", "29.85", "-0.15", "-3.00", "75%", "2 / 1", "75%"],
        ["other", "w", "4", "1", "20.00", "21.00", "+1.00", "+1.00", "0%", "0 / 0", "-"],
    ]
    assert clean == [["clean x", "w", "4", "1", "0%", "0.50", "0.50", "55.00", "55.00"]]
    # JSON as it is: no NaN, and nothing that only Python knows.
    options = SimpleNamespace(limit=None, ensemble=1, kinds={"s": "rain"})
    text = json.dumps(real.as_json([*rows, *unknown], {}, options), allow_nan=False)
    assert [entry["main"] for entry in json.loads(text)["sets"]] == ["rain", None, None]


def test_latent_errors_are_over_the_variance_of_all_pictures(latent):
    def made(picture: str, error: float, spread: float, psnr: float):
        errors = {source: error * (index + 1) for index, source in enumerate(latent.MEASURED)}
        return latent.Row(
            "rain", picture, "w", errors, spread, {source: psnr for source in ("input", *latent.SOURCES)}
        )

    (found,) = latent.summaries([made("a", 1.0, 2.0, 20.0), made("b", 3.0, 6.0, 30.0)])
    assert found["errors"] == pytest.approx(
        {source: 0.5 * (index + 1) for index, source in enumerate(latent.MEASURED)}
    )
    assert found["pictures"] == 2 and set(found["psnr"].values()) == {25.0}
    first, second = latent.tables([made("a", 1.0, 2.0, 20.0)]).split("\n\n")
    # Of the last two columns each says how a sampled latent compares with the damaged one.
    assert cells(first) == [["rain", "w", "1", "0.500", "1.000", "1.500", "2.000", "3.00", "4.00"]]
    assert cells(second) == [["rain", "w", "1", *["20.00"] * 7]]


def sets(folder: Path) -> None:
    """Two sets of one pair each, and CBSD68 with one picture; clean pictures of validation."""
    clean = (picture(48, 56)[0] * 255).round().byte().numpy()
    for place in ("real_val/Nam25", "test_published/Unknown"):
        for side, values in (("lq", np.clip(clean * 0.6, 0, 255).astype(np.uint8)), ("gt", clean)):
            path = folder / place / side / "00.png"
            path.parent.mkdir(parents=True)
            Image.fromarray(values).save(path)
    (folder / "test" / "CBSD68").mkdir(parents=True)
    Image.fromarray(clean).save(folder / "test" / "CBSD68" / "0.png")
    Image.fromarray((picture(300, 300)[0] * 255).round().byte().numpy()).save(folder / "v.png")
    (folder / "MANIFEST.csv").write_text("file,set,split\nv.png,x,val\nw.png,x,train\n", encoding="utf-8")


def test_both_measure_small_weights_from_end_to_end(real, latent, tiny_file, tmp_path, capsys):
    sets(tmp_path)
    arguments = ["--data", str(tmp_path), "--weights", f"one={tiny_file}", "--weights", f"two={tiny_file}"]
    grad = torch.is_grad_enabled()
    try:
        assert (
            real.main(
                [
                    *arguments,
                    "--steps",
                    "0,1",
                    "--kind",
                    "Unknown=haze",
                    "--json",
                    str(tmp_path / "out" / "real.json"),
                ]
            )
            == 0
        )
        assert (
            latent.main(
                [*arguments, "--only", "jpeg q5,clean", "--json", str(tmp_path / "out" / "latent.json")]
            )
            == 0
        )
    finally:
        torch.set_grad_enabled(grad)
    text = capsys.readouterr().out
    assert (
        "| Nam25 " in text
        and "| clean val " in text
        and "decoded from, dB" in text
        and "The autoencoder alone" in text
    )
    written = json.loads((tmp_path / "out" / "real.json").read_text())
    assert [(entry["set"], entry["main"]) for entry in written["sets"][::4]] == [
        ("Nam25", "noise"),
        ("Unknown", "haze"),
        ("clean CBSD68", None),
        ("clean val", None),
    ]
    assert len(written["pictures"]) == 16 and str(tmp_path) not in json.dumps(written)
    rows = {(row["set"], row["weights"], row["steps"]): row["after"] for row in written["pictures"]}
    assert all(rows[name, "one", steps] == rows[name, "two", steps] for name, _, steps in rows)
    held = json.loads((tmp_path / "out" / "latent.json").read_text())["damages"]
    clean = next(entry for entry in held if entry["damage"] == "clean")
    assert clean["errors"]["damaged"] == pytest.approx(0, abs=1e-9) and clean["psnr"][
        "damaged"
    ] == pytest.approx(clean["psnr"]["clean"])
    assert clean["psnr"]["mirrored"] != clean["psnr"]["clean"] and clean["errors"]["4 steps"] > 0.01


def test_a_folder_without_sets_is_named(real, tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing holds no set"):
        real.sets_in(tmp_path / "nothing")
