"""`python -m aior_core.weights FILE --out FOLDER` converts a UniLDiff or FaithDiff checkpoint to two
safetensors files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from .families.sdxl import convert


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m aior_core.weights",
        description="Convert a UniLDiff or FaithDiff checkpoint to NAME_restorer.safetensors for Load AIOR "
        "Restorer and NAME_unet.safetensors for Load AIOR UNet or, in ComfyUI/models/diffusion_models, for "
        "Load "
        "Diffusion Model.",
    )
    parser.add_argument("file", type=Path, help="the checkpoint, .bin or .safetensors")
    parser.add_argument("--out", type=Path, help="folder for the files (default: beside the checkpoint)")
    parser.add_argument("--fp32", action="store_true", help="keep the dtype of each tensor instead of fp16")
    options = parser.parse_args(argv)
    try:
        for path in convert(options.file, options.out or options.file.parent, half=not options.fp32):
            print(path, f"{path.stat().st_size / 2**20:.0f} MiB")
    except (ValueError, FileNotFoundError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
