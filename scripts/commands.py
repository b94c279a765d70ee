"""The commands by name, and the test command."""

from __future__ import annotations

import os
import subprocess
import time
from argparse import Namespace
from pathlib import Path

from .host import Host, choose_device, find_host, set_up_host
from .host_setup import RELEASES
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
        return test(root, arguments.rest, arguments.comfyui)
    except SetupError as error:
        print(f"Error: {error}", flush=True)
        return 1


def test(root: Path, rest: list[str], version: str | None = None) -> int:
    """Run pytest on `tests/` with the host's Python; `rest` goes to pytest. Returns pytest's exit code.

    With a version, on that release of ComfyUI in `.host/`; otherwise on the current one, or in a person's own ComfyUI. Raises SetupError.
    """
    browser = "--browser" in rest
    if version is not None:
        if version not in RELEASES:
            raise SetupError(f"--comfyui {version}: the tests know ComfyUI {' and '.join(RELEASES)}.")
        return _pytest(root, set_up_host(root, RELEASES[version], test=True, browser=browser), rest)
    return _pytest(root, find_host(root, test=True, browser=browser), rest)


def _pytest(root: Path, host: Host, rest: list[str]) -> int:
    started = time.monotonic()
    # Not `-m pytest`: that puts the checkout on sys.path, where its folder `nodes` would hide ComfyUI's module `nodes`.
    start = "import sys; sys.path[:] = [p for p in sys.path if p]; import pytest; sys.exit(pytest.main())"
    named = any(not argument.startswith("-") and Path(argument.split("::")[0]).exists() for argument in rest)
    command = [
        str(host.python),
        "-c",
        start,
        "--import-mode=importlib",
        "--rootdir",
        str(root),
        *([] if named else [str(root / "tests")]),
        *rest,
    ]
    # The tests, and the commands that they call, find the host by this variable.
    code = subprocess.run(command, env={**os.environ, "COMFYUI_PATH": str(host.comfyui)}).returncode
    version = host.setup.release.version if host.setup else f"in {host.comfyui}"
    print(
        f"Tests on ComfyUI {version} ended with code {code} after {time.monotonic() - started:.1f} s",
        flush=True,
    )
    return code
