"""kill -9 of a folder's restoration at random moments: the next call finishes the rest, and nothing is
broken, lost or left behind.

Two kills by default, twenty with --stress. Only Linux ends a server with its dead command and has files
without a name.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy
import pytest
from aior_pack.tests.graph.killing import ROOT, Command, until
from PIL import Image

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's help is Linux's")

# Two pictures are saved of each: inverted and as it is.
TWO_RESULTS = {
    "nodes": [
        {
            "id": 1,
            "type": "LoadImage",
            "mode": 0,
            "widgets_values": ["example.png", "image"],
            "outputs": [{"name": "IMAGE", "type": "IMAGE"}],
        },
        {
            "id": 2,
            "type": "ImageInvert",
            "mode": 0,
            "inputs": [{"name": "image", "type": "IMAGE", "link": 1}],
            "outputs": [{"name": "IMAGE", "type": "IMAGE"}],
        },
        {
            "id": 3,
            "type": "SaveImage",
            "mode": 0,
            "widgets_values": ["x"],
            "inputs": [{"name": "images", "type": "IMAGE", "link": 2}],
        },
        {
            "id": 4,
            "type": "SaveImage",
            "mode": 0,
            "widgets_values": ["y"],
            "inputs": [{"name": "images", "type": "IMAGE", "link": 3}],
        },
    ],
    "links": [[1, 1, 0, 2, 0, "IMAGE"], [2, 2, 0, 3, 0, "IMAGE"], [3, 1, 0, 4, 0, "IMAGE"]],
}
WRITER = """
import sys, itertools, importlib.util
from pathlib import Path
spec = importlib.util.spec_from_file_location("new_file", sys.argv[1])
new_file = sys.modules["new_file"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(new_file)
for number in itertools.count():
    new_file.write_new(Path(sys.argv[2], f"{number}_restored.png"), bytes([number % 251]) * 30_000_000)
"""


def read(path: Path) -> numpy.ndarray:
    return numpy.asarray(Image.open(path).convert("RGB")).astype(int)


def check_two_results(source: Path, out: Path) -> None:
    """The results of TWO_RESULTS for one picture."""
    picture, stem = read(source), source.stem
    assert abs(read(out / f"{stem}_restored.png") + picture - 255).max() <= 1
    assert (read(out / f"{stem}_restored_2.png") == picture).all()


@pytest.fixture(params=["two results", "restore"])
def case(request, stress, tmp_path):
    """Arguments of the command, and a check of one picture's results.

    The pictures are in `tmp_path / "in"`.
    """
    restores = request.param == "restore"
    if restores and not stress:
        pytest.skip("with --stress only: minutes")
    source, draw = tmp_path / "in", numpy.random.default_rng(3)
    source.mkdir()
    photograph = Image.open(ROOT / "tests" / "clean" / "china.webp").convert("RGB")
    for number in range(24):
        size = (96, 96) if restores else (800, 600)
        part = photograph.resize((900, 700)).crop((number, number, number + size[0], number + size[1]))
        noisy = numpy.asarray(part) + draw.normal(0, 20, (size[1], size[0], 3))
        Image.fromarray(noisy.clip(0, 255).astype(numpy.uint8)).save(source / f"{number:02}.png")
    if not restores:
        (tmp_path / "workflow.json").write_text(json.dumps(TWO_RESULTS))
        return ("--workflow", tmp_path / "workflow.json"), check_two_results
    reference = Command(source, "-o", tmp_path / "whole", "--steps", 1, temporary=tmp_path / "tmp")
    assert reference.wait() == 0, reference.output

    def check(picture: Path, out: Path) -> None:
        assert (out / f"{picture.stem}_restored.png").read_bytes() == (
            tmp_path / "whole" / f"{picture.stem}_restored.png"
        ).read_bytes()

    return ("--steps", 1), check


def snapshot(out: Path) -> dict[str, tuple[int, int, bytes]]:
    """Every file in the folder, hidden ones too: its identity, time of change and bytes."""
    return {
        path.name: (path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes()) for path in out.iterdir()
    }


def test_a_killed_restoration_goes_on(case, stress, tmp_path):
    arguments, check = case
    chance, temporary, out = random.Random(11), tmp_path / "tmp", tmp_path / "out"
    sources = sorted((tmp_path / "in").iterdir())
    out.mkdir()
    firsts = {f"{path.stem}_restored.png": path for path in sources}
    allowed = {*firsts, *(f"{path.stem}_restored_2.png" for path in sources)}
    kills, early = 0, 0
    while kills < (20 if stress else 2):
        # A person who deletes results gets them again, and the next kill has something to interrupt.
        there = sorted(firsts.keys() & set(os.listdir(out)))
        for name in chance.sample(there, len(there) // 2):
            (out / name).unlink()
        before = snapshot(out)
        command = Command(tmp_path / "in", "-o", out, *arguments, temporary=temporary)
        # Every other kill comes before the first picture or soon after, the others between the pictures that
        # follow.
        moment = chance.uniform(0, 10)
        if kills % 2:
            new = chance.randint(1, 4)
            until(
                lambda: len(set(os.listdir(out)) - set(before)) >= new or command.process.poll() is not None,
                300,
                f"result {new}",
            )
            moment = chance.uniform(0, 1)
        time.sleep(moment)
        interrupted = command.kill()
        assert interrupted or command.process.returncode == 0, command.output
        kills, early = kills + interrupted, early + (set(os.listdir(out)) == set(before))
        until(lambda: not command.others(), 10, "the end of all that the killed command had started")
        after = snapshot(out)
        assert after.keys() <= allowed, "a file that is no result"
        assert all(after[name] == kept for name, kept in before.items()), "a result was lost or changed"
        for name in after.keys() & firsts.keys():
            check(firsts[name], out)
    print(f"{kills} kills, {early} of them before a new result")

    # What killed calls left among the temporary files is taken for theirs after a minute.
    for owner in temporary.glob("aior-*/owner"):
        os.utime(owner, (time.time() - 61,) * 2)
    before = snapshot(out)
    last = Command(tmp_path / "in", "-o", out, *arguments, temporary=temporary)
    assert last.wait() == 0, last.output
    had = len(before.keys() & firsts.keys())
    assert f"{len(sources) - had} restored, {had} skipped, 0 failed" in last.output
    after = snapshot(out)
    assert firsts.keys() <= after.keys() <= allowed and all(
        after[name] == kept for name, kept in before.items()
    )
    for path in sources:
        check(path, out)
    assert not last.others() and not list(temporary.glob("aior-*"))


def test_a_killed_write_leaves_nothing(stress, tmp_path):
    """A process that writes 30 MB files one after the other: whatever is there under any name is whole."""
    chance = random.Random(5)
    for number in range(60 if stress else 10):
        folder = tmp_path / str(number)
        folder.mkdir()
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(ROOT / "scripts" / "new_file.py"), str(folder)]
        )
        until(lambda: os.listdir(folder), 60, "the first file")
        time.sleep(chance.uniform(0, 0.2))
        writer.kill()
        writer.wait()
        names = sorted(os.listdir(folder))
        assert names == sorted(f"{index}_restored.png" for index in range(len(names)))
        for name in names:
            data = (folder / name).read_bytes()
            assert len(data) == 30_000_000 and data.count(data[:1]) == len(data)
            (folder / name).unlink()
