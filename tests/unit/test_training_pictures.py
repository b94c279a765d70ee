"""The pictures that training reads: which of them, and as people see them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from aior_pack.aior_core.training import data, own_pictures, pictures
from PIL import Image

LISTED = {
    "train/one/a.png": "train", "train/two/a.png": "val", "train/one/b.png": "val",
    "train/two/b.png": "train", "more/c.png": "val2",
    "more/d.png": "test", "more/e.png": "real_val", "more/f.png": "", "more/g.png": "train2",
}  # fmt: skip


@pytest.fixture
def listed(tmp_path) -> Path:
    for name in (*LISTED, "more/unlisted.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    rows = "".join(f"{name},x,{split}\n" for name, split in LISTED.items())
    (tmp_path / "MANIFEST.csv").write_text(f"file,set,split\n{rows}")
    return tmp_path


def found(*folders: Path, validation: bool) -> list[str]:
    """The last two parts of the paths."""
    return ["/".join(path.parts[-2:]) for path in data.find_pictures(list(folders), validation=validation)]


def test_a_picture_is_held_out_by_its_path_not_by_its_name(listed):
    """Two folders have an a.png and a b.png; of each one trains and the other validates."""
    assert found(listed / "train", validation=False) == ["one/a.png", "two/b.png"]
    assert found(listed / "train", validation=True) == ["one/b.png", "two/a.png"]


def test_every_kind_of_validation_and_every_test_set_stays_out_of_training(listed):
    assert found(listed / "more", validation=False) == ["more/f.png", "more/g.png", "more/unlisted.png"]
    assert found(listed / "more", validation=True) == ["more/c.png"]
    # A folder that is given twice, or within another one, is read once.
    assert found(listed / "train", listed / "train" / "one", validation=False) == ["one/a.png", "two/b.png"]


def test_the_manifest_is_found_however_a_folder_is_named(listed, tmp_path, monkeypatch):
    wanted = ["one/b.png", "two/a.png"]
    monkeypatch.chdir(listed / "train")
    assert found(Path("."), validation=False) == ["one/a.png", "two/b.png"]
    assert found(Path("../train/one"), Path("two"), validation=True) == wanted
    monkeypatch.chdir(listed)
    assert found(Path("train"), validation=True) == wanted
    # By a link to the folder, which lies where there is no manifest, and by a link to the picture itself.
    elsewhere = tmp_path.parent / f"{tmp_path.name}-links"
    (elsewhere / "own").mkdir(parents=True)
    (elsewhere / "photographs").symlink_to(listed / "train", target_is_directory=True)
    assert found(elsewhere / "photographs", validation=True) == wanted
    (listed / "linked").mkdir()
    (listed / "linked" / "new.png").symlink_to(listed / "train" / "two" / "a.png")
    (listed / "linked" / "own.png").write_bytes(b"")
    assert found(listed / "linked", validation=False) == ["linked/own.png"]


def test_without_a_manifest_all_train_and_a_wrong_one_is_said(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    assert (
        found(tmp_path, validation=False) == [f"{tmp_path.name}/a.png"]
        and found(tmp_path, validation=True) == []
    )
    with pytest.raises(ValueError, match="no training pictures"):
        data.find_pictures([tmp_path / "nowhere"], validation=False)
    (tmp_path / "MANIFEST.csv").write_text("name,split\na.png,val\n")
    with pytest.raises(ValueError, match="MANIFEST.csv has no column file"):
        data.find_pictures([tmp_path], validation=False)


def shown() -> np.ndarray:
    """A picture as it is to be seen: red left above, blue right below."""
    array = np.full((140, 200, 3), 128, np.uint8)
    array[:70, :100], array[70:, 100:] = (250, 0, 0), (0, 0, 250)
    return array


UNDO = {
    1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}  # fmt: skip
"""How a camera that notes this orientation has stored what is to be seen."""


@pytest.mark.parametrize("orientation", list(UNDO))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_photographs_and_pairs_are_turned_as_the_camera_says(tmp_path, orientation, suffix):
    stored = Image.fromarray(shown())
    stored = stored if UNDO[orientation] is None else stored.transpose(UNDO[orientation])
    exif = Image.Exif()
    exif[pictures.EXIF_ORIENTATION] = orientation
    for side in ("lq", "gt"):
        (tmp_path / side).mkdir()
        stored.save(
            tmp_path / side / f"a{suffix}",
            exif=exif,
            **({"quality": 100} if suffix in (".jpg", ".webp") else {}),
        )
    path = tmp_path / "gt" / f"a{suffix}"
    assert pictures.size(path) == (200, 140)
    pairs = own_pictures.load(own_pictures.find(tmp_path), 0).pairs
    for read in (data.load([path]).pictures[0], pairs.lq.pictures[0], pairs.gt.pictures[0]):
        assert read.shape == (3, 140, 200) and read.dtype == torch.uint8
        corners = [read[:, 20, 20], read[:, 120, 180], read[:, 20, 180]]
        for corner, wanted in zip(corners, ((250, 0, 0), (0, 0, 250), (128, 128, 128)), strict=True):
            assert (corner.int() - torch.tensor(wanted)).abs().max() <= 6


def test_sixteen_bits_are_rounded_to_eight(tmp_path):
    ramp = np.linspace(0, 65535, 140 * 200).reshape(140, 200).round().astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    read = data.load([tmp_path / "ramp.png"]).pictures[0]
    assert torch.equal(read[0], read[1]) and torch.equal(read[0], read[2])
    assert np.abs(read[0].numpy() - ramp / 257).max() <= 0.5


@pytest.mark.parametrize(
    "read",
    [lambda path: data.load([path]), lambda path: own_pictures.load([(path, None)], 0)],
    ids=["data", "own"],
)
def test_what_cannot_be_read_is_named(tmp_path, read):
    Image.fromarray(shown()).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:200])
    (tmp_path / "text.jpg").write_text("no picture")
    Image.fromarray(np.full((140, 200), 300, np.float32)).save(tmp_path / "float.tif")
    for name, words in {
        "cut.png": "cut off|can be read",
        "text.jpg": "no picture|not a picture",
        "float.tif": "white",
    }.items():
        with pytest.raises(ValueError, match=f"{name} .*({words})"):
            read(tmp_path / name)


def test_small_photographs_are_left_out(tmp_path):
    Image.fromarray(shown()).resize((127, 300)).save(tmp_path / "small.png")
    Image.fromarray(shown()).save(tmp_path / "large.png")
    assert data.load([tmp_path / "large.png", tmp_path / "small.png"]).names == ("large.png",)


def test_the_pictures_of_this_project_are_split_as_its_manifest_says():
    folder = Path(__file__).resolve().parents[3] / "shared" / "data"
    if not (folder / "MANIFEST.csv").is_file():
        pytest.skip("needs the project's photographs beside the repository")
    split_of = data.splits(folder / "MANIFEST.csv")
    for validation in (False, True):
        files = data.find_pictures([folder / "train", folder / "train_more"], validation=validation)
        assert {split_of[path.resolve()] for path in files} == ({"val", "val2"} if validation else {"train"})
