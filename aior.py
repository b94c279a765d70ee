#!/usr/bin/env python3
"""AIOR's command line: `restore` photographs, `serve` ComfyUI with this pack, run the `test`s.

Needs nothing but Python 3.10 with venv: the first call sets ComfyUI up in .host/.
"""

import signal

# Until `main` catches it, Ctrl+C just ends the program: while modules are imported it would be a traceback.
# Where it is ignored (nohup), it stays so.
INTERRUPTIBLE = __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler
if INTERRUPTIBLE:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import argparse  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402

ROOT = Path(os.path.abspath(__file__)).parent


def ray_address(text):
    """The value of --ray. Raises what argparse prints when a picture's name landed here."""
    if text in ("local", "auto") or ":" in text:
        return text
    raise argparse.ArgumentTypeError(
        f"{text} is no address of a Ray cluster (auto or HOST:PORT). Name the pictures before --ray."
    )


def worker_count(text):
    """The value of --workers, at least 1."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no number of workers (1 or more)")
    return int(text)


def number(kind, low, high):
    """A type for argparse: a number of `kind` (int or float) in `low`..`high`. Raises what argparse prints."""

    def read(text):
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not low <= value <= high:
            raise argparse.ArgumentTypeError(
                f"{text} is not {'a whole number' if kind is int else 'a number'} from {low} to {high}"
            )
        return value

    return read


def parse(arguments):
    """The command line as a Namespace; everything after `test` but `--comfyui VERSION` is pytest's and lands in `rest`."""
    if arguments[:1] == ["test"]:
        test = argparse.ArgumentParser(prog="aior.py test", add_help=False, allow_abbrev=False)
        test.add_argument("--comfyui")
        chosen, rest = test.parse_known_args(arguments[1:])
        return argparse.Namespace(command="test", comfyui=chosen.comfyui, rest=rest)
    parser = argparse.ArgumentParser(prog="aior.py", description="All-in-one image restoration in ComfyUI.")
    commands = parser.add_subparsers(dest="command", required=True)
    restore = commands.add_parser(
        "restore",
        help="restore photographs",
        description="Restore photographs: NAME_restored.png beside each, or in OUT.",
    )
    restore.add_argument(
        "pictures", nargs="+", metavar="PHOTO_OR_FOLDER", help="pictures, or folders that are walked"
    )
    restore.add_argument(
        "-o", "--out", help="folder for the results; a folder's own structure is kept under it"
    )
    restore.add_argument(
        "--steps", type=number(int, 1, 200), help="sampling steps (default: as in the workflow)"
    )
    restore.add_argument(
        "--seed", type=number(int, 0, 2**64 - 1), help="seed of the noise (default: as in the workflow)"
    )
    restore.add_argument(
        "--fidelity",
        type=number(float, 0.0, 1.0),
        help="0: free to invent detail .. 1: close to the input (default: as in the workflow)",
    )
    restore.add_argument(
        "--tile",
        type=number(int, 0, 8192),
        help="tile size in pixels for large pictures, 0: as memory demands (default: as in the workflow)",
    )
    restore.add_argument(
        "--ensemble",
        type=number(int, 1, 4),
        metavar="N",
        help="mean of N mirrored copies, 1 to 4: better, and N times as long to decode (default: as in the workflow)",
    )
    restore.add_argument(
        "--format", choices=("png", "jpg", "webp", "tiff"), help="of the results (default: png)"
    )
    restore.add_argument(
        "--quality", type=number(int, 1, 100), help="of jpg and webp, 1 to 100 (default: 95)"
    )
    restore.add_argument(
        "--bits",
        type=number(int, 8, 16),
        help="8 or 16 bits a channel, 16 with png and tiff (default: as the picture has)",
    )
    restore.add_argument(
        "--metadata",
        choices=("keep", "drop"),
        help="date, camera, place and the workflow in the results (default: keep); the colour profile always stays",
    )
    restore.add_argument(
        "--workflow",
        metavar="FILE",
        help="another ComfyUI workflow with one LoadImage (default: workflows/restore.json)",
    )
    restore.add_argument(
        "--ray",
        nargs="?",
        const="local",
        type=ray_address,
        metavar="ADDRESS",
        help="spread the pictures over the GPUs of a Ray cluster: auto or HOST:PORT; without ADDRESS over those of this machine",
    )
    restore.add_argument(
        "--workers", type=worker_count, metavar="N", help="with --ray: so many workers (default: one per GPU)"
    )
    serve = commands.add_parser(
        "serve", help="run ComfyUI with this pack", description="Run ComfyUI with this pack until Ctrl+C."
    )
    serve.add_argument("--port", type=int, default=8188)
    for command in (restore, serve):
        command.add_argument(
            "--device",
            choices=("auto", "cpu", "gpu"),
            default="auto",
            help="auto: a GPU if torch can use one (default)",
        )
    commands.add_parser(
        "test",
        help="run the tests, on ComfyUI 0.30.0 or on --comfyui VERSION; all other arguments go to pytest",
    )
    parsed = parser.parse_args(arguments)
    if parsed.command == "restore" and parsed.workers and not parsed.ray:
        restore.error("--workers goes with --ray")
    if parsed.command == "restore":
        check_files(restore, parsed)
    return parsed


def check_files(parser, parsed):
    """End with a sentence where the options of the result files do not go together, and leave out those that are as by default."""
    if parsed.bits not in (None, 8, 16):
        parser.error(f"argument --bits: {parsed.bits} is neither 8 nor 16")
    if parsed.bits == 16 and parsed.format in ("jpg", "webp"):
        parser.error(f"--bits 16 does not go with --format {parsed.format}, which holds 8: take png or tiff")
    if parsed.quality and parsed.format not in ("jpg", "webp"):
        parser.error("--quality goes with --format jpg or webp; png and tiff lose nothing")
    # A result is known by what it was asked for with: the default, said or not, is one and the same.
    parsed.format = None if parsed.format == "png" else parsed.format
    parsed.metadata = None if parsed.metadata == "keep" else parsed.metadata


def main():
    """Run the command and return its exit code."""
    if sys.version_info < (3, 10):
        print("Python 3.10 or newer is needed; this is %d.%d." % sys.version_info[:2])
        return 2
    try:
        if INTERRUPTIBLE:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        from scripts.console import robust_output

        robust_output()
        arguments = parse(sys.argv[1:])
        from scripts import commands

        # A terminated command stops its server on the way out, as Ctrl+C does.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        return commands.run(ROOT, arguments)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        print("\nInterrupted. The same call again goes on where this one stopped.")
        return 130


if __name__ == "__main__":
    code = main()
    if INTERRUPTIBLE:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(code)
