"""Time and peak memory of the walk by stage, and the time that DAFF adds to a sampling step.

    python benchmarks/speed.py
    python benchmarks/speed.py --sizes 512 --steps 4 --threads 1

Each row runs in a process of its own, so that its peak memory (resident set, with PyTorch and ComfyUI) is its
own. Seconds are the median of --repeats runs after a run to warm up. "plain step" is a sampling step of the
same MODEL without the DAFF patch, "DAFF step" one with it. Both come from the difference between a long and a
short run, so that work done once per run does not count.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from functools import partial

import torch
from _command import add_model, command_line, run
from _host import Walk, peak_mib, room, start_comfy, timed
from _results import weights_used, write_results
from _tables import speed, speed_of_daff

STEPS_FOR_SHARE = (2, 10)


def picture(size: int) -> torch.Tensor:
    """A test card with noise and haze, IMAGE `1 size size 3`, always the same."""
    degradations = room("aior_core.degradations")
    line = torch.linspace(0, 12, size)
    card = (
        torch.stack([torch.sin(line[:, None] * (2 + k) + line[None] * (3 - k)) for k in range(3)])[None] * 0.7
    )
    plan = degradations.Recipe(
        degradations.preset_recipe("haze", 0.4, 1).steps + degradations.preset_recipe("noise", 0.4, 2).steps
    )
    return room("aior_core.picture").from_unit(degradations.apply_recipe(card, plan))


def share(walk: Walk, prior, repeats: int) -> tuple[float, float]:
    """Seconds of one sampling step without and with DAFF on the same MODEL, latent and conditioning."""
    per_step = []
    for patched in (False, True):
        short, long = (
            timed(partial(walk.stock_sample, prior, steps, patched=patched), repeats)[0]
            for steps in STEPS_FOR_SHARE
        )
        per_step.append((long - short) / (STEPS_FOR_SHARE[1] - STEPS_FOR_SHARE[0]))
    return per_step[0], per_step[1]


def measure_row(size: int, steps: int, options: argparse.Namespace) -> dict[str, float]:
    """All numbers of one row, measured in this process."""
    if options.threads:
        torch.set_num_threads(options.threads)
    started = time.perf_counter()
    walk = Walk(options.weights, options.device)
    loaded = time.perf_counter() - started
    card = picture(size)
    walk(card, (steps,))
    encode, prior = timed(lambda: walk.encode(card), options.repeats)
    sample, latent = timed(lambda: walk.sample(prior, steps), options.repeats)
    decode, _ = timed(lambda: walk.decode(latent, prior), options.repeats)
    row = {"load": loaded, "encode": encode, "sample": sample, "decode": decode, "peak_mib": peak_mib()}
    if steps == options.steps[0]:
        row["plain_step"], row["daff_step"] = share(walk, prior, options.repeats)
    return row


def in_a_process(size: int, steps: int, argv: list[str]) -> dict[str, float]:
    """`measure_row` in a new process. Raises RuntimeError with its output when it fails."""
    done = subprocess.run(
        [sys.executable, __file__, *argv, "--row", f"{size}x{steps}"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{size}x{size} at {steps} steps failed:\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    parser = command_line(__doc__)
    parser.add_argument(
        "--sizes", default="256,512,1024", help="sides of the square pictures (default: 256,512,1024)"
    )
    parser.add_argument("--steps", default="1,4,20", help="numbers of sampling steps (default: 1,4,20)")
    parser.add_argument("--repeats", type=int, default=3, help="runs whose median counts (default: 3)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: PyTorch's choice)")
    add_model(parser)
    parser.add_argument("--row", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    options.steps = [int(count) for count in options.steps.split(",")]
    torch.set_grad_enabled(False)
    if options.row:
        size, steps = (int(part) for part in options.row.split("x"))
        print(json.dumps(measure_row(size, steps, options)))
        return 0
    start_comfy(options.device)
    threads = options.threads or torch.get_num_threads()
    print(
        f"PyTorch {torch.__version__}, device {options.device}, {threads} threads; seconds are the "
        f"median of {options.repeats} runs.\n"
    )
    rows = []
    for size in (int(side) for side in options.sizes.split(",")):
        for steps in options.steps:
            rows.append({"size": size, "steps": steps, **in_a_process(size, steps, argv)})
    results = {
        "benchmark": "speed",
        "torch": torch.__version__,
        "device": options.device,
        "threads": threads,
        "repeats": options.repeats,
        "weights": weights_used(options.weights),
        "rows": rows,
    }
    print(f"{speed(results)}\n\n{speed_of_daff(results)}")
    if options.json:
        write_results(options.json, results)
    return 0


if __name__ == "__main__":
    run(main)
