"""Which files the command opens, how their results are told apart, and what it says of the others."""

import os
import socket
import sys

import numpy
import pytest
from aior_pack.tests import picture_files as files

from scripts import pictures, results
from scripts.engine import Outcome, Workflow
from scripts.restore import Batch, restore

POSIX = pytest.mark.skipif(os.name == "nt", reason="pipes, links and read-only folders of POSIX")
PNG = files.encode(files.scene((8, 8)), "PNG")


def batch_of(places, out, **options):
    found, remarks = pictures.find_pictures(places, out)
    return Batch(found, Workflow(out / "w.json", b"{}", options)), remarks


@POSIX
def test_only_regular_files_are_opened_and_a_bad_entry_fails_alone(tmp_path, capsys):
    source = tmp_path / "in"
    source.mkdir()
    (source / "good.png").write_bytes(PNG)
    (source / "empty.png").touch()
    os.mkfifo(source / "pipe.png")
    (source / "loop.png").symlink_to("loop.png")
    (source / "gone.png").symlink_to("nowhere.png")
    (source / "device.png").symlink_to("/dev/zero")
    (source / "folder.png").mkdir()
    (source / "good_link.png").symlink_to("good.png")
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(source / "socket.png"))
    try:
        batch, _ = batch_of([source], tmp_path / "out")
        job = batch.take()
        assert job.name == "good.png" and batch.take() is None and batch.failed == 6
    finally:
        server.close()
    said = capsys.readouterr().out
    for part in ("named pipe", "symbolic links", "No such file", "a device", "the file is empty"):
        assert part in said
    named, _ = pictures.find_pictures([source / "loop.png", source / "pipe.png"], None)
    assert [picture.source.name for picture in named] == ["loop.png", "pipe.png"]


def test_patterns_are_put_in_full_and_kinds_that_are_left_out_are_counted(tmp_path):
    for name in ("b.jpg", "a.jpg", "x.heic", "y.heic", "z.dng", "notes.txt", *(f"{n}.xmp" for n in range(9))):
        (tmp_path / name).write_bytes(b"x")
    found, remarks = pictures.find_pictures([tmp_path / "*.jpg"], None)
    assert [picture.source.name for picture in found] == ["a.jpg", "b.jpg"] and not remarks
    none, remarks = pictures.find_pictures([tmp_path / "*.tiff"], None)
    assert not none and "no file matches" in remarks[0]
    _, remarks = pictures.find_pictures([tmp_path], None)
    assert "9 .xmp, 2 .heic (x.heic, y.heic)" in remarks[0] and "1 .dng (z.dng)" in remarks[0]


def test_results_tell_pictures_apart_that_differ_in_their_suffix_only(tmp_path):
    for name in ("a.jpg", "a.PNG", "b.png"):
        (tmp_path / name).write_bytes(PNG)
    found, _ = pictures.find_pictures([tmp_path], None)
    assert [picture.target.name for picture in found] == ["a_png", "a_jpg", "b"]
    alone, _ = pictures.find_pictures([tmp_path / "a.jpg"], None)
    assert alone[0].target.name == "a_jpg"  # the same name, whether the folder was given or the file
    # A result of an earlier version, or of a time when the other was not there yet, counts.
    batch, _ = batch_of([tmp_path / "a.jpg"], tmp_path)
    job = batch.take()
    (tmp_path / "a_restored.png").write_bytes(results.with_key(PNG, job.key))
    again, _ = batch_of([tmp_path / "a.jpg"], tmp_path)
    assert again.take() is None and again.skipped == 1


@pytest.mark.skipif(sys.platform != "linux", reason="file systems elsewhere refuse such names")
def test_names_that_are_no_utf8_or_very_long_have_results(tmp_path):
    for name in (b"caf\xe9.png", b"x" * 251 + b".png", "語".encode() * 83 + b".png"):
        (tmp_path / os.fsdecode(name)).write_bytes(PNG)
    batch, _ = batch_of([tmp_path], tmp_path / "out")
    while job := batch.take():
        batch.settle(job, Outcome("done", (PNG,), seconds=1.0))
    names = [os.fsencode(name) for name in os.listdir(tmp_path / "out")]
    assert (
        batch.done == len(set(names)) == 3
        and b"caf\xe9_restored.png" in names
        and max(map(len, names)) <= 255
    )


