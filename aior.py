#!/usr/bin/env python3
"""AIOR's command line: `restore` photographs, `serve` ComfyUI with this pack, `test` and `lint` the source.

It needs nothing but Python 3.10 or newer with the module venv. The first call sets up ComfyUI in .host/.
"""

import signal

# While modules are imported, Ctrl+C ends the program without a traceback. Later `main` catches it. Where the
# signal is ignored (nohup), it stays ignored.
INTERRUPTIBLE = __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler
if INTERRUPTIBLE:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import argparse  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402

ROOT = Path(os.path.abspath(__file__)).parent


def ray_address(text):
    """The value of --ray. Raises ArgumentTypeError for anything else, such as a picture's name."""
    if text in ("local", "auto") or ":" in text:
        return text
    raise argparse.ArgumentTypeError(
        f"{text} is no address of a Ray cluster (auto or HOST:PORT). Name the pictures before --ray."
    )


def worker_count(text):
    """The value of --workers. Raises ArgumentTypeError unless it is a whole number of at least 1."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no number of workers (1 or more)")
    return int(text)


def number(kind, low, high):
    """A type for argparse: a number of `kind` (int or float) in `low`..`high`. Others are refused."""

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
    """The command line as a Namespace. For `test`, `rest` holds pytest's arguments: all but `--comfyui`."""
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
        description="Write NAME_restored.png for each photograph, beside it or in OUT.",
    )
    restore.add_argument(
        "pictures", nargs="+", metavar="PHOTO_OR_FOLDER", help="pictures, or folders with pictures"
    )
    restore.add_argument("-o", "--out", help="folder for the results; keeps the structure of folders")
    restore.add_argument(
        "--steps", type=number(int, 1, 200), help="sampling steps (default: as in the workflow)"
    )
    restore.add_argument(
        "--seed", type=number(int, 0, 2**64 - 1), help="seed of the noise (default: as in the workflow)"
    )
    restore.add_argument(
        "--fidelity",
        type=number(float, 0.0, 1.0),
        help="from 0, free to invent detail, to 1, close to the input (default: as in the workflow)",
    )
    restore.add_argument(
        "--tile",
        type=number(int, 0, 8192),
        help="tile size in pixels for large pictures; 0 chooses by the free memory "
        "(default: as in the workflow)",
    )
    restore.add_argument(
        "--ensemble",
        type=number(int, 1, 4),
        metavar="N",
        help="decode N mirrored copies, 1 to 4, and take their mean: better, but decoding takes N "
        "times as long "
        "(default: as in the workflow)",
    )
    restore.add_argument(
        "--format", choices=("png", "jpg", "webp", "tiff"), help="file format of the results (default: png)"
    )
    restore.add_argument(
        "--quality", type=number(int, 1, 100), help="quality of jpg and webp, 1 to 100 (default: 95)"
    )
    restore.add_argument(
        "--bits",
        type=number(int, 8, 16),
        help="8 or 16 bits per channel; 16 with png and tiff only (default: as in the picture)",
    )
    restore.add_argument(
        "--metadata",
        choices=("keep", "drop"),
        help="keep or drop date, camera, place and the workflow in the results (default: keep); "
        "the colour profile always stays",
    )
    restore.add_argument(
        "--workflow",
        metavar="FILE",
        help="a ComfyUI workflow with one Load Image node (default: workflows/restore.json)",
    )
    restore.add_argument(
        "--ray",
        nargs="?",
        const="local",
        type=ray_address,
        metavar="ADDRESS",
        help="spread the pictures over the GPUs of a Ray cluster: auto or HOST:PORT; "
        "without ADDRESS over the GPUs of this machine",
    )
    restore.add_argument(
        "--workers",
        type=worker_count,
        metavar="N",
        help="with --ray: number of workers (default: one per GPU)",
    )
    serve = commands.add_parser(
        "serve", help="run ComfyUI with this pack", description="Run ComfyUI with this pack until Ctrl+C."
    )
    serve.add_argument("--port", type=int, default=8188, help="port to listen on (default: 8188)")
    for command in (restore, serve):
        command.add_argument(
            "--device",
            choices=("auto", "cpu", "gpu"),
            default="auto",
            help="where to compute; auto takes a GPU if torch can use one (default: auto)",
        )
    commands.add_parser(
        "test",
        help="run the tests, on ComfyUI 0.30.0 or on --comfyui VERSION; all other arguments go to pytest",
    )
    commands.add_parser("lint", help="check the source: format, rules and types")
    parsed = parser.parse_args(arguments)
    if parsed.command == "restore" and parsed.workers and not parsed.ray:
        restore.error("--workers needs --ray")
    if parsed.command == "restore":
        check_files(restore, parsed)
    return parsed


def check_files(parser, parsed):
    """Check the options of the result files together, and set those with their default value to None.

    The key of a result holds the options that are set. So a default gives the same key, given or not.
    """
    if parsed.bits not in (None, 8, 16):
        parser.error(f"argument --bits: {parsed.bits} is neither 8 nor 16")
    if parsed.bits == 16 and parsed.format in ("jpg", "webp"):
        parser.error(f"--bits 16 needs --format png or tiff: {parsed.format} holds 8 bits per channel")
    if parsed.quality and parsed.format not in ("jpg", "webp"):
        parser.error("--quality needs --format jpg or webp: png and tiff are lossless")
    parsed.format = None if parsed.format == "png" else parsed.format
    parsed.metadata = None if parsed.metadata == "keep" else parsed.metadata


def main():
    """Run the command and return its exit code."""
    if sys.version_info < (3, 10):  # noqa: UP036 - it is here for the Pythons that are too old
        print("AIOR needs Python 3.10 or newer. This is Python %d.%d." % sys.version_info[:2])  # noqa: UP031
        return 2
    try:
        if INTERRUPTIBLE:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        from scripts.console import robust_output

        robust_output()
        arguments = parse(sys.argv[1:])
        from scripts import commands

        # A command that is terminated stops its server, as it does after Ctrl+C.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        return commands.run(ROOT, arguments)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        print("\nInterrupted. Run the same command again: it continues where this one stopped.")
        return 130


if __name__ == "__main__":
    code = main()
    if INTERRUPTIBLE:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(code)
