"""The commands by name; the commands `test` and `lint`."""

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
    """Run `arguments.command` for the checkout at `root`. Returns its exit code.

    When the set-up fails, prints why and returns 1.
    """
    try:
        if arguments.command == "restore":
            return restore(root, arguments)
        if arguments.command == "serve":
            host = find_host(root)
            device, sentence = choose_device(host, arguments.device)
            print(sentence, flush=True)
            return serve(host, device=device, port=arguments.port)
        if arguments.command == "lint":
            return lint(root)
        return test(root, arguments.rest, arguments.comfyui)
    except SetupError as error:
        print(f"Error: {error}", flush=True)
        return 1


def test(root: Path, rest: list[str], version: str | None = None) -> int:
    """Run pytest on `tests/` with the host's Python; `rest` goes to pytest. Returns pytest's exit code.

    With a `version`, the tests run on that release of ComfyUI in `.host/`. Otherwise they run on the current
    release, or in a user's own ComfyUI. Raises SetupError.
    """
    extras = ["test", *(["browser"] if "--browser" in rest else [])]
    if version is None:
        return _pytest(root, find_host(root, extras=extras), rest)
    if version not in RELEASES:
        raise SetupError(
            f"--comfyui {version}: the tests can set up ComfyUI {' and '.join(RELEASES)} only. "
            "For another version set COMFYUI_PATH to its folder."
        )
    return _pytest(root, set_up_host(root, RELEASES[version], extras=extras), rest)


CHECKS = {
    "format": ("ruff", "format", "--check", "--diff", "."),
    "rules": ("ruff", "check", "."),
    "types": ("mypy",),
}
"""What `lint` runs, by name: a module of Python and its arguments."""


def lint(root: Path) -> int:
    """Check the source without running it: format, rules (ruff) and types (mypy), as `pyproject.toml` sets
    them.

    The tools are installed into `.host/`, even where a user's own ComfyUI would run the tests. All checks
    run. Returns 0 when all of them pass, otherwise 1. Raises SetupError.
    """
    python = set_up_host(root, extras=["lint"]).python
    failed = [
        name
        for name, command in CHECKS.items()
        if subprocess.run([str(python), "-m", *command], cwd=root).returncode
    ]
    print(f"Failed: {', '.join(failed)}" if failed else "The source passes all checks.", flush=True)
    return 1 if failed else 0


def _pytest(root: Path, host: Host, rest: list[str]) -> int:
    started = time.monotonic()
    named = any(not argument.startswith("-") and Path(argument.split("::")[0]).exists() for argument in rest)
    command = [
        str(host.python),
        "-m",
        "pytest",
        "--import-mode=importlib",
        "--rootdir",
        str(root),
        *([] if named else [str(root / "tests")]),
        *rest,
    ]
    # The tests and the commands that they run find ComfyUI by this variable.
    code = subprocess.run(command, env={**os.environ, "COMFYUI_PATH": str(host.comfyui)}).returncode
    version = host.setup.release.version if host.setup else f"in {host.comfyui}"
    print(
        f"Tests on ComfyUI {version} ended with code {code} after {time.monotonic() - started:.1f} s",
        flush=True,
    )
    return code
