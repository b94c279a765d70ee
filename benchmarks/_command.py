"""The part of the command line that the benchmarks have in common."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn


def command_line(description: str | None, *, json: bool = True) -> argparse.ArgumentParser:
    """A parser with the benchmark's docstring as its help. `json` adds the option `--json`."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    if json:
        parser.add_argument(
            "--json",
            type=Path,
            metavar="FILE",
            help="write the results to this file; benchmarks/tables.py reads those in benchmarks/results/",
        )
    return parser


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose the compact weights and the device."""
    parser.add_argument("--weights", metavar="FILE", help="compact weights (default: the bundled ones)")
    add_device(parser)


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add the option that chooses ComfyUI's device."""
    parser.add_argument(
        "--device",
        choices=("cpu", "auto"),
        default="cpu",
        help="the CPU, or the device that ComfyUI chooses (default: cpu)",
    )


def run(main: Callable[[], int]) -> NoReturn:
    """Run `main` and exit with its code. For a missing file or package, print a sentence, no traceback."""
    try:
        code = main()
    except (FileNotFoundError, ModuleNotFoundError) as error:
        raise SystemExit(f"{Path(sys.argv[0]).name}: {error}") from None
    raise SystemExit(code)
