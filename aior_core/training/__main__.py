"""`python -m aior_core.training STAGE|blend|export|--plan NAME ...`: see `--help`."""

from __future__ import annotations

import argparse
import math
import os
import sys
from pathlib import Path

from ..models.family import COMPACT, FAMILIES, SDXL
from .plan import PLANS

ROOT = Path(__file__).resolve().parents[2]


def find_host() -> None:
    """Make ComfyUI importable: COMFYUI_PATH, else the one that `aior.py` set up."""
    for place in (os.environ.get("COMFYUI_PATH"), ROOT / ".host" / "ComfyUI"):
        if place and (Path(place) / "comfy").is_dir():
            sys.path.insert(0, str(place))
            return
    raise SystemExit("training: no ComfyUI found; run `python3 aior.py test` once, or set COMFYUI_PATH")


EXAMPLES = """examples:
  python -m aior_core.training --plan cpu-2h --data PHOTOGRAPHS --out runs/first
  python -m aior_core.training --plan cpu-2h --minutes 60 --data PHOTOGRAPHS --from runs/first --out runs/second
  python -m aior_core.training detail --minutes 30 --data PHOTOGRAPHS --pairs SCANS --from runs/first --out runs/scans
  torchrun --nproc-per-node 2 -m aior_core.training --plan gpu-25min --data PHOTOGRAPHS --out runs/gpu
  python -m aior_core.training fusion --family sdxl --checkpoint SDXL.safetensors --minutes 600 --data PHOTOGRAPHS --out runs/sdxl

The same command again goes on where a run was stopped or killed. Beside the checkpoints lie STAGE.csv, STAGE-experts.csv and STAGE.png."""


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
    parser = argparse.ArgumentParser(
        prog="python -m aior_core.training", description="Train the compact model, stage by stage or by a plan.", epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument(
        "stage",
        nargs="?",
        choices=[
            "autoencoder",
            "detail",
            "prior",
            "together",
            "fusion",
            "joint",
            "polish",
            "tone",
            "keep",
            "maps",
            "blend",
            "export",
        ],
    )
    parser.add_argument(
        "--plan",
        choices=list(PLANS),
        help="the whole chain of stages and an export; with --from a repeat from those weights",
    )
    parser.add_argument(
        "--minutes", type=_positive,
        help="time for the whole stage (default: 10), or for a plan (default: its own); a resumed run counts what it used",
    )  # fmt: skip
    parser.add_argument(
        "--session",
        type=_positive,
        default=math.inf,
        help="leave after so many minutes, unfinished; the same command goes on",
    )
    parser.add_argument(
        "--data",
        type=Path,
        nargs="+",
        default=[ROOT.parent / "shared" / "data" / "train"],
        help="folders of clean photographs",
    )
    parser.add_argument(
        "--from", dest="start", type=Path, nargs="*", default=[],
        help="checkpoints, folders of them, or weights as they ship, to start from; later ones win, see --take",
    )  # fmt: skip
    parser.add_argument(
        "--take", nargs="*", default=[],
        help="per --from file: the networks to take from it, e.g. daff,unet,prior.tokens, or all (default: what its stage trains)",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "default")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument(
        "--workers",
        type=int,
        help="processes that make damaged batches ahead (default: for a GPU those there is a processor for, at most 12)",
    )
    parser.add_argument(
        "--batch-scale",
        type=int,
        help="samples per batch, as a multiple of the stage's own; all processes together (default: 1, on a GPU what fits, up to 16)",
    )
    parser.add_argument(
        "--learning-rate", type=_positive, default=1.0, help="as a multiple of the stage's own"
    )
    parser.add_argument(
        "--decay-share",
        type=_share,
        default=0.6,
        help="the last part of the time, in which the learning rate falls",
    )
    parser.add_argument(
        "--selective",
        type=_share,
        help="share of samples whose target keeps a part of the damage (default: the stage's)",
    )
    parser.add_argument(
        "--perceptual",
        type=_share,
        default=0.0,
        help="in `together` and `joint`, weight of ST-LPIPS on pictures of four steps (needs stlpips-pytorch)",
    )
    parser.add_argument(
        "--pairs",
        type=Path,
        help="folder of real pairs, in lq/ and gt/ under equal names, mixed in where a stage restores",
    )
    parser.add_argument(
        "--pair-share", type=_share, default=0.25, help="of the samples, where there are --pairs"
    )
    parser.add_argument("--save-seconds", type=_positive, default=120.0, help="time between checkpoints")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--shares",
        type=_positive,
        nargs="*",
        default=[],
        help="blend: how much of each --from file goes into the mean",
    )
    parser.add_argument(
        "--name", default="aior_compact", help="export: file name in models/; of a plan: in --out"
    )
    parser.add_argument("--ship", action="store_true", help="a plan exports into models/ instead of --out")
    sdxl = parser.add_argument_group(
        "--family sdxl",
        "a restorer for an SDXL checkpoint, by the stages fusion and detail; see docs/sdxl.md",
    )
    sdxl.add_argument(
        "--family",
        "--scale",
        choices=list(FAMILIES),
        default=COMPACT.name,
        help="of models (default: compact)",
    )
    sdxl.add_argument(
        "--checkpoint", type=Path, help="the SDXL checkpoint that the restorer is for; it stays as it is"
    )
    sdxl.add_argument(
        "--phase", choices=["a", "b"], default="a", help="of fusion: a trains DAFF, b the LQ encoder too"
    )
    sdxl.add_argument(
        "--train-unet",
        action="store_true",
        help="in phase b the UNet too, as published; its weights are then in the checkpoint",
    )
    sdxl.add_argument("--crop", type=int, default=512, help="side of the crops, a multiple of 64")
    sdxl.add_argument("--batch", type=int, default=4, help="samples per step, of all processes together")
    sdxl.add_argument(
        "--prompt", default="", help="what is said of every picture; in a fifth of the samples nothing is"
    )
    sdxl.add_argument(
        "--cache",
        type=Path,
        help="folder in which latents and LQ features of a fixed set of crops are kept, made once",
    )
    sdxl.add_argument("--cache-crops", type=int, default=4096, help="how many crops there are with --cache")
    parser.add_argument(
        "--note", default="", help="export: a line about the training for the file's metadata"
    )
    options = parser.parse_args(arguments)
    if (options.stage is None) == (options.plan is None):
        parser.error("give a stage or a --plan, one of the two")
    if options.family == SDXL.name and (
        options.plan or options.stage not in ("fusion", "detail") or not options.checkpoint
    ):
        parser.error("--family sdxl takes the stage fusion or detail, and --checkpoint")
    if options.crop < 64 or options.crop % 64 or options.batch < 1:
        parser.error(
            f"--crop {options.crop} and --batch {options.batch}: expected a multiple of 64, and at least one sample"
        )
    if options.cache and (options.family != SDXL.name or options.cache_crops < 1):
        parser.error("--cache is for --scale sdxl, and --cache-crops for at least one crop")
    if options.stage and options.minutes is None:
        options.minutes = 10.0
    options.target = ROOT / "models" if options.ship or options.stage else options.out
    return options


MOST_SCALE, GIB_EACH = 16, 2.2
"""On a GPU: how many times as many samples a batch has at most, and the memory that each of them takes (`detail` at 16: 32 GiB)."""


def settle(options: argparse.Namespace, device: str, memory: float = math.inf) -> None:
    """What the options leave to the device, which has so many GiB of `memory`: a GPU has work for more samples at once than a processor, and waits
    for them unless others make them.

    On Windows a new process would have to be sent all photographs; there nothing is made ahead unless asked for.
    """
    fast = device == "cuda" and options.family == COMPACT.name
    if options.batch_scale is None:
        options.batch_scale = max(1, int(min(MOST_SCALE, memory / GIB_EACH))) if fast else 1
    if options.workers is None:
        options.workers = (
            min(12, max(0, len(os.sched_getaffinity(0)) - 2))
            if fast and hasattr(os, "sched_getaffinity")
            else 0
        )


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
