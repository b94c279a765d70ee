"""Does our damage look like the world's? Real damage and ours are measured side by side.

    python benchmarks/likeness.py                          all rows
    python benchmarks/likeness.py --rows rain low_light    some rows only
    python benchmarks/likeness.py --pictures 400           more of our pictures; 120 by default

The script writes likeness.csv, likeness.json and one contact sheet per row, with eight real pictures and
eight of ours, to runs/likeness. A number is met where the middle half of the real set (25 to 75 %) lies
inside ours (5 to 95 %). It is reached where our extremes enclose the real ones. Real pairs are read from
folders with lq/ and gt/. They are there to choose by, and nothing is trained on them. Numbers that a paper
states about a set that is only for reporting are compared as numbers.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import _likeness_measures as measures
import torch
from _host import ROOT
from _likeness_jpeg import jpeg_of_params, jpeg_of_tables
from _likeness_sets import SIDE, all_styles, clean_files, made_pairs, real_pairs
from _likeness_sheet import contact_sheet

SHARED = ROOT.parent / "shared" / "data"


@dataclass(frozen=True)
class Compared:
    """One row: real sets, the styles that are to look like them, what is measured, and how it is shown.

    sets: folders of `real_val`. Without one only ours is printed.
    styles: names. Names that do not exist are left out and reported.
    measure: `(lq, gt) -> {name: number}`, see `_likeness_measures`.
    stated: numbers from a paper, `{style: {measure: value}}`.
    shown: "picture", "rest" (what was added, enlarged) or "brightened".
    alike: a measure. The sheet shows only those of ours whose value lies within the range of the real set, so
        that pictures of equal strength stand side by side.
    darker: stops by which our truths are rendered darker, in turn, where the real set has darker scenes than
        our photographs.
    """

    sets: tuple[str, ...]
    styles: tuple[str, ...]
    measure: Callable[[torch.Tensor, torch.Tensor], dict[str, float]]
    stated: dict[str, dict[str, float]]
    shown: str = "picture"
    side: int = SIDE
    alike: str | None = None
    darker: tuple[float, ...] = (0.0,)


COMPARED = {
    "noise": Compared(
        ("Nam25", "PolyU100"),
        ("noise.camera",),
        measures.noise,
        {},
        "rest",
        alike="std",
        darker=(0.0,) * 4 + (1.0, 1.5, 2.0, 3.0),
    ),
    "rain": Compared(
        ("SIRR_val20",),
        ("sirr_streaks", "sirr_curtain", "sirr_drops"),
        measures.weather,
        {
            "rain100l": {"share": 0.15, "mean": 34.0, "darker": 0.0, "directions": 1.0},
            "rain100h": {"share": 0.82, "mean": 65.0},
        },
    ),
    "snow": Compared((), ("snow100k", "csd"), measures.weather, {}),
    "low_light": Compared(("LOL_our485",), ("lol",), measures.low_light, {}, "brightened"),
    "blur": Compared(
        ("GoPro_dongheehand", "NYU_motion_synth"),
        ("blur.camera",),
        measures.blur,
        {},
        side=352,
    ),
    "haze_machine": Compared(
        ("I-HAZE_small",), ("machine_haze",), measures.haze, {}, side=280, darker=(0.0, 0.5, 1.0)
    ),
    "haze_indoor": Compared(("ITS_indoor_train",), ("indoor_haze",), measures.haze, {}, side=400),
}


@dataclass(frozen=True)
class Number:
    """One measured number of a row: quantiles of the real set and of ours.

    `met` and `reached` are None without a real set.
    """

    row: str
    number: str
    real_count: int
    real_min: float
    real_25: float
    real_50: float
    real_75: float
    real_max: float
    our_count: int
    our_min: float
    our_5: float
    our_25: float
    our_50: float
    our_75: float
    our_95: float
    our_max: float
    met: bool | None
    reached: bool | None


def quantiles(values: list[float], points: tuple) -> list[float]:
    """Return quantiles of the finite values, or NaN where there are none."""
    finite = torch.tensor([value for value in values if math.isfinite(value)], dtype=torch.float64)
    if not len(finite):
        return [math.nan] * len(points)
    return finite.quantile(torch.tensor(points, dtype=torch.float64)).tolist()


def below(low: float, high: float) -> bool:
    """Return whether `low` is not above `high`, to within one percent.

    The measures are not more accurate than that.
    """
    return low <= high + 0.01 * max(abs(low), abs(high), 0.01)


def number(row: str, name: str, real: list[float], ours: list[float]) -> Number:
    """Compare real values with ours, and tell whether ours cover them."""
    there, here = (sum(map(math.isfinite, values)) for values in (real, ours))
    of_real = quantiles(real, (0.0, 0.25, 0.5, 0.75, 1.0))
    of_ours = quantiles(ours, (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0))
    met = reached = None
    if there and here:
        met = below(of_ours[1], of_real[1]) and below(of_real[3], of_ours[5])
        reached = below(of_ours[0], of_real[0]) and below(of_real[4], of_ours[6])
    elif there:
        met = reached = False
    return Number(row, name, there, *of_real, here, *of_ours, met, reached)


def by_name(measured: list[dict[str, float]]) -> dict[str, list[float]]:
    """Turn a list of dicts into a dict of lists."""
    return {name: [values[name] for values in measured] for name in measured[0]} if measured else {}


def compared(name: str, row: Compared, styles: dict, real: Path, files: list[Path], count: int, seed: int):
    """Return `(numbers, real pairs, our pairs for the sheet, missing styles)` of one row."""
    theirs = list(real_pairs([real / folder for folder in row.sets], row.side))
    names = [style for style in row.styles if style in styles]
    ours = list(made_pairs(styles, names, files, count, seed, row.side, row.darker)) if names else []
    of_real, of_ours = (
        by_name([row.measure(pair.lq, pair.gt) for pair in pairs]) for pairs in (theirs, ours)
    )
    if row.alike and theirs and ours:
        low, high = min(of_real[row.alike]), max(of_real[row.alike])
        ours = [pair for pair, value in zip(ours, of_ours[row.alike]) if low <= value <= high] or ours
    keys = of_real or of_ours
    numbers = [number(name, key, of_real.get(key, []), of_ours.get(key, [])) for key in keys]
    for style, values in row.stated.items():
        if style in styles:
            made = by_name(
                [row.measure(p.lq, p.gt) for p in made_pairs(styles, [style], files, count, seed, row.side)]
            )
            numbers += [number(f"{name}: {style}", key, [value], made[key]) for key, value in values.items()]
    return numbers, theirs, ours, [style for style in row.styles if style not in styles]


def line(entry: Number) -> str:
    """Return a line of the table."""

    def span(*values: float) -> str:
        return " ".join(f"{value:8.2f}" if math.isfinite(value) else "       -" for value in values)

    said = {None: "-", True: "yes", False: "NO"}
    real = span(entry.real_min, entry.real_25, entry.real_50, entry.real_75, entry.real_max)
    ours = span(entry.our_min, entry.our_5, entry.our_50, entry.our_95, entry.our_max)
    judged = f"{said[entry.met]:>3} {said[entry.reached]:>7}"
    return f"{entry.row:16.16} {entry.number:12.12} |{real} |{ours} | {judged}"


def main(
    argv: list[str] | None = None, styles: dict | None = None, rows: dict[str, Compared] | None = None
) -> int:
    """Run the benchmark.

    styles: by name, each with `draw`, `apply` and `severities`. None: the published ones and those of the
    registry.
    """
    rows = rows or COMPARED
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=SHARED, help="folder of photographs with MANIFEST.csv")
    parser.add_argument("--real", type=Path, help="folder of the real sets (default: real_val in --data)")
    parser.add_argument(
        "--rows", nargs="+", choices=[*rows, "jpeg"], default=[*rows, "jpeg"], help="which rows"
    )
    parser.add_argument(
        "--pictures", type=int, default=120, metavar="N", help="of ours, per row (default: 120)"
    )
    parser.add_argument("--seed", type=int, default=29, help="of ours (default: 29)")
    parser.add_argument(
        "-o", "--out", type=Path, default=ROOT / "runs" / "likeness", help="folder for table and sheets"
    )
    options = parser.parse_args(argv)
    torch.set_grad_enabled(False)
    if styles is None:
        styles = all_styles()
    options.out.mkdir(parents=True, exist_ok=True)
    files, numbers = clean_files(options.data), []
    heads = f"{'real: min 25 50 75 % max':^45} |{'ours: min 5 50 95 % max':^45}"
    print(f"{'row':16} {'number':12} |{heads} | met reached")
    for name in options.rows:
        if name == "jpeg":
            theirs = jpeg_of_tables(options.data / "camera" / "jpeg_tables.json")
            ours, missing = jpeg_of_params(styles, options.pictures, options.seed)
            theirs, ours = by_name(theirs), by_name(ours)
            added = [number(name, key, values, ours.get(key, [])) for key, values in theirs.items()]
        else:
            row, real = rows[name], options.real or options.data / "real_val"
            added, theirs, ours, missing = compared(
                name, row, styles, real, files, options.pictures, options.seed
            )
            contact_sheet(name, theirs, ours, row.shown).save(options.out / f"{name}.png")
        numbers += added
        print("\n".join(map(line, added)))
        if missing:
            print(f"{name}: no style called {', '.join(missing)}")
    met, judged = sum(entry.met is True for entry in numbers), sum(entry.met is not None for entry in numbers)
    reached = sum(entry.reached is True for entry in numbers)
    print(f"Of {judged} numbers {met} middle halves lie inside ours, {reached} extremes are reached.")
    print(f"{options.out}: likeness.csv, likeness.json and a sheet per row")
    write(options.out, numbers)
    return 0


def write(folder: Path, numbers: list[Number]) -> None:
    """Write the numbers as likeness.csv and likeness.json; a number that is missing is empty, or null."""
    rows = [
        {key: None if value != value else value for key, value in asdict(entry).items()} for entry in numbers
    ]
    with open(folder / "likeness.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, [field for field in Number.__dataclass_fields__])
        writer.writeheader()
        writer.writerows(rows)
    (folder / "likeness.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
