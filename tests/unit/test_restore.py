"""The restore command without a server: pictures that share a name, and remains of killed calls."""

import io
import os
import sys
import time
from pathlib import Path

import numpy
import pytest
from PIL import Image

from scripts import new_file, pictures
from scripts.engine import Engine, Outcome, Workflow, WorkflowError, read_workflow
from scripts.host import Host
from scripts.restore import Batch
from scripts.server import OwnFolder, ServerError


def png(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(numpy.full((8, 8, 3), value, numpy.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def make_batch(folder, *names):
    for number, name in enumerate(names):
        if not (folder / name).exists():
            (folder / name).write_bytes(b"picture %d" % number)
    found, _ = pictures.find_pictures([folder / name for name in names], folder / "out")
    return Batch(found, Workflow(folder / "w.json", b"{}", {}))


def made(folder):
    return sorted(path.name for path in (folder / "out").iterdir())


def test_pictures_that_share_a_result_go_by_turns_and_others_pass_them(tmp_path, capsys):
    """Two folders with a picture of the same name, one folder for results."""
    for number, folder in enumerate(("x", "y", "z")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.png").write_bytes(b"picture %d" % number)
    batch = make_batch(tmp_path, "x/a.png", "y/a.png", "b.png", "z/a.png")
    first, other = batch.take(), batch.take()
    assert (
        (first.picture.source.parent.name, other.name) == ("x", "b.png")
        and batch.take() is None
        and batch.left == 2
    )
    batch.settle(first, Outcome("failed", text="no picture"))
    second = batch.take()
    assert second.picture.source.parent.name == "y" and batch.take() is None
    batch.settle(other, Outcome("done", (png(2),), "noise found", 1.0))
    batch.settle(second, Outcome("done", (png(1), png(11)), seconds=1.0))
    third = batch.take()
    batch.settle(third, Outcome("done", (png(3),), seconds=1.0))
    assert batch.take() is None and (batch.done, batch.failed, batch.left) == (3, 1, 0)
    assert made(tmp_path) == ["a_restored.png", "a_restored_2.png", "a_restored_3.png", "b_restored.png"]
    values = [numpy.asarray(Image.open(tmp_path / "out" / name)).max() for name in made(tmp_path)]
    assert values == [1, 11, 3, 2]
    said = capsys.readouterr().out
    assert f"[1/4] {tmp_path / 'x' / 'a.png'}: FAILED\n  no picture\n" in said
    assert (
        f"[3/4] {tmp_path / 'b.png'}: noise found\n  1.0 s -> {tmp_path / 'out' / 'b_restored.png'}\n" in said
    )


def test_a_result_of_two_pictures_whose_first_is_missing_is_completed(tmp_path):
    """The state a call leaves that is killed between the two."""
    for _ in range(2):
        batch = make_batch(tmp_path, "a.png")
        batch.settle(batch.take(), Outcome("done", (png(1), png(2))))
        (tmp_path / "out" / "a_restored.png").unlink()
    assert made(tmp_path) == ["a_restored_2.png"]
    batch = make_batch(tmp_path, "a.png")
    batch.settle(batch.take(), Outcome("done", (png(1), png(2))))
    assert made(tmp_path) == ["a_restored.png", "a_restored_2.png"]
    again = make_batch(tmp_path, "a.png")
    assert again.take() is None and again.skipped == 1


def test_another_call_that_was_faster_with_the_same_result_does_no_harm(tmp_path):
    batch, other = make_batch(tmp_path, "a.png"), make_batch(tmp_path, "a.png")
    jobs = batch.take(), other.take()
    other.settle(jobs[1], Outcome("done", (png(1),)))
    batch.settle(jobs[0], Outcome("done", (png(1),)))
    assert made(tmp_path) == ["a_restored.png"] and batch.done == other.done == 1


def test_unreadable_and_unwritable_pictures_fail_alone_and_a_refused_workflow_stops(tmp_path):
    batch = make_batch(tmp_path, "a.png", "b.png", "c.png")
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "b.png").unlink()
    job = batch.take()
    assert job.name == "c.png" and batch.failed == 2
    batch.settle(job, Outcome("done", (b"no png",)))
    assert batch.failed == 3 and not (tmp_path / "out").exists()
    refused = make_batch(tmp_path, "c.png")
    with pytest.raises(WorkflowError, match="refuses this workflow"):
        refused.settle(refused.take(), Outcome("refused", text="--steps"))
    (tmp_path / "w.json").write_text("[1")
    with pytest.raises(WorkflowError, match="no JSON"):
        read_workflow(tmp_path / "w.json", {})


def test_a_file_without_a_name_and_one_with_come_out_alike(tmp_path, monkeypatch):
    ways = {
        "unnamed": lambda: None,
        "partial": lambda: monkeypatch.setattr(new_file, "_write_unnamed", lambda path, data: False),
    }
    for name, choose in ways.items():
        choose()
        path = tmp_path / name / "a_restored.png"
        new_file.write_new(path, b"one")
        with pytest.raises(FileExistsError):
            new_file.write_new(path, b"two")
        assert path.read_bytes() == b"one" and [file.name for file in path.parent.iterdir()] == [
            "a_restored.png"
        ]
    if sys.platform == "linux":
        modes = {(tmp_path / name / "a_restored.png").stat().st_mode for name in ways}
        assert len(modes) == 1


def test_partial_files_are_removed_when_nobody_has_written_to_them_for_an_hour(tmp_path):
    names = (
        ".a_restored.png.12.partial",
        ".b_restored_2.png.7.partial",
        ".note.partial",
        "a_restored.png.12.partial",
    )
    for name in names:
        (tmp_path / name).touch()
    new_file.remove_partials([tmp_path, tmp_path / "missing"])
    assert len(list(tmp_path.iterdir())) == 4
    for name in names:
        os.utime(tmp_path / name, (time.time() - 3601,) * 2)
    new_file.remove_partials([tmp_path])
    assert {path.name for path in tmp_path.iterdir()} == set(names[2:])


def test_folders_of_dead_processes_are_removed_and_those_of_living_ones_are_not(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    mine, foreign = OwnFolder(), tmp_path / "aior-of-someone"
    foreign.mkdir()
    dead, new = tmp_path / "aior-dead", tmp_path / "aior-new"
    for folder in (dead, new):
        (folder / "input").mkdir(parents=True)
        (folder / "owner").touch()
    for folder in (mine.path, dead):
        os.utime(folder / "owner", (time.time() - 61,) * 2)
    second = OwnFolder()
    assert {path.name for path in tmp_path.iterdir()} == {
        mine.path.name,
        second.path.name,
        foreign.name,
        new.name,
    }
    mine.close()
    mine.close()
    second.close()
    assert {path.name for path in tmp_path.iterdir()} == {foreign.name, new.name}


@pytest.mark.parametrize("end, repairs", [("sys.exit(3)", 1), ("os.kill(os.getpid(), signal.SIGKILL)", 0)])
def test_only_a_server_that_ends_by_itself_has_its_files_checked(tmp_path, end, repairs):
    """A repair replaces files that other servers may use, so a kill or a slow start does not start one."""
    (tmp_path / "main.py").write_text(f"import os, signal, sys\n{end}\n")

    class Setup:
        count = 0

        def repair(self):
            Setup.count += 1

    engine = Engine(tmp_path, Workflow(tmp_path / "w.json", b"{}", {}), "cpu", say=lambda line: None)
    engine.host = Host(Path(sys.executable), tmp_path, "aior", setup=Setup())
    with pytest.raises(ServerError, match="while starting"):
        engine.start()
    engine.close()
    assert Setup.count == repairs
