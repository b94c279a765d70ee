"""Selective restoration and the severity maps, measured on the validation photographs.

    python benchmarks/steering.py                        both parts, every validation photograph
    python benchmarks/steering.py --limit 4 --parts map  a quick look at one part

The part "grain" adds rain and then film grain (grey noise with sigma 12 of 255) to a clean picture. The
target is the clean picture with the same grain. The picture is restored with noise steered to 0, and once
more with everything removed. The table has:
- PSNR against the target and against the clean picture, of results rounded to 8 bits.
- "grain kept": the share of the true grain in the result. Result - clean and grainy - clean are high-passed
  (minus their 5x5 mean), and the first is regressed on the second. The grain is independent of the
  photograph, the rain and the errors of the restoration, so none of these counts: the coefficient is the
  standard deviation of the result's component along the grain, divided by that of the grain. Other noise in
  its place does not count either. A result that leaves everything as it is keeps 100 % too, so read it
  together with the gain. It is measured where the clean picture is at least 2.5 sigma from black and white,
  because clipping removes grain elsewhere.
- "fine residue in flat places": the standard deviation of the high-passed result - clean, divided by that
  of the grain, in the flattest quarter of these pixels. It counts everything: grain kept, grain invented,
  and remains of rain. A value close to "grain kept" means that the residue is grain.

The part "map" puts noise, blur, rain and haze on one half of a picture each (the recipe's mask "half", with
a soft edge in any direction). The degradation head's map of that damage, at an eighth of the size, is
thresholded at half of its 95th percentile, which needs no ground truth. The true half is where the mask,
averaged over 8x8 pixels, is at least 0.5. The table has the IoU of both, and for comparison the IoU of a
map that covers everything.
"""

from __future__ import annotations

import argparse
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path

import torch
from _cases import Case, validation
from _command import add_model, command_line, run
from _host import ROOT, Walk, image, room
from _results import as_table, weights_used, write_results
from _sheet import counted, sheet
from _tables import stored
from torch.nn import functional as F

SIGMA, RAIN = 12.0, 0.5
DAMAGED, STEERED, REMOVED = "damaged", "noise steered to 0", "everything removed"
TO_WISH, TO_CLEAN, KEPT, RESIDUE = (
    "PSNR to clean + grain",
    "PSNR to clean",
    "grain kept",
    "fine residue in flat places",
)
GAIN_WANTED, KEPT_WANTED, IOU_WANTED = 4.0, (0.8, 1.2), 0.5
HALVES = {"noise": 0.42, "blur": 0.5, "rain": 0.5, "haze": 0.6}
OURS, EVERYWHERE = "IoU", "IoU of everywhere"


@dataclass(frozen=True)
class Row:
    """A value with its part ("grain" or "map"), case (a method or kind of damage), picture and measure."""

    part: str
    case: str
    picture: str
    measure: str
    value: float


def clean_pictures(data: Path, limit: int | None) -> Iterator[Case]:
    """The undamaged validation pictures, which come first."""
    return takewhile(lambda case: case.degradation == "clean", validation(data, limit))


