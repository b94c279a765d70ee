"""`aior.py restore --ray` on local Ray clusters: the same files as one process makes, and nothing lost when a
worker dies.

Ray is an optional extra that the host's Python does not have. To run these tests, name a Python that has it:

    python3 -m venv RAY && RAY/bin/pip install ray
    AIOR_RAY_PYTHON=RAY/bin/python python3 aior.py test tests/graph/test_ray.py
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import numpy
import pytest
from aior_pack.tests.graph.killing import MARK, ROOT, Command, kill, parent, servers, until
from aior_pack.tests.graph.test_killed import TWO_RESULTS, check_two_results
from PIL import Image

from scripts.server import free_port
from scripts.steps import ends_with_parent

PYTHON = os.environ.get("AIOR_RAY_PYTHON", sys.executable)
PICTURES = 20

if subprocess.run([PYTHON, "-c", "import ray"], capture_output=True).returncode:
    pytest.skip("needs Ray: set AIOR_RAY_PYTHON to a Python that has it", allow_module_level=True)
if not sys.platform.startswith("linux"):
    pytest.skip("finds processes in /proc", allow_module_level=True)


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """Twenty noisy parts of six photographs."""
    folder, draw = tmp_path_factory.mktemp("in"), numpy.random.default_rng(5)
    photographs = sorted((ROOT / "tests" / "clean").glob("*.webp"))
    for number in range(PICTURES):
        photograph = Image.open(photographs[number % len(photographs)]).convert("RGB")
        width, height = draw.choice([128, 144, 160, 192], 2)
        left, top = draw.integers(0, photograph.width - width), draw.integers(0, photograph.height - height)
        part = numpy.asarray(photograph.crop((left, top, left + width, top + height)))
        noisy = (part + draw.normal(0, 20, part.shape)).clip(0, 255).astype(numpy.uint8)
        Image.fromarray(noisy).save(folder / f"{number:02}.png")
    return folder


@pytest.fixture(scope="module")
def single(source, tmp_path_factory) -> Path:
    """The results of one process with as many threads as each of two workers, so that sums agree."""
    out = tmp_path_factory.mktemp("single")
    threads = max((os.cpu_count() or 1) // 2, 1)
    command = Command(
        source, "-o", out, temporary=tmp_path_factory.mktemp("tmp"), OMP_NUM_THREADS=str(threads)
    )
    assert command.wait() == 0, command.output
    return out


def start(*arguments: object, **options) -> Command:
    # Ray's sockets lie in its own temporary folder, and the path of a socket must be short.
    return Command(*arguments, python=PYTHON, RAY_TMPDIR="/tmp", **options)


def assert_same(out: Path, single: Path) -> None:
    """The same names, and in every file the same bytes."""
    assert sorted(os.listdir(out)) == sorted(os.listdir(single))
    for path in single.iterdir():
        assert (out / path.name).read_bytes() == path.read_bytes(), path.name


def assert_ended(command: Command) -> None:
    until(lambda: not command.others(), 30, f"the end of {command.others()}")


def test_two_workers_make_what_one_process_makes(source, single, tmp_path):
    out, temporary = tmp_path / "out", tmp_path / "tmp"
    command = start(source, "-o", out, "--ray", "--workers", 2, temporary=temporary)
    until(lambda: len(command.servers()) == 2 or command.process.poll() is not None, 300, "two servers")
    assert command.wait() == 0, command.output
    assert (
        f"{PICTURES} restored, 0 skipped, 0 failed" in command.output
        and "Ray: 2 CPU workers" in command.output
    )
    assert sorted(map(int, re.findall(rf"^\[(\d+)/{PICTURES}\]", command.output, re.MULTILINE))) == list(
        range(1, PICTURES + 1)
    )
    assert_same(out, single)
    assert_ended(command)
    assert not list(temporary.glob("aior-*"))
    # What the one process made is as good as its own: nothing is left to do, and no cluster is started for
    # it.
    again = start(source, "-o", single, "--ray", temporary=temporary)
    assert (
        again.wait() == 0 and f"0 restored, {PICTURES} skipped" in again.output and "Ray:" not in again.output
    )


@pytest.mark.parametrize("victim", ["actor", "server"])
def test_a_worker_killed_half_way_loses_nothing(source, single, tmp_path, stress, victim):
    out = tmp_path / "out"
    out.mkdir()
    command = start(source, "-o", out, "--ray", "--workers", 2, temporary=tmp_path / "tmp")
    kills = 4 if stress else 1
    for number in range(1, kills + 1):
        until(
            lambda: len(os.listdir(out)) >= 4 * number or command.process.poll() is not None,
            300,
            f"result {4 * number}",
        )
        until(lambda: command.servers() or command.process.poll() is not None, 60, "a server")
        assert command.process.poll() is None, command.output
        server = sorted(command.servers())[number % len(command.servers())]
        kill(server if victim == "server" else parent(server))
    assert command.wait() == 0, command.output
    assert f"{PICTURES} restored, 0 skipped, 0 failed" in command.output and "died" in command.output
    assert_same(out, single)
    assert_ended(command)


def test_a_picture_that_ends_every_server_fails_after_three_and_no_other_does(source, tmp_path):
    """The server is killed whenever it has been given that picture."""
    chosen, out, temporary = sorted(source.iterdir())[:6], tmp_path / "out", tmp_path / "tmp"
    (tmp_path / "workflow.json").write_text(json.dumps(TWO_RESULTS))
    command = start(
        *chosen,
        "-o",
        out,
        "--workflow",
        tmp_path / "workflow.json",
        "--ray",
        "--workers",
        2,
        temporary=temporary,
    )
    killed = set()
    deadline = time.monotonic() + 400
    while command.process.poll() is None:
        assert time.monotonic() < deadline, command.output
        for poisoned in temporary.glob(f"aior-*/input/*/{chosen[2].name}"):
            folder = str(poisoned.parents[2])
            for pid in [
                pid for pid, line in command.servers().items() if folder in line and pid not in killed
            ]:
                killed.add(pid)
                kill(pid)
        time.sleep(0.005)
    assert command.process.returncode == 1 and "5 restored, 0 skipped, 1 failed" in command.output, (
        command.output
    )
    assert f"{chosen[2]}: FAILED" in command.output and "died with code -9" in command.output
    assert len(killed) == 3
    for path in chosen[:2] + chosen[3:]:
        check_two_results(path, out)
    assert not list(out.glob(f"{chosen[2].stem}*"))
    assert_ended(command)


def test_pictures_of_one_name_get_the_names_of_the_single_process(source, tmp_path):
    """a.png, a.jpg, ... share a name for their results and go by turns; others come between."""
    folder = tmp_path / "in"
    folder.mkdir()
    pictures = [Image.open(path) for path in sorted(source.iterdir())[:6]]
    for stem in "ab":
        for picture, suffix in zip(pictures[3 * (stem == "b") :], (".bmp", ".png", ".tiff")):
            picture.save(folder / f"{stem}{suffix}")
    (tmp_path / "workflow.json").write_text(json.dumps(TWO_RESULTS))
    options = ("--workflow", tmp_path / "workflow.json")
    spread = start(
        folder, "-o", tmp_path / "ray", *options, "--ray", "--workers", 2, temporary=tmp_path / "tmp"
    )
    assert spread.wait() == 0, spread.output
    alone = Command(folder, "-o", tmp_path / "alone", *options, temporary=tmp_path / "tmp")
    assert alone.wait() == 0, alone.output
    assert len(os.listdir(tmp_path / "ray")) == 12
    assert_same(tmp_path / "ray", tmp_path / "alone")


def test_a_cluster_by_its_address_and_each_server_sees_its_own_gpu(source, tmp_path):
    """Ray is told of two GPUs that are not there; what matters is which of them each server may see."""
    (tmp_path / "workflow.json").write_text(json.dumps(TWO_RESULTS))
    chosen, out = sorted(source.iterdir()), tmp_path / "out"
    # A Ray cluster lets in who has its token: this one gets one of its own.
    port, token = free_port(), {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": uuid.uuid4().hex}
    head = subprocess.Popen(
        [
            PYTHON,
            "-m",
            "ray.scripts.scripts",
            "start",
            "--head",
            "--block",
            f"--port={port}",
            "--num-gpus=2",
            "--include-dashboard=false",
            "--disable-usage-stats",
        ],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **token, MARK: token["RAY_AUTH_TOKEN"]},
        **ends_with_parent(),
    )
    try:
        seen = {}

        def both() -> bool:
            for pid in servers(token["RAY_AUTH_TOKEN"]):
                environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
                seen[pid] = [entry for entry in environment if entry.startswith(b"CUDA_VISIBLE_DEVICES=")]
            return len(seen) == 2 or command.process.poll() is not None

        for _ in range(20):
            # The head needs some seconds to answer: until then the command says so and ends.
            command = start(
                *chosen,
                "-o",
                out,
                "--workflow",
                tmp_path / "workflow.json",
                "--ray",
                f"127.0.0.1:{port}",
                temporary=tmp_path / "tmp",
                device="auto",
                **token,
            )
            until(both, 300, "two servers")
            if "no connection to this Ray cluster" not in command.output:
                break
            time.sleep(2)
        assert command.wait() == 0, command.output
        assert (
            f"{PICTURES} restored, 0 skipped, 0 failed" in command.output
            and "Ray: 2 GPU workers" in command.output
        )
        assert sorted(seen.values()) == [[b"CUDA_VISIBLE_DEVICES=0"], [b"CUDA_VISIBLE_DEVICES=1"]]
        for path in chosen:
            check_two_results(path, out)
        until(lambda: not servers(token["RAY_AUTH_TOKEN"]), 30, "the end of the workers' servers")
        too_many = start(
            chosen[0],
            "-o",
            tmp_path / "x",
            "--ray",
            f"127.0.0.1:{port}",
            "--workers",
            3,
            temporary=tmp_path / "tmp",
            device="gpu",
            **token,
        )
        assert too_many.wait() == 1 and "the cluster has 2 GPUs" in too_many.output
    finally:
        head.send_signal(signal.SIGTERM)
        head.wait(30)


def test_no_cluster_at_the_address_is_said_at_once(source, tmp_path):
    command = start(
        source, "-o", tmp_path / "out", "--ray", f"127.0.0.1:{free_port()}", temporary=tmp_path / "tmp"
    )
    assert command.wait(60) == 1 and "no connection to this Ray cluster" in command.output
    assert not (tmp_path / "out").exists()
