"""Measure Restoration's CSV file: in the output folder, whole, and never over another file."""

import os
from pathlib import Path

import pytest
import torch
from aior_pack.tests.tiny import picture


@pytest.fixture
def output(host, tmp_path, monkeypatch):
    """ComfyUI's output folder, an empty one."""
    import folder_paths

    folder = tmp_path / "output"
    folder.mkdir()
    monkeypatch.setattr(folder_paths, "output_directory", str(folder))
    return folder


def save(text, prefix):
    from aior_pack.aior_core.host.csv_file import save_csv

    return save_csv(text, prefix)


def measured(**options):
    from aior_pack.nodes.measure import Measure

    clean = picture(40, 48, batch=2)
    return Measure.execute(clean, (clean * 0.9).clamp(0, 1), **options)


def test_files_are_numbered_and_none_is_overwritten(output, caplog):
    with caplog.at_level("INFO"):
        paths = [save(f"{number}\n", "sub/table") for number in range(3)]
    assert [record.getMessage() for record in caplog.records] == [
        f"AIOR, CSV file saved: {path}" for path in paths
    ]
    assert [path.relative_to(output).as_posix() for path in paths] == [
        f"sub/table_{number:05}_.csv" for number in (1, 2, 3)
    ]
    assert [path.read_text() for path in paths] == ["0\n", "1\n", "2\n"]
    assert sorted(path.name for path in (output / "sub").iterdir()) == [path.name for path in paths]


@pytest.mark.parametrize("prefix", ["", "  ", None])
def test_without_a_name_there_is_no_file(output, prefix):
    assert save("x", prefix) is None and not list(output.iterdir())


@pytest.mark.parametrize(
    "prefix",
    [
        "../table",
        "a/../../table",
        "/tmp/table",
        "C:\\table",
        "..\\table",
        "link/table",
        "a\0b",
        ["a"],
        3,
        "x" * 300,
        "sub/",
    ],
)
def test_names_that_lead_elsewhere_are_refused(output, tmp_path, prefix):
    (tmp_path / "elsewhere").mkdir()
    (output / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="^csv: "):
        save("x", prefix)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_name_taken_in_between_is_left_alone(output, monkeypatch):
    from aior_pack.aior_core.host import csv_file

    real, names = csv_file.saving_place, []

    def slow(prefix, **options):
        names.append(real(prefix, **options))
        if len(names) == 1:
            names[0].with_name(names[0].name + ".csv").write_text("theirs")
        return names[-1]

    monkeypatch.setattr(csv_file, "saving_place", slow)
    assert save("ours", "table").name == "table_00002_.csv"
    assert [path.read_text() for path in sorted(output.iterdir())] == ["theirs", "ours"]


def test_what_cannot_be_written_leaves_nothing_behind(output, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(RuntimeError, match="^the CSV file could not be written: No space left on device"):
        save("x", "table")
    assert not list(output.iterdir())


def test_the_node_writes_its_table_and_says_where(output):
    done = measured(csv="measured/dimmed", border=3)
    (path,) = output.rglob("*.csv")
    (shown,) = done.ui.as_dict()["text"]
    assert shown == f"{done.result[3]}\n\nSaved: {path}" and "Saved" not in done.result[3]
    rows = [line.split(",") for line in path.read_text(encoding="utf-8").splitlines()]
    assert rows[0] == ["picture", "PSNR dB", "SSIM", "channel", "border"] and [
        row[0] for row in rows[1:]
    ] == ["1", "2", "mean"]
    assert [float(x) for x in rows[3][1:3]] == [done.result[0], done.result[1]] and rows[3][3:] == [
        "rgb",
        "3",
    ]
    assert f"{float(rows[1][1]):.2f}" in done.result[3]


def test_the_node_writes_nothing_unless_asked(output):
    plain, asked = measured(), measured(csv="table")
    assert plain.ui.as_dict()["text"] == (plain.result[3],) and len(list(output.rglob("*"))) == 1
    assert plain.result[:4] == asked.result[:4] and torch.equal(plain.result[4], asked.result[4])


def test_pictures_of_two_sizes_are_refused_in_words(output):
    from aior_pack.nodes.measure import Measure

    with pytest.raises(
        ValueError,
        match="Measure Restoration: .*picture is 40x32 pixels, "
        "the reference 48x32 .width x height.; .*one size",
    ):
        Measure.execute(picture(32, 48), picture(32, 40), csv="table")
    assert not list(Path(output).iterdir())
