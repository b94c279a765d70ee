"""`python -m aior_core.training STAGE|blend|export|--plan NAME ...`: see `--help`."""

from __future__ import annotations

import argparse
import math
import os
import sys
from pathlib import Path

from ..models.family import COMPACT, FAMILIES, SDXL
from .plan import PLANS, STAGE_NAMES

ROOT = Path(__file__).resolve().parents[2]


def find_host() -> None:
    """Make ComfyUI importable: the one in COMFYUI_PATH, or else the one that `aior.py` set up."""
    for place in (os.environ.get("COMFYUI_PATH"), ROOT / ".host" / "ComfyUI"):
        if place and (Path(place) / "comfy").is_dir():
            sys.path.insert(0, str(place))
            return
    raise SystemExit("training: no ComfyUI found; run `python3 aior.py test` once, or set COMFYUI_PATH")


EXAMPLES = """examples (T stands for python -m aior_core.training):
  T --plan cpu-2h --data PHOTOGRAPHS --out runs/first
  T --plan cpu-2h --minutes 60 --data PHOTOGRAPHS --from runs/first --out runs/second
  T detail --minutes 30 --data PHOTOGRAPHS --pairs SCANS --from runs/first --out runs/scans
  torchrun --nproc-per-node 2 -m aior_core.training --plan gpu-25min --data PHOTOGRAPHS --out runs/gpu
  T fusion --family sdxl --checkpoint SDXL.safetensors --minutes 600 --data PHOTOGRAPHS --out runs/sdxl

The same command again resumes a run that was stopped or killed. Beside the checkpoints lie STAGE.csv,
STAGE-experts.csv and STAGE.png."""


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is no share; expected a number from 0 to 1")
    return value


