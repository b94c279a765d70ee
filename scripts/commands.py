"""The commands by name, and the test command."""

from __future__ import annotations

import subprocess
import time
from argparse import Namespace
from pathlib import Path

from .host import choose_device, find_host
from .restore import restore
from .server import serve
from .steps import SetupError


def run(root: Path, arguments: Namespace) -> int:
    """Run `arguments.command` for the checkout at `root`; returns the exit code, 1 with a sentence when the set-up fails."""
    try:
        if arguments.command == "restore":
            return restore(root, arguments)
        if arguments.command == "serve":
            host = find_host(root)
            device, sentence = choose_device(host, arguments.device)
            print(sentence, flush=True)
            return serve(host, device=device, port=arguments.port)
        return test(root, arguments.rest)
    except SetupError as error:
        print(f"Error: {error}", flush=True)
        return 1


def test(root: Path, rest: list[str]) -> int:
    """Run pytest on `tests/` with the host's Python; `rest` goes to pytest. Returns pytest's exit code."""
    host = find_host(root, test=True)
    started = time.monotonic()
    # Not `-m pytest`: that puts the checkout on sys.path, where its folder `nodes` would hide ComfyUI's module `nodes`.
    start = "import sys; sys.path[:] = [p for p in sys.path if p]; import pytest; sys.exit(pytest.main())"
    named = any(not argument.startswith("-") and Path(argument.split("::")[0]).exists() for argument in rest)
    command = [str(host.python), "-c", start, "--import-mode=importlib", "--rootdir", str(root), *([] if named else [str(root / "tests")]), *rest]
    code = subprocess.run(command).returncode
    print(f"Tests ended with code {code} after {time.monotonic() - started:.1f} s", flush=True)
    return code
