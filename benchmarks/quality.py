"""Quality of the restoration, compared with the damaged picture and with a classical method.

    python benchmarks/quality.py                          all sets in --data
    python benchmarks/quality.py --limit 4 --steps 0,1    a quick look
    python benchmarks/quality.py --sets '' --paired Rain100L=/data/Rain100L --paired SOTS=/data/SOTS

The tables have PSNR in dB and SSIM of results rounded to 8 bits, as saved pictures are. 0 steps means DAEM
alone, on the damaged picture's latent. The sets are: val, the validation pictures under fixed synthetic
damages; half, the same pictures at half their size, because many are soft at full size; cbsd68 and set5, test
sets, which nothing is tuned on; and with --paired any published set in a folder with lq/ and gt/ (Rain100L,
Rain100H, SOTS, GoPro, LOL, CDD-11, UDC). Settings may be chosen on val and half only. Needs scikit-image for
the classical methods. Uses CBM3D if the package bm3d is installed.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean as mean

import torch
from _cases import Case, cbsd68, paired, set5, validation
from _classical import BLIND, classical
from _command import add_model, command_line, run
from _host import ROOT, Restored, Walk, image, room
from _plot import draw_gains
from _results import weights_used, write_results
from _sheet import counted, sheet
from _tables import INPUT, NOTHING, PERFECT, markdown, quality, steps_name

SETS = {"val": validation, "half": functools.partial(validation, halved=True), "cbsd68": cbsd68, "set5": set5}


@dataclass(frozen=True)
class Row:
    """The measurement of one picture and one method. `perceptual` and `seconds` may be None."""

    set: str
    degradation: str
    picture: str
    method: str
    psnr: float
    ssim: float
    perceptual: float | None
    seconds: float | None


@dataclass(frozen=True)
class Naming:
    """The one damage of a picture, and the damage that the degradation head rates highest."""

    truth: str
    by_severity: str
    by_probability: str


def score(case: Case, method: str, result: torch.Tensor, learned: bool, seconds: float | None = None) -> Row:
    """Measure a result `1 3 H W`, -1..1, by the case's protocol."""
    scores = room("aior_core.metrics").measure(
        result, case.gt, border=case.border, channel=case.channel, learned=learned
    )
    return Row(
        case.set,
        case.degradation,
        case.picture,
        method,
        scores.psnr[0],
        scores.ssim[0],
        scores.perceptual[0] if learned else None,
        seconds,
    )


def evaluate(
    cases: Iterable[Case],
    restore: Callable[..., Restored] | None,
    steps: tuple[int, ...],
    *,
    baseline: str = "auto",
    learned: bool = False,
) -> Iterator[tuple[list[Row], Naming | None]]:
    """Yield the measurements of every case and, for a single damage, the name that the head gives it.

    restore: takes an IMAGE `B H W C`, the steps and a seed, as `_host.Walk` does; None measures the input and
    the classical method only. baseline: "auto", "CBM3D", "NLM" or "none".
    """
    picture, metrics = room("aior_core.picture"), room("aior_core.metrics")
    kinds = room("aior_core.degradations").KINDS
    for case in cases:
        rows, naming = [score(case, INPUT, case.lq, learned)], None
        name, result = (BLIND, None) if baseline == "none" else classical(case, baseline)
        if result is not None:
            rows.append(score(case, name, metrics.as_8bit(result), learned))
        if restore is not None:
            restored = restore(image(case.lq), steps, 0)
            for count, made in restored.images.items():
                result = metrics.as_8bit(picture.to_unit(made))
                rows.append(score(case, str(count), result, learned, restored.seconds[count]))
            if len(case.kinds) == 1:
                said = [
                    kinds[max(range(len(kinds)), key=values.__getitem__)]
                    for values in (restored.severities, restored.probabilities)
                ]
                naming = Naming(case.kinds[0], *said)
        yield rows, naming


def means(rows: list[Row]) -> list[dict]:
    """The means of every set, degradation and method, in their order."""
    grouped: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for row in rows:
        grouped[row.set, row.degradation, row.method].append(row)
    return [
        {
            "set": name,
            "degradation": degradation,
            "method": method,
            "pictures": len(chosen),
            "psnr": mean(row.psnr for row in chosen),
            "ssim": mean(row.ssim for row in chosen),
            "perceptual": None if chosen[0].perceptual is None else mean(row.perceptual for row in chosen),
        }
        for (name, degradation, method), chosen in grouped.items()
    ]


def as_json(rows: list[Row], options: argparse.Namespace) -> dict:
    """The settings and the means."""
    return {
        "benchmark": "quality",
        "limit": options.limit,
        "ensemble": options.ensemble,
        "steps": list(options.steps),
        "weights": [] if options.no_model else weights_used(options.weights),
        "means": means(rows),
    }


def gains(rows: list[Row]) -> dict[str, dict[str, float]]:
    """Mean PSNR of each method minus that of the input, by degradation, without clean pictures."""
    grouped: dict[str, dict[str, float]] = defaultdict(dict)
    for each in means(rows):
        grouped[f"{each['set']}: {each['degradation']}"][steps_name(each["method"])] = each["psnr"]
    return {
        damage: {name: value - methods[INPUT] for name, value in methods.items() if name != INPUT}
        for damage, methods in grouped.items()
        if methods[INPUT] < PERFECT
    }


