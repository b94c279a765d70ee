"""`python -m aior_core.training STAGE|export ...`: see `--help`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def find_host() -> None:
    """Make ComfyUI importable: COMFYUI_PATH, else the one that `aior.py` set up."""
    for place in (os.environ.get("COMFYUI_PATH"), ROOT / ".host" / "ComfyUI"):
        if place and (Path(place) / "comfy").is_dir():
            sys.path.insert(0, str(place))
            return
    raise SystemExit("training: no ComfyUI found; run `python3 aior.py test` once, or set COMFYUI_PATH")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m aior_core.training", description="Train the compact model, stage by stage.")
    parser.add_argument("stage", choices=["autoencoder", "detail", "prior", "fusion", "joint", "upcycle", "export"])
    parser.add_argument("--minutes", type=float, default=10.0, help="time for the whole stage; a resumed run counts what it used")
    parser.add_argument("--data", type=Path, nargs="+", default=[ROOT.parent / "shared" / "data" / "train"], help="folders of clean photographs")
    parser.add_argument(
        "--from", dest="start", type=Path, nargs="*", default=[],
        help="checkpoints, or weights as they ship, to start from; later ones win, see --take",
    )  # fmt: skip
    parser.add_argument(
        "--take", nargs="*", default=[],
        help="per --from file: the networks to take from it, e.g. daff,unet,prior.tokens, or all (default: what its stage trains)",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "default")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--batch-scale", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--gates", type=float, nargs="*", default=[], help="upcycle: what each level's router gives the first expert, finest first")
    parser.add_argument("--name", default="aior_compact", help="export: file name in models/")
    parser.add_argument("--note", default="", help="export: a line about the training for the file's metadata")
    return parser.parse_args()


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
    from .run import export, run_stage, upcycle

    if options.stage == "export":
        export(options.start, options.take, ROOT / "models" / options.name, options.note)
    elif options.stage == "upcycle":
        upcycle(options.start, options.take, options.gates, options.out / "detail-upcycled.safetensors")
    else:
        run_stage(options, device)


if __name__ == "__main__":
    main()
