"""Which ComfyUI runs the pack: a person's own, or the one in `.host/`; and on which device."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aior_core.atomic import atomic_write_bytes

from .host_setup import CURRENT, EXTRAS, LINK_NAME, RELEASES, HostSetup, Release
from .steps import Say, SetupError


@dataclass(frozen=True)
class Host:
    """A ComfyUI that can run the pack.

    `pack_name` is the name of the pack's folder in a custom_nodes folder. `extra_paths` is a ComfyUI path
    config that adds such a folder, where the pack lies in none. `setup` is set for `.host/` only.
    """

    python: Path
    comfyui: Path
    pack_name: str
    extra_paths: Path | None = None
    setup: HostSetup | None = None


def find_host(
    root: Path,
    *,
    extras: Sequence[str] = (),
    environment: Mapping[str, str] = os.environ,
    say: Say = print,
) -> Host:
    """The host for the checkout at `root`, ready to use; sets `.host/` up when there is no other.

    The order is: COMFYUI_PATH, the ComfyUI whose custom_nodes folder holds the pack, `.host/`. `extras`
    (names in `EXTRAS`) are installed into `.host/`. In a user's own ComfyUI nothing is installed: missing
    test packages are an error, and tests in a browser say themselves what is missing. Raises SetupError.
    """
    comfyui = existing_comfyui(root, environment)
    if comfyui is None:
        return set_up_host(root, extras=extras, say=say)
    for release in RELEASES.values():
        own = HostSetup(root, say, release).comfyui
        if own.exists() and comfyui.samefile(own):
            return set_up_host(root, release, extras=extras, say=say)
    python = _python_with_torch(comfyui)
    say(f"Using the ComfyUI in {comfyui} with {python}")
    if "test" in extras:
        _require_test_packages(python)
    for entry in sorted((comfyui / "custom_nodes").glob("*")):
        if entry.is_dir() and entry.samefile(root):
            return Host(python, comfyui, entry.name)
    return Host(python, comfyui, LINK_NAME, extra_paths=_extra_paths(root, HostSetup(root).folder))


def set_up_host(
    root: Path, release: Release = CURRENT, *, extras: Sequence[str] = (), say: Say = print
) -> Host:
    """The host of that release in `.host/`, set up where it is not yet. Raises SetupError."""
    setup = HostSetup(root, say, release)
    setup.ensure(extras)
    return Host(setup.python, setup.comfyui, LINK_NAME, setup=setup)


def existing_comfyui(root: Path, environment: Mapping[str, str]) -> Path | None:
    """The ComfyUI that COMFYUI_PATH names, or the one whose custom_nodes folder holds `root`; None without
    either.

    Raises SetupError when there is no ComfyUI at COMFYUI_PATH.
    """
    named = environment.get("COMFYUI_PATH")
    if named:
        path = Path(named).expanduser().absolute()
        if not _is_comfyui(path):
            raise SetupError(
                f"COMFYUI_PATH is {named}, but there is no ComfyUI (main.py or comfy/ is missing). "
                "Correct it, or unset it: then this command sets up a ComfyUI of its own."
            )
        return path
    for place in (root.absolute(), root.resolve()):
        if place.parent.name == "custom_nodes" and _is_comfyui(place.parent.parent):
            return place.parent.parent
    return None


def _is_comfyui(path: Path) -> bool:
    return (path / "main.py").is_file() and (path / "comfy").is_dir()


def _python_with_torch(comfyui: Path) -> Path:
    candidates = [
        comfyui / folder / tail
        for folder in ("venv", ".venv")
        for tail in ("bin/python", "Scripts/python.exe")
    ]
    # The portable ComfyUI for Windows keeps its interpreter beside the ComfyUI folder.
    candidates += [comfyui.parent / "python_embeded" / "python.exe", Path(sys.executable)]
    probe = "import importlib.util, sys; sys.exit(not importlib.util.find_spec('torch'))"
    for python in candidates:
        if (
            python.is_file()
            and subprocess.run([str(python), "-c", probe], capture_output=True).returncode == 0
        ):
            return python
    raise SetupError(
        f"No Python with torch was found for the ComfyUI in {comfyui}. "
        "Run this command with the Python that starts that ComfyUI."
    )


def _require_test_packages(python: Path) -> None:
    modules = {"scikit-image": "skimage"}
    probe = (
        "import importlib.util, sys;"
        "print(' '.join(name for name in sys.argv[1:] if not importlib.util.find_spec(name)))"
    )
    names = {modules.get(package, package): package for package in EXTRAS["test"]}
    missing = subprocess.run(
        [str(python), "-c", probe, *names], capture_output=True, text=True
    ).stdout.split()
    if missing:
        raise SetupError(
            "The tests need packages that this ComfyUI lacks. Install them with:\n"
            f"  {python} -m pip install {' '.join(names[module] for module in missing)}"
        )


def _extra_paths(root: Path, folder: Path) -> Path:
    """Make a custom_nodes folder with a link to the pack. Returns the path config that has ComfyUI read this
    folder.

    The user's own ComfyUI stays as it is.
    """
    nodes = folder / "custom_nodes"
    nodes.mkdir(parents=True, exist_ok=True)
    link = nodes / LINK_NAME
    if not (link.exists() and link.samefile(root)):
        link.unlink(missing_ok=True)
        link.symlink_to(root, target_is_directory=True)
    config = folder / "extra_paths.yaml"
    # JSON is YAML: no YAML library is needed to write it.
    atomic_write_bytes(config, json.dumps({"aior": {"custom_nodes": str(nodes)}}).encode())
    return config


def _torch_build(python: Path) -> tuple[str, bool]:
    """torch's version, and whether it was built for a GPU; read from its files, as importing takes long."""
    find = (
        "import importlib.util, pathlib, runpy; p = pathlib.Path(importlib.util.find_spec('torch').origin);"
        "v = runpy.run_path(str(p.parent / 'version.py'));"
        "print(v['__version__'], bool(v.get('cuda') or v.get('hip') or v.get('xpu')))"
    )
    result = subprocess.run([str(python), "-c", find], capture_output=True, text=True)
    version, _, gpu = result.stdout.strip().partition(" ")
    return version or "unknown", gpu == "True" or sys.platform == "darwin"


def _has_cuda_device() -> bool:
    try:
        driver = ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
        count = ctypes.c_int(0)
        return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0
    except (OSError, AttributeError):
        return False


def choose_device(
    host: Host, wanted: str, *, has_gpu: Callable[[], bool] = _has_cuda_device
) -> tuple[str, str]:
    """`("cpu" | "auto", sentence)` for the wanted `cpu`, `auto` or `gpu`; "auto" lets ComfyUI choose its GPU.

    Raises SetupError when a GPU is wanted and there is none.
    """
    if wanted == "cpu":
        return "cpu", "Device: CPU, as asked."
    version, gpu_build = _torch_build(host.python)
    if not gpu_build:
        reason = f"torch {version} is built for the CPU only"
    elif "rocm" not in version and sys.platform != "darwin" and not has_gpu():
        reason = "no GPU with a working driver was found"
    else:
        return "auto", f"Device: GPU (torch {version})."
    if wanted == "gpu":
        raise SetupError(f"--device gpu: {reason}. Use --device auto or cpu.")
    return "cpu", f"Device: CPU ({reason})."
