#!/usr/bin/env python3
"""AIOR's command line: `restore` photographs, `serve` ComfyUI with this pack, run the `test`s.

Needs nothing but Python 3.10 with venv: the first call sets ComfyUI up in .host/.
"""
import argparse
import os
import signal
import sys
from pathlib import Path

ROOT = Path(os.path.abspath(__file__)).parent


def ray_address(text):
    """The value of --ray. Raises what argparse prints when a picture's name landed here."""
    if text in ("local", "auto") or ":" in text:
        return text
    raise argparse.ArgumentTypeError(f"{text} is no address of a Ray cluster (auto or HOST:PORT). Name the pictures before --ray.")


def worker_count(text):
    """The value of --workers, at least 1."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no number of workers (1 or more)")
    return int(text)


def parse(arguments):
    """The command line as a Namespace; everything after `test` but `--comfyui VERSION` is pytest's and lands in `rest`."""
    if arguments[:1] == ["test"]:
        test = argparse.ArgumentParser(prog="aior.py test", add_help=False, allow_abbrev=False)
        test.add_argument("--comfyui")
        chosen, rest = test.parse_known_args(arguments[1:])
        return argparse.Namespace(command="test", comfyui=chosen.comfyui, rest=rest)
    parser = argparse.ArgumentParser(prog="aior.py", description="All-in-one image restoration in ComfyUI.")
    commands = parser.add_subparsers(dest="command", required=True)
    restore = commands.add_parser("restore", help="restore photographs", description="Restore photographs: NAME_restored.png beside each, or in OUT.")
    restore.add_argument("pictures", nargs="+", metavar="PHOTO_OR_FOLDER", help="pictures, or folders that are walked")
    restore.add_argument("-o", "--out", help="folder for the results; a folder's own structure is kept under it")
    restore.add_argument("--steps", type=int, help="sampling steps (default: as in the workflow)")
    restore.add_argument("--seed", type=int, help="seed of the noise (default: as in the workflow)")
    restore.add_argument("--fidelity", type=float, help="0: free to invent detail .. 1: close to the input (default: as in the workflow)")
    restore.add_argument("--tile", type=int, help="tile size in pixels for large pictures, 0: as memory demands (default: as in the workflow)")
    restore.add_argument("--ensemble", type=int, metavar="N", help="mean of N mirrored copies, 1 to 4: better, and N times as long to decode (default: as in the workflow)")
    restore.add_argument("--workflow", metavar="FILE", help="another ComfyUI workflow with one LoadImage (default: workflows/restore.json)")
    restore.add_argument("--ray", nargs="?", const="local", type=ray_address, metavar="ADDRESS",
                         help="spread the pictures over the GPUs of a Ray cluster: auto or HOST:PORT; without ADDRESS over those of this machine")
    restore.add_argument("--workers", type=worker_count, metavar="N", help="with --ray: so many workers (default: one per GPU)")
    serve = commands.add_parser("serve", help="run ComfyUI with this pack", description="Run ComfyUI with this pack until Ctrl+C.")
    serve.add_argument("--port", type=int, default=8188)
    for command in (restore, serve):
        command.add_argument("--device", choices=("auto", "cpu", "gpu"), default="auto", help="auto: a GPU if torch can use one (default)")
    commands.add_parser("test", help="run the tests, on ComfyUI 0.30.0 or on --comfyui VERSION; all other arguments go to pytest")
    parsed = parser.parse_args(arguments)
    if parsed.command == "restore" and parsed.workers and not parsed.ray:
        restore.error("--workers goes with --ray")
    return parsed


def main():
    """Run the command and return its exit code."""
    if sys.version_info < (3, 10):
        print("Python 3.10 or newer is needed; this is %d.%d." % sys.version_info[:2])
        return 2
    arguments = parse(sys.argv[1:])
    from scripts import commands

    # A terminated command stops its server on the way out, as Ctrl+C does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return commands.run(ROOT, arguments)
    except KeyboardInterrupt:
        print("\nInterrupted. The same call again goes on where this one stopped.")
        return 130


if __name__ == "__main__":
    sys.exit(main())
