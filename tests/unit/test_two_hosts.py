"""The two versions of ComfyUI: their set-up, what the documents say of them, and the tests for both."""

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import commands
from scripts.host_setup import CURRENT, OLDEST, HostSetup

ROOT = Path(__file__).resolve().parents[2]


def test_the_oldest_comfyui_adds_to_the_set_up_and_changes_nothing(tmp_path):
    current, oldest = (
        {step.name: step.fingerprint for step in HostSetup(tmp_path, print, release).steps(["test"])}
        for release in (CURRENT, OLDEST)
    )
    assert current.items() < oldest.items() and len(oldest) == len(current) + 2
    assert HostSetup(tmp_path, print, OLDEST).comfyui != HostSetup(tmp_path).comfyui


def test_the_oldest_comfyui_is_the_one_that_people_are_told_of():
    assert f'\nrequires-comfyui = ">={OLDEST.version}"\n' in (ROOT / "pyproject.toml").read_text(
        encoding="utf-8"
    )
    assert f"ComfyUI {OLDEST.version} or newer" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_an_unknown_comfyui_is_refused_before_anything_is_set_up(tmp_path, capsys):
    arguments = argparse.Namespace(command="test", comfyui="0.1", rest=[])
    assert commands.run(tmp_path, arguments) == 1
    assert "0.30.0 and 0.16.3" in capsys.readouterr().out and not list(tmp_path.iterdir())


@pytest.mark.slow
def test_host_only_leaves_out_what_needs_no_comfyui():
    files = [
        ROOT / "tests" / name
        for name in ("unit/test_picture.py", "unit/test_steer.py", "graph/test_command.py")
    ]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--import-mode=importlib",
        "--rootdir",
        ROOT,
        "--collect-only",
        "-q",
        "--host-only",
        *files,
    ]
    collected = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert (
        "test_steer.py::" in collected
        and "test_command.py::" in collected
        and "test_picture.py::" not in collected
    )