def test_a_file_in_the_place_of_a_folder_ends_with_a_sentence(tmp_path, capsys):
    (tmp_path / "a.png").write_bytes(PNG)
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for name in ("in/b.png", "in/deep/c.png"):
        (tmp_path / name).write_bytes(PNG)
    (tmp_path / "out").write_text("a file")
    batch, _ = batch_of([tmp_path / "a.png"], tmp_path / "out")
    batch.settle(batch.take(), Outcome("done", (PNG,)))
    assert batch.failed == 1 and "is a file, not a folder" in capsys.readouterr().out
    assert "is a file" in pictures.folder_problem(
        tmp_path / "out"
    ) and "is a file" in pictures.folder_problem(tmp_path / "out" / "sub")
    assert pictures.folder_problem(tmp_path / "new" / "er") is None and not (tmp_path / "new").exists()
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "deep").write_text("a file")
    found, _ = pictures.find_pictures([tmp_path / "in"], tmp_path / "there")
    blocked = {
        folder: problem
        for folder in {p.target.parent for p in found}
        if (problem := pictures.folder_problem(folder))
    }
    partly = Batch(found, Workflow(tmp_path / "w.json", b"{}", {}), blocked)
    job = partly.take()
    assert job.name == "b.png" and partly.take() is None and partly.failed == 1


def test_what_cannot_be_written_is_said_before_anything_starts(tmp_path, monkeypatch, capsys):
    (tmp_path / "a.png").write_bytes(PNG)
    (tmp_path / "out").write_text("a file")
    monkeypatch.setattr("scripts.restore.run_here", lambda *_: pytest.fail("the server was started"))
    from argparse import Namespace

    empty = dict.fromkeys(
        (
            "steps",
            "seed",
            "fidelity",
            "tile",
            "ensemble",
            "format",
            "quality",
            "bits",
            "metadata",
            "workflow",
            "ray",
        )
    )
    call = Namespace(**empty, pictures=[tmp_path / "a.png"], out=str(tmp_path / "out"), device="cpu")
    assert restore(tmp_path, call) == 1 and "out is a file" in capsys.readouterr().out


def test_after_a_full_disk_no_picture_is_computed_for_nothing(tmp_path, monkeypatch, capsys):
    import errno

    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(PNG)
    batch, _ = batch_of([tmp_path / "a.png", tmp_path / "b.png"], tmp_path / "out")

    def full(path, data):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr("scripts.restore.write_new", full)
    batch.settle(batch.take(), Outcome("done", (PNG,)))
    assert batch.take() is None and batch.failed == 2
    assert capsys.readouterr().out.count("No space left on device") == 2


@pytest.mark.parametrize("format, suffix", [("jpg", ".jpg"), ("webp", ".webp"), ("tiff", ".tif")])
def test_results_of_other_formats_are_recognised_by_their_key(tmp_path, format, suffix):
    from aior_pack.aior_core.picture.reader import read_picture
    from aior_pack.aior_core.picture.writer import WriteOptions, write_picture

    (tmp_path / "a.png").write_bytes(PNG)
    source = read_picture(PNG)
    data = write_picture(source.to_image()[0], source, 0, WriteOptions(format))
    batch, _ = batch_of([tmp_path / "a.png"], tmp_path / "out", format=format)
    batch.settle(batch.take(), Outcome("done", (data, data)))
    assert sorted(os.listdir(tmp_path / "out")) == [f"a_restored{suffix}", f"a_restored_2{suffix}"]
    again, _ = batch_of([tmp_path / "a.png"], tmp_path / "out", format=format)
    assert again.take() is None and again.skipped == 1
    other, _ = batch_of([tmp_path / "a.png"], tmp_path / "out", format=format, quality=50)
    assert other.take() is not None
    assert numpy.asarray(files.shown((tmp_path / "out" / f"a_restored{suffix}").read_bytes())).shape == (
        8,
        8,
        3,
    )


def test_a_picture_counts_as_cut_off_by_its_own_end_only():
    whole = files.encode(files.scene((300, 200)), "JPEG", quality=90, progressive=True)
    thumb = files.jpeg_with_thumbnail(whole)
    assert (
        not pictures.is_cut_off(whole)
        and not pictures.is_cut_off(whole + bytes(100_000))
        and not pictures.is_cut_off(thumb)
    )
    for data in (whole, thumb):
        for share in (0.3, 0.6, 0.9):
            assert pictures.is_cut_off(data[: int(len(data) * share)])
    assert (
        pictures.is_cut_off(whole[:-2] + bytes(100_000))
        and not pictures.is_cut_off(PNG + bytes(9))
        and pictures.is_cut_off(PNG[:-9])
    )
