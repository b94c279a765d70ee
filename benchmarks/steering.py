"""Selective restoration and the severity maps, on the validation photographs.

    python benchmarks/steering.py                        both parts, every validation photograph
    python benchmarks/steering.py --limit 4 --parts map  a quick look at one part

**grain**: rain, then film grain (grey noise of sigma 12 of 255) on a clean picture; the wish is the clean picture with the
same grain. It is restored with noise steered to 0, and for comparison with everything removed.
- PSNR against the wish and against the clean picture, on results rounded to 8 bits.
- *grain kept*: the share of the true grain that the result has. result - clean and grainy - clean are high-passed (minus
  their 5x5 mean) and the first is regressed on the second. The grain is independent of the photograph, of the rain and of
  what restoration gets wrong, so none of that counts, however strong: the coefficient is the standard deviation of the
  result's component along the grain, divided by the grain's. Other noise in the grain's place would not count either. A
  result that leaves everything as it is keeps 100 % too: read it beside the gain. Measured where the clean picture is 2.5
  sigma from black and white, as rain that brightens a dark place would bring back grain that clipping takes from the wish.
- *fine residue in flat places*: the standard deviation of the high-passed result - clean, divided by that of the grain,
  in the quarter of those pixels where the clean picture is flattest. It counts all that is there: grain kept, grain invented,
  streaks of rain left over. Close to *grain kept* it says that what is left is grain.

**map**: noise, blur, rain and haze on one half of a picture each (the recipes' mask "half", a soft edge in
any direction). The degradation head's map of that damage, at an eighth of the size, is cut at half of its
95th percentile, which needs no knowledge of the truth; the true half is where the mask, averaged over the 8x8
pixels, is at least 0.5. IoU of the two, and for comparison that of a map that says "everywhere".
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
    """One number: of the part "grain" or "map", the method or kind of damage, and the picture that it is of."""

    part: str
    case: str
    picture: str
    measure: str
    value: float


def clean_pictures(data: Path, limit: int | None) -> Iterator[Case]:
    """The undamaged ones of the validation cases, which come first."""
    return takewhile(lambda case: case.degradation == "clean", validation(data, limit))


def seed_of(name: str) -> int:
    """A picture's own seed, the same however many others are measured."""
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
    """Where grain fits between black and white, `1 1 H W` of bool; everywhere in a picture that has hardly such a place."""
    margin = 2.5 * SIGMA * 2 / 255
    fits = (clean.amin(1, keepdim=True) > margin - 1) & (clean.amax(1, keepdim=True) < 1 - margin)
    return fits if fits.double().mean() > 0.01 else torch.ones_like(fits)


def grain_kept(result: torch.Tensor, clean: torch.Tensor, grainy: torch.Tensor) -> float:
    """Share of the grain `grainy - clean` that `result` has: 0 none, 1 all of it, above 1 more than there was."""
    where = unclipped(clean)
    grain = fine(grainy - clean)[where]
    return ((fine(result - clean)[where] * grain).sum() / grain.square().sum()).item()


def flat_residue(result: torch.Tensor, clean: torch.Tensor, grainy: torch.Tensor) -> float:
    """Fine standard deviation of `result - clean` where `clean` is flattest, in units of the grain's."""
    grey = clean.double().mean(1, keepdim=True)
    variance = box(grey.square(), 9) - box(grey, 9).square()
    where = unclipped(clean)
    flat = where & (variance <= variance[where].quantile(0.25))
    return (fine(result - clean)[flat].std() / fine(grainy - clean)[flat].std()).item()


def grain_rows(walk: Walk, case: Case, steps: int) -> Iterator[Row]:
    """Rain and grain on one clean picture: what is left of both, steered and not."""
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
            TO_WISH: metrics.psnr(result, grainy).item(), TO_CLEAN: metrics.psnr(result, clean).item(),
            KEPT: grain_kept(result, clean, grainy), RESIDUE: flat_residue(result, clean, grainy),
        }  # fmt: skip
        yield from (Row("grain", name, case.picture, measure, value) for measure, value in values.items())


def intersection_over_union(a: torch.Tensor, b: torch.Tensor) -> float:
    """IoU of two boolean masks."""
    return ((a & b).sum() / (a | b).sum().clamp_min(1)).item()


def map_rows(walk: Walk, case: Case, steps: int) -> Iterator[Row]:
    """Each damage on a half of one clean picture: whether the map finds the half. `steps` does not matter here."""
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
    """Values by case and measure, one per picture, in order."""
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
            [name, str(len(before)), f"{mean(values[TO_WISH]):.2f}", f"{gain:+.2f}", f"{mean(values[TO_CLEAN]):.2f}",
             f"{mean(values[KEPT]):.0%}", f"{mean(values[RESIDUE]):.0%}"]
        )  # fmt: skip
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
        [kind, str(len(values[OURS])), f"{mean(values[OURS]):.3f}", f"{min(values[OURS]):.3f}",
         str(sum(value >= IOU_WANTED for value in values[OURS])), f"{mean(values[EVERYWHERE]):.3f}"]
        for kind, values in table(rows).items()
    ]  # fmt: skip
    header = ["damage on a half", "n", "mean IoU", "least", f"at least {IOU_WANTED}", EVERYWHERE]
    return as_table(header, lines), ""


SUMMARIES = {"grain": grain_summary, "map": map_summary}


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = command_line(__doc__)
    parser.add_argument(
        "--data", type=Path, default=ROOT.parent / "shared" / "data",
        help="folder with MANIFEST.csv and the val pictures it names (default: ../shared/data beside the repository)",
    )  # fmt: skip
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
