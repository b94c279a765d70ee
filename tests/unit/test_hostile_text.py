"""Text that a prompt brings: names of files, and recipes.

Text that leads out of a folder, asks for all memory, or is no recipe at all is refused with a sentence.
"""

from __future__ import annotations

import json
import os

import pytest
import torch
from aior_pack.aior_core.degradations import KINDS, Recipe, apply_recipe, preset_recipe


@pytest.fixture
def places(host, tmp_path, monkeypatch):
    """Make ComfyUI's folders below `tmp_path`, and a weights file outside of them."""
    import folder_paths
    from aior_pack.aior_core.host import folders

    for name in ("output", "input", "models"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(folder_paths, "get_output_directory", lambda: str(tmp_path / "output"))
    monkeypatch.setattr(folder_paths, "get_input_directory", lambda: str(tmp_path / "input"))
    monkeypatch.setitem(
        folder_paths.folder_names_and_paths, folders.FOLDER, ([str(tmp_path / "models")], folders.EXTENSIONS)
    )
    (tmp_path / "secret.safetensors").write_bytes(b"secret")
    return tmp_path


OUTSIDE = (
    "../secret.safetensors",
    "/etc/passwd",
    "a/../../secret.safetensors",
    "..\\secret.safetensors",
    "C:\\secret.safetensors",
    "\\\\server\\share\\x",
)
NO_NAMES = ("", "  ", "a\0b", "a\nb", "\x1b[2J", None, 3, ["x"])


@pytest.mark.parametrize("name", [*OUTSIDE, *NO_NAMES])
def test_names_of_weights_that_lead_out_are_refused(places, name):
    from aior_pack.aior_core.host.folders import fingerprint, weight_path

    with pytest.raises(
        ValueError, match="leads out of the folders for AIOR weights|is no name of a file"
    ) as caught:
        weight_path(name)
    assert len(str(caught.value)) < 400
    assert fingerprint(name) == ""


def test_a_link_out_of_the_folders_is_refused_and_one_within_is_not(places):
    from aior_pack.aior_core.host.folders import weight_path

    models = places / "models"
    (models / "real.safetensors").write_bytes(b"x")
    os.symlink("real.safetensors", models / "alias.safetensors")
    assert weight_path("alias.safetensors") == str(models / "alias.safetensors")
    os.symlink(places / "secret.safetensors", models / "out.safetensors")
    with pytest.raises(
        ValueError, match=r"out.safetensors is a link to a file outside .*extra_model_paths.yaml"
    ):
        weight_path("out.safetensors")
    (models / "s-00001-of-00002.safetensors").write_bytes(b"x")
    os.symlink(places / "secret.safetensors", models / "s-00002-of-00002.safetensors")
    with pytest.raises(ValueError, match="s-00002-of-00002.safetensors is a link"):
        weight_path("s-00001-of-00002.safetensors")
    os.symlink(places, models / "folder")
    with pytest.raises(ValueError, match="is a link"):
        weight_path("folder/secret.safetensors")


def test_a_folder_of_weights_may_be_a_link_itself(places, monkeypatch):
    import folder_paths
    from aior_pack.aior_core.host import folders

    os.symlink(places / "models", places / "elsewhere")
    (places / "models" / "real.safetensors").write_bytes(b"x")
    monkeypatch.setitem(
        folder_paths.folder_names_and_paths, folders.FOLDER, ([str(places / "elsewhere")], folders.EXTENSIONS)
    )
    assert folders.weight_path("real.safetensors").endswith("real.safetensors")


@pytest.mark.parametrize(
    "prefix", [*OUTSIDE, *NO_NAMES, ".", "..", "restorers/", "a/..", "x" * 300, "taken/file", "link/file"]
)
def test_prefixes_that_lead_out_are_refused_and_leave_nothing(places, prefix):
    from aior_pack.aior_core.host.folders import saving_place

    (places / "output" / "taken").write_bytes(b"a file")
    os.symlink(places / "input", places / "output" / "link")
    before = sorted(places.rglob("*"))
    with pytest.raises(ValueError) as caught:
        saving_place(prefix)
    assert len(str(caught.value)) < 500 and str(caught.value).endswith(".")
    assert sorted(places.rglob("*")) == before


def test_prefixes_below_the_output_folder_are_taken(places):
    from aior_pack.aior_core.host.folders import saving_place

    assert saving_place("restorers/mine") == places / "output" / "restorers" / "mine_00001_"
    (places / "output" / "restorers" / "mine_00007_.safetensors").write_bytes(b"x")
    assert saving_place("restorers/mine") == places / "output" / "restorers" / "mine_00008_"
    assert saving_place("a b/c..d").parent == places / "output" / "a b"


@pytest.mark.parametrize(
    "name", ["../models", "a/../../models", "~nobody_of_this_name/x", "x" * 5000, "a\0b", ""]
)
def test_training_folders_that_lead_out_of_the_input_folder_are_refused(places, name):
    from aior_pack.aior_core.host.folders import input_folder
    from aior_pack.aior_core.training.finetune import pictures_fingerprint

    with pytest.raises(ValueError):
        input_folder(name)
    assert pictures_fingerprint(name) == ""


def test_training_folders_are_taken_below_the_input_folder_and_by_absolute_path(places):
    from aior_pack.aior_core.host.folders import input_folder

    assert input_folder("photos") == places / "input" / "photos"
    assert input_folder(str(places / "models")) == places / "models"


SOUND = json.loads(preset_recipe("noise", 0.5, 1).to_json())["steps"][0]
HOSTILE = (float("nan"), float("inf"), -1, 1e9, 10**30, "5", None, [], {}, [1, 2, 3, 4], True)


@pytest.mark.parametrize("kind", KINDS)
def test_recipes_with_hostile_numbers_are_refused(kind):
    from aior_pack.aior_core.degradations import of

    step = json.loads(preset_recipe(kind, 0.5, 1).to_json())["steps"][0]
    for name, (low, _) in of(kind).limits.items():
        for value in HOSTILE:
            if value == -1 and low < 0:
                continue
            with pytest.raises(ValueError, match=f"{name} of {kind}|not a recipe"):
                Recipe.from_json(json.dumps({"steps": [{**step, "params": {**step["params"], name: value}}]}))
    out = apply_recipe(torch.zeros(1, 3, 24, 24), Recipe.from_json(json.dumps({"steps": [step]})))
    assert torch.isfinite(out).all()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "3",
        '"x"',
        "{}",
        '{"steps": 3}',
        '{"steps": [3]}',
        '{"steps": [{}]}',
        "[" * 100_000,
        '{"steps": ' + "[" * 100_000,
        *(
            json.dumps({"steps": [{**SOUND, **change}]})
            for change in (
                {"kind": []},
                {"kind": "fog"},
                {"params": []},
                {"params": None},
                {"seed": 1e300},
                {"seed": -1},
                {"seed": "x"},
                {"seed": 2**64},
                {"mask": []},
                {"mask": "half"},
                {"mask": {"kind": "half", "seed": 2**70}},
                {"severity": "1"},
                {"severity": float("nan")},
                {"severity": [0.5]},
                {"more": 1},
                {"params": {**SOUND["params"], "model": "loud"}},
            )
        ),
        json.dumps({"steps": [SOUND] * 65}),
    ],
    ids=lambda text: text[:40],
)
def test_text_that_is_no_recipe_is_refused(text):
    with pytest.raises(ValueError, match="degradations: "):
        Recipe.from_json(text)
