"""Real damage with ground truth: how much weights gain over the damaged picture, and whether they find the
damage.

    python benchmarks/real.py                            the bundled weights, default settings, all sets
    python benchmarks/real.py --limit 3 --steps 0,4      a quick look, also at DAEM alone
    python benchmarks/real.py --weights old=FILE --weights new=FILE --json benchmarks/results/real.json

A set is a folder with lq/ and gt/. Sets are read from DATA/real_val (settings may be chosen on them), from
DATA/test_published (for reports only) and from folders given with --folder. Clean pictures are restored too:
CBSD68, and the middle 512x512 of the validation pictures val and val2. The tables have PSNR in dB over RGB,
of results rounded to 8 bits, as saved pictures are. With several weights, each picture is restored with all
of them in turn.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch
from _cases import Case, paired, read, spaced
from _command import add_device, command_line, run
from _host import ROOT, Walk, bundled, image, room
from _real_tables import Row, entries, tables
from _results import weights_of, write_results
from _sheet import counted
from _tables import CLEAN

MAIN = {
    "Nam25": "noise", "PolyU100": "noise", "SIRR_val20": "rain", "GoPro_dongheehand": "blur",
    "NYU_motion_synth": "blur",
    "I-HAZE_small": "haze", "ITS_indoor_train": "haze", "LOL_our485": "low_light", "LOL_eval15": "low_light",
    "Rain100L_481x321": "rain",
}  # fmt: skip
"""The main damage of each set."""
SIDE = 512
"""Side in pixels of the middle of clean pictures that is restored."""


def sets_in(folder: Path) -> list[Path]:
    """The sets in a folder, by name. Raises FileNotFoundError when there is none."""
    found = (
        sorted(place for place in folder.iterdir() if (place / "lq").is_dir() and (place / "gt").is_dir())
        if folder.is_dir()
        else []
    )
    if not found:
        raise FileNotFoundError(
            f"{folder} holds no set: expected folders with lq/ and gt/ in it. "
            "Point --data or --folder at another one."
        )
    return found


def middle(picture: torch.Tensor, side: int) -> torch.Tensor:
    """The middle of `1 3 H W`, at most `side` pixels a side."""
    top, left = (max(0, n - side) // 2 for n in picture.shape[2:])
    return picture[..., top : top + side, left : left + side]


def clean_sets(data: Path) -> dict[str, list[Path]]:
    """Clean pictures by set: CBSD68, and the validation pictures by their split."""
    found = {f"{CLEAN} CBSD68": sorted((data / "test" / "CBSD68").glob("*.png"))}
    with open(data / "MANIFEST.csv", newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            if row["split"].startswith("val"):
                found.setdefault(f"{CLEAN} {row['split']}", []).append(data / row["file"])
    return found


def clean(name: str, files: list[Path], limit: int | None) -> Iterator[Case]:
    for file in spaced(files, limit):
        picture = middle(read(file), SIDE)
        yield Case(name, CLEAN, file.stem, picture, picture)


def restored(walk: Walk, weights: str, case: Case, steps: tuple[int, ...], main: str | None) -> Iterator[Row]:
    """Restore a case with each number of steps. Yields a row for each."""
    measure, to_unit, as_8bit = (
        room("aior_core.metrics").measure,
        room("aior_core.picture").to_unit,
        room("aior_core.metrics").as_8bit,
    )
    kinds, is_found = (
        room("aior_core.degradations").KINDS,
        room("aior_core.report.degradation_report").is_found,
    )
    made = walk(image(case.lq), steps)
    worst = sorted(range(len(kinds)), key=lambda k: -made.severities[k] * made.probabilities[k])
    found = [kinds[k] for k in worst if is_found(made.severities[k], made.probabilities[k])]
    own = kinds.index(main) if main else None
    before = measure(case.lq, case.gt).psnr[0]
    for count in steps:
        result = as_8bit(to_unit(made.images[count]))
        yield Row(
            case.set, case.picture, weights, count, before, measure(result, case.gt).psnr[0],
            127.5 * (result - case.lq).abs().mean().item(), found, None if main is None else main in found,
            None if own is None else made.probabilities[own], None if own is None else made.severities[own],
            made.seconds[count],
        )  # fmt: skip


def as_json(rows: list[Row], weights: dict[str, str], options: argparse.Namespace) -> dict:
    """The settings, a summary per set, and the rows of all pictures."""
    return {
        "benchmark": "real", "limit": options.limit, "ensemble": options.ensemble,
        "weights": [weights_of(*each) for each in weights.items()],
        "sets": entries(rows, options.kinds),
        "pictures": [asdict(row) for row in rows],
    }  # fmt: skip


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line. Ends the program with a message when it is wrong."""
    parser = command_line(__doc__)
    parser.add_argument(
        "--data",
        type=Path,
        default=ROOT.parent / "shared" / "data",
        help="folder with real_val/, test_published/, test/ and MANIFEST.csv",
    )
    parser.add_argument(
        "--folder", type=Path, action="append", default=[], help="a folder of more sets; may be repeated"
    )
    parser.add_argument(
        "--kind",
        action="append",
        default=[],
        metavar="SET=KIND",
        help="what is wrong with a set's pictures; may be repeated",
    )
    parser.add_argument(
        "--only",
        help="only sets whose name holds one of these texts, separated by commas, e.g. 'Nam,PolyU,clean'",
    )
    parser.add_argument(
        "--weights",
        action="append",
        default=[],
        metavar="[NAME=]FILE",
        help="compact weights; may be repeated (default: the bundled ones)",
    )
    parser.add_argument(
        "--steps",
        default="4",
        help="numbers of sampling steps, separated by commas; 0 is DAEM alone (default: 4, as the command's)",
    )
    parser.add_argument(
        "--ensemble",
        type=int,
        default=1,
        metavar="N",
        help="mean of N mirrored copies, 1 to 4 (default: 1, off)",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="at most N pictures per set, evenly spaced")
    add_device(parser)
    options = parser.parse_args(argv)
    options.steps = tuple(int(count) for count in options.steps.split(","))
    named = [text.rpartition("=")[::2] for text in options.weights]
    options.weights = {name or Path(file).stem: file for name, file in named}
    if len(options.weights) != len(named):
        parser.error("--weights: two have one name; give NAME=FILE")
    kinds = dict(text.rpartition("=")[::2] for text in options.kind)
    known = room("aior_core.degradations").KINDS
    if unknown := set(kinds.values()) - set(known):
        parser.error(f"--kind: unknown {', '.join(sorted(unknown))}; expected some of {', '.join(known)}")
    options.kinds = MAIN | kinds
    return options


def main(argv: list[str] | None = None) -> int:
    options = arguments(argv)
    torch.set_grad_enabled(False)
    sys.stdout.reconfigure(line_buffering=True)
    weights = options.weights or {"bundled": str(bundled())}
    folders = [options.data / "real_val", options.data / "test_published", *options.folder]
    sources = [
        (place.name, paired(place.name, place, options.limit))
        for folder in folders
        for place in sets_in(folder)
    ]
    sources += [
        (name, clean(name, files, options.limit)) for name, files in clean_sets(options.data).items() if files
    ]
    wanted = options.only.split(",") if options.only else [""]
    walks = {name: Walk(file, options.device, options.ensemble) for name, file in weights.items()}
    rows: list[Row] = []
    for name, cases in sources:
        if not any(text in name for text in wanted):
            continue
        for case in counted(name, cases):
            for called, walk in walks.items():
                rows += restored(walk, called, case, options.steps, options.kinds.get(name))
        print(f"\n{tables([row for row in rows if row.set == name])}")
        if options.json:
            write_results(options.json, as_json(rows, weights, options))
    print(f"\n# All\n\n{tables(rows)}")
    return 0


if __name__ == "__main__":
    run(main)