def _positive(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text} is too small; expected a number above 0")
    return value


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The options of the command line. Exits with a message where they do not fit together."""
    parser = argparse.ArgumentParser(
        prog="python -m aior_core.training",
        description="Train the compact model, stage by stage or by a plan.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_what_to_train(parser)
    _add_how_to_train(parser)
    _add_result(parser)
    _add_sdxl(parser)
    options = parser.parse_args(arguments)
    _require_consistent(parser, options)
    if options.stage and options.minutes is None:
        options.minutes = 10.0
    options.target = ROOT / "models" if options.ship or options.stage else options.out
    return options


def _add_what_to_train(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("stage", nargs="?", choices=[*STAGE_NAMES, "blend", "export"])
    add(
        "--plan",
        choices=list(PLANS),
        help="all stages and an export; with --from, a repeat that starts from those weights",
    )
    add(
        "--minutes",
        type=_positive,
        help="time for the stage (default: 10) or for the plan (default: its own); "
        "time that a resumed run has used counts",
    )
    add(
        "--session",
        type=_positive,
        default=math.inf,
        help="leave the run unfinished after so many minutes; the same command resumes it",
    )
    add(
        "--data",
        type=Path,
        nargs="+",
        default=[ROOT.parent / "shared" / "data" / "train"],
        help="folders of clean photographs",
    )
    add(
        "--pairs",
        type=Path,
        help="folder of real pairs, in lq/ and gt/ under equal names, for the stages that restore",
    )
    add("--pair-share", type=_share, default=0.25, help="share of --pairs among the samples")
    add(
        "--from",
        dest="start",
        type=Path,
        nargs="*",
        default=[],
        help="checkpoints, folders of them, or shipped weights to start from; later ones win, see --take",
    )
    add(
        "--take",
        nargs="*",
        default=[],
        help="for each --from file the networks to take, for example daff,unet,prior.tokens, or all "
        "(default: what the checkpoint's stage trains)",
    )


def _add_how_to_train(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--device", default="auto", choices=["auto", "cpu", "cuda"])
    add("--threads", type=int, default=0, help="threads of PyTorch (default: its own choice)")
    add("--seed", type=int, default=0)
    add(
        "--workers",
        type=int,
        help="processes that damage batches in advance (default: 0; for a GPU one a spare core, at most 12)",
    )
    add(
        "--batch-scale",
        type=int,
        help="multiplies the stage's samples per batch, of all processes together "
        "(default: 1; for a GPU as many as fit, at most 16)",
    )
    add("--learning-rate", type=_positive, default=1.0, help="multiplies the stage's learning rate")
    add(
        "--decay-share",
        type=_share,
        default=0.6,
        help="the last part of the time, in which the learning rate falls",
    )
    add(
        "--selective",
        type=_share,
        help="share of samples whose target keeps a part of the damage (default: the stage's)",
    )
    add(
        "--perceptual",
        type=_share,
        default=0.0,
        help="for together and joint: weight of ST-LPIPS on pictures sampled in four steps "
        "(needs stlpips-pytorch)",
    )
    add("--save-seconds", type=_positive, default=120.0, help="time between checkpoints")


def _add_result(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--out",
        type=Path,
        default=ROOT / "runs" / "default",
        help="folder of the checkpoints and logs (default: runs/default)",
    )
    add(
        "--shares",
        type=_positive,
        nargs="*",
        default=[],
        help="blend: the weight of each --from file in the mean",
    )
    add(
        "--name",
        default="aior_compact",
        help="name of the exported file, in models/ (of a plan: in --out)",
    )
    add("--ship", action="store_true", help="a plan exports into models/ instead of --out")
    add("--note", default="", help="export: a line about the training for the file's metadata")


def _add_sdxl(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "--family sdxl",
        "a restorer for an SDXL checkpoint, by the stages fusion and detail; see docs/sdxl.md",
    )
    add = group.add_argument
    add("--family", "--scale", choices=list(FAMILIES), default=COMPACT.name)
    add("--checkpoint", type=Path, help="the SDXL checkpoint that the restorer is for; it is not changed")
    add("--phase", choices=["a", "b"], default="a", help="of fusion: a trains DAFF, b the LQ encoder too")
    add(
        "--train-unet",
        action="store_true",
        help="in phase b train the UNet too, as published; its weights are then in the checkpoint",
    )
    add("--crop", type=int, default=512, help="side of the crops in pixels, a multiple of 64")
    add("--batch", type=int, default=4, help="samples per step, of all processes together")
    add("--prompt", default="", help="the prompt of every picture; a fifth of the samples has an empty one")
    add(
        "--cache",
        type=Path,
        help="folder for the latents and LQ features of a fixed set of crops, which are computed once",
    )
    add("--cache-crops", type=int, default=4096, help="number of crops in --cache")


def _require_consistent(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if (options.stage is None) == (options.plan is None):
        parser.error("give a stage or a --plan, one of the two")
    sdxl = options.family == SDXL.name
    if sdxl and (options.plan or options.stage not in ("fusion", "detail") or not options.checkpoint):
        parser.error("--family sdxl takes the stage fusion or detail, and --checkpoint")
    if options.crop < 64 or options.crop % 64 or options.batch < 1:
        parser.error(
            f"--crop {options.crop} and --batch {options.batch}: "
            "expected a multiple of 64, and at least one sample"
        )
    if options.cache and (not sdxl or options.cache_crops < 1):
        parser.error("--cache is for --family sdxl, and --cache-crops for at least one crop")


MAX_BATCH_SCALE, GIB_PER_BATCH = 16, 2.2
"""On a GPU: the largest batch scale, and the memory that each multiple takes (`detail` at 16: 32 GiB)."""


def settle(options: argparse.Namespace, device: str, memory: float = math.inf) -> None:
    """Set `batch_scale` and `workers` where the options leave them to the device.

    memory: free memory of the device in GiB. A GPU has room for more samples at once than a processor, and
    waits for batches unless other processes make them. On Windows each worker would have to be sent all
    photographs, so there are none unless asked for.
    """
    gpu = device == "cuda" and options.family == COMPACT.name
    if options.batch_scale is None:
        options.batch_scale = max(1, int(min(MAX_BATCH_SCALE, memory / GIB_PER_BATCH))) if gpu else 1
    if options.workers is None:
        forks = hasattr(os, "sched_getaffinity")
        options.workers = min(12, max(0, len(os.sched_getaffinity(0)) - 2)) if gpu and forks else 0


def main() -> None:
    options = parse()
    find_host()
    import torch

    device = options.device if options.device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cpu":
        from comfy.cli_args import args

        args.cpu = True
    if options.threads:
        torch.set_num_threads(options.threads)
    settle(options, device, torch.cuda.mem_get_info()[0] / 2**30 if device == "cuda" else math.inf)
    from . import distributed
    from .run import blend, export, follow, run_stage

    if options.stage == "export":
        export(options.start, options.take, options.target / options.name, options.note)
    elif options.stage == "blend":
        blend(options.start, options.shares, options.out / "blended.safetensors")
    else:
        with distributed.processes(device):
            if options.family == SDXL.name:
                from .sdxl_run import run_sdxl

                run_sdxl(options, device)
            elif options.plan:
                follow(PLANS[options.plan], options, device)
            else:
                run_stage(options, device)


if __name__ == "__main__":
    main()