def seed_of(name: str) -> int:
    """The seed of a picture. It does not depend on the other pictures."""
    return zlib.crc32(name.encode()) % 2**20


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def box(x: torch.Tensor, size: int) -> torch.Tensor:
    """Mean over `size` by `size` pixels, `B C H W`."""
    return F.avg_pool2d(F.pad(x, [size // 2] * 4, mode="reflect"), size, stride=1)


def fine(difference: torch.Tensor) -> torch.Tensor:
    """The fine part of a difference of pictures `1 3 H W`, grey: `1 1 H W`."""
    grey = difference.double().mean(1, keepdim=True)
    return grey - box(grey, 5)


def unclipped(clean: torch.Tensor) -> torch.Tensor:
    """Where grain fits between black and white, bool `1 1 H W`; everywhere if that is hardly anywhere."""
    margin = 2.5 * SIGMA * 2 / 255
    fits = (clean.amin(1, keepdim=True) > margin - 1) & (clean.amax(1, keepdim=True) < 1 - margin)
    return fits if fits.double().mean() > 0.01 else torch.ones_like(fits)


def grain_kept(result: torch.Tensor, clean: torch.Tensor, grainy: torch.Tensor) -> float:
    """Share of the grain `grainy - clean` in `result`: 0 for none, 1 for all, above 1 for more."""
    where = unclipped(clean)
    grain = fine(grainy - clean)[where]
    return ((fine(result - clean)[where] * grain).sum() / grain.square().sum()).item()


def flat_residue(result: torch.Tensor, clean: torch.Tensor, grainy: torch.Tensor) -> float:
    """Standard deviation of the fine part of `result - clean` where `clean` is flattest, over the grain's."""
    grey = clean.double().mean(1, keepdim=True)
    variance = box(grey.square(), 9) - box(grey, 9).square()
    where = unclipped(clean)
    flat = where & (variance <= variance[where].quantile(0.25))
    return (fine(result - clean)[flat].std() / fine(grainy - clean)[flat].std()).item()


def grain_rows(walk: Walk, case: Case, steps: int) -> Iterator[Row]:
    """Add rain and grain to a clean picture, and measure what is left of both, with and without steering."""
    metrics, degradations = room("aior_core.metrics"), room("aior_core.degradations")
    steer_prior, to_unit = room("aior_core.pipeline.steer").steer_prior, room("aior_core.picture").to_unit
    seed, clean = seed_of(case.picture), case.gt
    rain = degradations.preset_recipe("rain", RAIN, seed)
    noise = degradations.preset_recipe("noise", 0.0, seed + 1, sigma=SIGMA, model="grey")
    recipe = degradations.Recipe(rain.steps + noise.steps)
    grainy, lq = (
        metrics.as_8bit(degradations.apply_recipe(clean, each)) for each in (recipe.only(("noise",)), recipe)
    )
    prior = walk.encode(image(lq))
    results = {DAMAGED: lq}
    for name, each in ((STEERED, steer_prior(prior, {"noise": 0.0})), (REMOVED, prior)):
        results[name] = metrics.as_8bit(to_unit(walk.decode(walk.sample(each, steps), each)))
    for name, result in results.items():
        values = {
            TO_WISH: metrics.psnr(result, grainy).item(),
            TO_CLEAN: metrics.psnr(result, clean).item(),
            KEPT: grain_kept(result, clean, grainy),
            RESIDUE: flat_residue(result, clean, grainy),
        }
        yield from (Row("grain", name, case.picture, measure, value) for measure, value in values.items())


def intersection_over_union(a: torch.Tensor, b: torch.Tensor) -> float:
    """IoU of two boolean masks."""
    return ((a & b).sum() / (a | b).sum().clamp_min(1)).item()


def map_rows(walk: Walk, case: Case, steps: int) -> Iterator[Row]:
    """Damage one half of a clean picture, and measure whether the map finds it. `steps` is not used."""
    metrics, degradations = room("aior_core.metrics"), room("aior_core.degradations")
    for offset, (kind, severity) in enumerate(HALVES.items()):
        seed, index = seed_of(case.picture) + 10 * offset, degradations.KINDS.index(kind)
        (step,) = degradations.preset_recipe(kind, severity, seed).steps
        recipe = degradations.Recipe((replace(step, mask={"seed": seed + 1, "kind": "half"}),))
        _, labels = degradations.recipe_labels(recipe, *case.gt.shape[-2:])
        truth = labels[index] >= 0.5 * severity
        found = (
            walk.encode(image(metrics.as_8bit(degradations.apply_recipe(case.gt, recipe))))
            .maps[0, index]
            .float()
            .cpu()
        )
        found = found >= 0.5 * found.quantile(0.95)
        values = {
            OURS: intersection_over_union(found, truth),
            EVERYWHERE: intersection_over_union(torch.ones_like(truth), truth),
        }
        yield from (Row("map", kind, case.picture, measure, value) for measure, value in values.items())


PARTS = {"grain": grain_rows, "map": map_rows}


def table(rows: list[Row]) -> dict[str, dict[str, list[float]]]:
    """The values by case and measure, one per picture, in order."""
    grouped: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        grouped.setdefault(row.case, {}).setdefault(row.measure, []).append(row.value)
    return grouped


def grain_summary(rows: list[Row]) -> tuple[dict, str]:
    """A table of the means per method, and a sentence on how many pictures come out as wanted."""
    by_method = table(rows)
    before = by_method[DAMAGED][TO_WISH]
    lines = []
    for name, values in by_method.items():
        gain = mean(values[TO_WISH]) - mean(before)
        lines.append(
            [
                name,
                str(len(before)),
                f"{mean(values[TO_WISH]):.2f}",
                f"{gain:+.2f}",
                f"{mean(values[TO_CLEAN]):.2f}",
                f"{mean(values[KEPT]):.0%}",
                f"{mean(values[RESIDUE]):.0%}",
            ]
        )
    steered = by_method[STEERED]
    gained = sum(after - start >= GAIN_WANTED for after, start in zip(steered[TO_WISH], before))
    kept = sum(KEPT_WANTED[0] <= share <= KEPT_WANTED[1] for share in steered[KEPT])
    low, high = KEPT_WANTED
    sentence = (
        f"{STEERED}: {gained} of {len(before)} gain {GAIN_WANTED:g} dB or more, "
        f"{kept} keep {low:.0%} to {high:.0%} of the grain."
    )
    return as_table(["", "n", TO_WISH, "gain", TO_CLEAN, KEPT, RESIDUE], lines), sentence


def map_summary(rows: list[Row]) -> tuple[dict, str]:
    """A table of the mean IoU per damage."""
    lines = [
        [
            kind,
            str(len(values[OURS])),
            f"{mean(values[OURS]):.3f}",
            f"{min(values[OURS]):.3f}",
            str(sum(value >= IOU_WANTED for value in values[OURS])),
            f"{mean(values[EVERYWHERE]):.3f}",
        ]
        for kind, values in table(rows).items()
    ]
    header = ["damage on a half", "n", "mean IoU", "least", f"at least {IOU_WANTED}", EVERYWHERE]
    return as_table(header, lines), ""


SUMMARIES = {"grain": grain_summary, "map": map_summary}


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line. Ends the program with a message when it is wrong."""
    parser = command_line(__doc__)
    parser.add_argument(
        "--data",
        type=Path,
        default=ROOT.parent / "shared" / "data",
        help="folder with MANIFEST.csv and the val pictures it names (default: ../shared/data "
        "beside the repository)",
    )
    parser.add_argument(
        "--parts", default="grain,map", help="which of grain, map, separated by commas (default: both)"
    )
    parser.add_argument(
        "--steps", type=int, default=4, help="sampling steps of the restoration (default: 4; 0 is DAEM alone)"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="at most N pictures, evenly spaced")
    add_model(parser)
    parser.add_argument(
        "--csv", type=Path, metavar="FILE", help="write every single measurement to this file"
    )
    options = parser.parse_args(argv)
    options.parts = [name for name in options.parts.split(",") if name]
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"--parts: unknown {', '.join(sorted(unknown))}; expected some of {', '.join(PARTS)}")
    return options


def main(argv: list[str] | None = None) -> int:
    options = arguments(argv)
    torch.set_grad_enabled(False)
    sys.stdout.reconfigure(line_buffering=True)
    walk = Walk(options.weights, options.device)
    print(f"Weights: {walk.weights}. {options.steps} steps.")
    results: dict = {"benchmark": "steering", "steps": options.steps, "limit": options.limit}
    results["weights"] = weights_used(options.weights)
    with sheet(options.csv, Row) as add:
        for part in options.parts:
            rows: list[Row] = []
            for case in counted(part, clean_pictures(options.data, options.limit)):
                measured = list(PARTS[part](walk, case, options.steps))
                rows += measured
                add(measured)
            results[part], sentence = SUMMARIES[part](rows)
            print(f"\n## {part}\n\n{stored(results, part)}\n\n{sentence}")
            if options.json:
                write_results(options.json, results)
    return 0


if __name__ == "__main__":
    run(main)
