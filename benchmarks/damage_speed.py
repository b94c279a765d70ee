"""Number of crops that one core damages per second as training draws them, and the time of every source and
look.

    python benchmarks/damage_speed.py                     300 crops of 256x256, one thread
    python benchmarks/damage_speed.py --looks --count 10  every look of every kind as well
    python benchmarks/damage_speed.py --device cuda

A core learns from about six crops of 256 a second, so damage must be faster than that. The time covers
drawing the recipe, damaging the crop, and the labels. The recipes are those of `sample_world` with the
shares of the restoring stages. `--json` writes the numbers to a file.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial

import torch
from _command import command_line, run
from _host import room
from _results import write_results

ENOUGH = 6.0
"""Crops of 256x256 that one core trains on per second."""
COUNTS = (0.05, 0.52, 0.25, 0.18)
PARTS = ("draw", "damage", "labels")


def crop(side: int, generator: torch.Generator) -> torch.Tensor:
    """Return `1 3 side side` in -1..1 with edges, ramps and texture.

    The cost of damage hardly depends on the content of a picture.
    """
    coarse = (
        torch.rand(1, 3, side // 16, side // 16, generator=generator)
        .repeat_interleave(16, 2)
        .repeat_interleave(16, 3)
    )
    fine = torch.rand(1, 3, side, side, generator=generator)
    return (0.85 * coarse + 0.15 * fine) * 1.8 - 0.9


def cost(
    make: Callable[[torch.Generator], object], count: int, side: int, device: str
) -> tuple[list[float], list]:
    """Return the mean seconds of drawing, damaging and labelling, and (seconds, recipe) of each crop.

    One more crop at the start warms up and does not count.
    """
    degradations = room("aior_core.degradations")
    generator = torch.Generator().manual_seed(1)
    picture, sums, each = crop(side, generator).to(device), [0.0, 0.0, 0.0], []
    for number in range(count + 1):
        at = [time.perf_counter()]
        recipe = make(generator)
        at.append(time.perf_counter())
        degradations.apply_recipe(picture, recipe)
        if device == "cuda":
            torch.cuda.synchronize()
        at.append(time.perf_counter())
        degradations.recipe_labels(recipe, side, side)
        at.append(time.perf_counter())
        if number:
            parts = [later - earlier for earlier, later in zip(at, at[1:])]
            sums = [total + part for total, part in zip(sums, parts)]
            each.append((sum(parts), recipe))
    return [total / count for total in sums], each


def mix(count: int, side: int, device: str) -> dict:
    """Measure the training mix as a whole, and by the number of damages."""
    degradations = room("aior_core.degradations")
    weights = degradations.shares("training")
    means, each = cost(
        lambda generator: degradations.sample_world(
            generator, weights=weights, count_weights=COUNTS, spatial=0.2
        ),
        count,
        side,
        device,
    )
    print(
        f"training mix, {count} crops of {side}: "
        + ", ".join(f"{name} {1000 * part:.1f} ms" for name, part in zip(PARTS, means))
    )
    print(
        f"{1 / sum(means):.1f} crops a second; at least {ENOUGH:g} are wanted: "
        f"{'met' if 1 / sum(means) >= ENOUGH else 'NOT met'}"
    )
    spans = sorted(seconds for seconds, _ in each)
    print(
        f"median {1000 * spans[len(spans) // 2]:.0f} ms, one in twenty above "
        f"{1000 * spans[len(spans) * 19 // 20]:.0f}, slowest {1000 * spans[-1]:.0f}"
    )
    groups = defaultdict(list)
    for seconds, recipe in each:
        groups["in a camera" if recipe.camera else "on display values"].append(seconds)
        groups[f"{len(recipe.kinds())} kinds"].append(seconds)
    print("\n| recipes | crops | ms |\n|---|---|---|")
    for name, times in sorted(groups.items()):
        print(f"| {name} | {len(times)} | {1000 * sum(times) / len(times):.1f} |")
    return {
        "crops": count,
        "side": side,
        "seconds": dict(zip(PARTS, means)),
        "crops_per_second": 1 / sum(means),
    }


def looks(count: int, side: int, device: str) -> dict:
    """Measure the milliseconds of every look alone, at the severities that training draws."""
    degradations, sampling = room("aior_core.degradations"), room("aior_core.degradations.sampling")
    draws, photograph, apart = (
        room(f"aior_core.degradations.{name}") for name in ("draw", "photograph", "apart")
    )
    found = {}
    known = {each.name: {None: None, **each.styles} for each in degradations.DEGRADATIONS} | apart.APART
    print("\n| look | draw | damage | labels |\n|---|---|---|---|")

    def make(generator: torch.Generator, kind: str, name: str | None, style):
        draw = draws.Draw(generator)
        if style is None:
            severity, params = sampling.sampled(kind, draw)
            return degradations.Recipe((degradations.Step(kind, severity, draw.seed(), params),))
        camera = photograph.draw_camera(draw) if style.linear else None
        step = sampling.styled_step(kind, name, draw.uniform(*style.severities), draw, camera=camera)
        return degradations.Recipe((step,), camera)

    for kind, styles in known.items():
        for name, style in styles.items():
            means, _ = cost(partial(make, kind=kind, name=name, style=style), count, side, device)
            found[f"{kind}: {name or 'plain'}"] = [round(1000 * part, 2) for part in means]
            print(
                f"| {kind}: {name or 'plain'} | " + " | ".join(f"{1000 * part:.1f}" for part in means) + " |",
                flush=True,
            )
    return found


def main() -> int:
    parser = command_line(__doc__)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument(
        "--looks", action="store_true", help="every look of every kind alone as well, --count crops each"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = {"device": options.device, "mix": mix(options.count, options.side, options.device)}
    if options.looks:
        results["looks_ms"] = looks(options.count, options.side, options.device)
    if options.json:
        print(write_results(options.json, results))
    return 0


if __name__ == "__main__":
    run(main)