def naming_summary(namings: list[Naming]) -> str:
    """A table of how often the degradation head names the one damage of a picture correctly."""
    by_kind: dict[str, list[Naming]] = defaultdict(list)
    for naming in namings:
        by_kind[naming.truth].append(naming)
    lines = [
        [
            kind,
            str(len(found)),
            str(sum(n.by_severity == kind for n in found)),
            str(sum(n.by_probability == kind for n in found)),
            ", ".join(sorted({n.by_severity for n in found if n.by_severity != kind})) or NOTHING,
        ]
        for kind, found in by_kind.items()
    ]
    right = [sum(getattr(n, name) == n.truth for n in namings) for name in ("by_severity", "by_probability")]
    lines.append(
        [
            "all",
            str(len(namings)),
            *(str(count) for count in right),
            f"{right[0] / len(namings):.0%} by severity",
        ]
    )
    return markdown(["damage", "n", "right by severity", "right by probability", "taken for"], lines)


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line. Ends the program with a message when it is wrong."""
    parser = command_line(__doc__)
    parser.add_argument(
        "--data",
        type=Path,
        help="folder with MANIFEST.csv, train/ and test/ (default: ../shared/data beside the "
        "repository, if there)",
    )
    parser.add_argument(
        "--sets",
        default="val,cbsd68,set5",
        help="which of val, half, cbsd68, set5, separated by commas; '' for none (default: all but half)",
    )
    parser.add_argument(
        "--paired",
        action="append",
        default=[],
        metavar="NAME=DIR",
        help="also a set of pairs in DIR/lq and DIR/gt; may be repeated",
    )
    parser.add_argument(
        "--steps",
        default="0,1,4",
        help="numbers of sampling steps, separated by commas (default: 0,1,4; 20 is for texture)",
    )
    parser.add_argument(
        "--ensemble",
        type=int,
        default=1,
        metavar="N",
        help="mean of N mirrored copies, 1 to 4 (default: 1, off)",
    )
    parser.add_argument(
        "--limit", type=int, metavar="N", help="at most N pictures per set and degradation, evenly spaced"
    )
    parser.add_argument(
        "--only",
        help="only degradations whose label holds one of these texts, separated by commas, e.g. "
        "'float,jpeg q10'",
    )
    add_model(parser)
    parser.add_argument(
        "--classical",
        choices=("auto", "CBM3D", "NLM", "none"),
        default="auto",
        help="denoiser to compare with; none leaves out classical methods "
        "(default: CBM3D if installed, which takes 5 to 20 s per picture, otherwise NLM)",
    )
    parser.add_argument(
        "--perceptual",
        action="store_true",
        help="add ST-LPIPS (not LPIPS; needs the package stlpips-pytorch)",
    )
    parser.add_argument(
        "--no-model", action="store_true", help="measure the inputs and the classical methods only"
    )
    parser.add_argument(
        "--csv", type=Path, metavar="FILE", help="write every single measurement to this file"
    )
    parser.add_argument(
        "--plot", type=Path, metavar="PNG", help="draw the gains over the damaged pictures (needs matplotlib)"
    )
    options = parser.parse_args(argv)
    options.steps = tuple(int(count) for count in options.steps.split(","))
    options.sets = [name for name in options.sets.lower().split(",") if name]
    options.paired = [pair.partition("=")[::2] for pair in options.paired]
    if unknown := set(options.sets) - set(SETS):
        parser.error(f"--sets: unknown {', '.join(sorted(unknown))}; expected some of {', '.join(SETS)}")
    if not all(name and folder for name, folder in options.paired):
        parser.error("--paired: expected NAME=DIR")
    if not options.sets and not options.paired:
        parser.error("nothing to measure: give --sets or --paired")
    if options.sets and options.data is None:
        options.data = ROOT.parent / "shared" / "data"
        if not options.data.is_dir():
            parser.error(
                "--data is needed: a folder with MANIFEST.csv (columns file, split), the val pictures in it, "
                "test/CBSD68 and test/Set5"
            )
    return options


def main(argv: list[str] | None = None) -> int:
    options = arguments(argv)
    torch.set_grad_enabled(False)
    # A set takes minutes, so its table is written when it is done, also to a file.
    sys.stdout.reconfigure(line_buffering=True)
    walk = None if options.no_model else Walk(options.weights, options.device, options.ensemble)
    sources = [(name, SETS[name](options.data, options.limit)) for name in options.sets]
    sources += [(name, paired(name, Path(folder), options.limit)) for name, folder in options.paired]
    print(
        f"Weights: {walk.weights if walk else 'none'}. Mirrored copies: {options.ensemble}. Cells: "
        f"PSNR dB / SSIM{' / ST-LPIPS (not LPIPS)' if options.perceptual else ''}."
    )
    everything: list[Row] = []
    with sheet(options.csv, Row) as add:
        for name, cases in sources:
            rows, namings = [], []
            wanted = options.only.split(",") if options.only else [""]
            cases = (case for case in cases if any(text in case.degradation for text in wanted))
            measurements = evaluate(
                cases, walk, options.steps, baseline=options.classical, learned=options.perceptual
            )
            for measured, naming in counted(name, measurements):
                rows += measured
                namings += [naming] if naming else []
                add(measured)
            everything += rows
            result = {"steps": options.steps, "means": means(rows)}
            print(f"\n## {name}\n\n{quality(result)}")
            if name not in SETS:
                for row in rows:
                    print(f"- {row.picture}, {row.method}: {row.psnr:.2f} / {row.ssim:.4f}")
            if name == "val" and namings:
                print(f"\nThe head's word for the one damage of each picture:\n\n{naming_summary(namings)}")
    if options.json:
        write_results(options.json, as_json(everything, options))
    if options.plot:
        draw_gains(gains(everything), options.plot, walk.weights if walk else "no model")
    return 0


if __name__ == "__main__":
    run(main)
