"""Randomly damaged weight files, 60 or with --stress 2,000, through the loaders in a process of their own."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from aior_pack.aior_core.weights import load_checkpoint, load_weights
from aior_pack.tests.mutated_file import draft
from aior_pack.tests.mutated_pickles import Payload
from aior_pack.tests.tiny import TINY, compact_state, restorer_state
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parents[2]
SAMPLE, ALL, EACH = 60, 2000, 500
"""Number of mutations. A process takes `EACH` of them, so that remains in memory affect few."""
MOST_BYTES = 2 * 2**30
SECONDS = 1800


def run(folder: Path, first: int, last: int) -> tuple[dict[int, dict], dict[int, dict], str]:
    """Run mutations `first` to `last` in new processes: what began, what ended, and the output at a crash."""
    begun: dict[int, dict] = {}
    ended: dict[int, dict] = {}
    printed = ""
    while first < last:
        place = folder / str(first)
        place.mkdir(parents=True)
        command = [
            sys.executable,
            "-P",
            str(ROOT / "tests" / "load_mutated.py"),
            str(place),
            str(first),
            str(min(first + EACH, last)),
        ]
        process = subprocess.run(
            command, cwd=ROOT / "tests", env=_environment(), capture_output=True, text=True, timeout=SECONDS
        )
        lines = (
            [json.loads(line) for line in (place / "report.jsonl").read_text().splitlines()]
            if (place / "report.jsonl").exists()
            else []
        )
        begun |= {line["begin"]: line for line in lines if "begin" in line}
        ended |= {line["end"]: line for line in lines if "end" in line}
        assert lines, process.stderr[-3000:]
        if process.returncode:
            printed += process.stderr[-3000:]
        first = max(begun) + 1
    return begun, ended, printed


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT / "tests"), "OMP_NUM_THREADS": "1"}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is watched through /proc")
def test_no_mutated_file_crashes_fills_the_memory_or_runs(tmp_path, stress, tiny_file):
    count = ALL if stress else SAMPLE
    begun, ended, printed = run(tmp_path, 0, count)
    crashed = [begun[number] for number in begun if number not in ended]
    assert not crashed, f"{crashed}\n{printed}"
    assert len(ended) == count
    named = [
        f"{begun[number]['loader']} {begun[number]['what']}: {line}"
        for number, line in ended.items()
        if _bad(line)
    ]
    assert not named, "\n".join(named)
    outcomes = [line["outcome"] for line in ended.values()]
    # Neither loaders that take everything nor ones that refuse everything pass.
    assert 0.05 * count < outcomes.count("loaded") < 0.5 * count


def _bad(line: dict) -> bool:
    return line["bytes"] > MOST_BYTES or not (
        line["outcome"] == "loaded" or line["outcome"].startswith("refused: ")
    )


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.bfloat16, torch.float64])
def test_other_float_dtypes_load_and_are_what_they_say(host, tmp_path, dtype):
    from aior_pack.aior_core.host.compact_model import load_compact
    from aior_pack.aior_core.host.restorer_file import write_restorer
    from aior_pack.aior_core.weights import describe

    state = {key: value.to(dtype) for key, value in compact_state().items()}
    save_file(state, tmp_path / "stored.safetensors", metadata=describe(TINY))
    model, vae, restorer = load_compact(tmp_path / "stored.safetensors")
    networks = {"unet": model.model.diffusion_model, "vae": vae.first_stage_model, **restorer.networks()}
    for name, network in networks.items():
        for key, value in network.state_dict().items():
            assert torch.equal(value.double(), state[f"{name}.{key}"].to(value.dtype).double()), key
    again, _ = load_weights(write_restorer(restorer, tmp_path / "again"))
    assert all(
        torch.equal(value.double(), state[key].to(torch.float32).double()) for key, value in again.items()
    )


def test_a_small_file_that_claims_to_be_an_sdxl_unet_gets_no_memory(host, tmp_path, monkeypatch):
    """All names of SDXL's UNet, and the few shapes that it is told by."""
    import comfy.sd
    import comfy.utils
    from aior_pack.aior_core.host.unet_file import load_unet
    from aior_pack.tests.unit.test_published import NARROW, filled, unildiff

    config = {"num_res_blocks": [2, 2, 2], "channel_mult": [1, 2, 4], "transformer_depth": [0, 0, 2, 2, 10,
    10], "transformer_depth_middle": 10,
              "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10]}  # fmt: skip
    names = {
        theirs: ours
        for theirs, ours in comfy.utils.unet_to_diffusers(config).items()
        if not theirs.startswith("class_embedding")
    }
    shapes = {
        "conv_in.weight": (320, 4, 3, 3),
        "add_embedding.linear_1.weight": (1280, 2816),
        "conv_out.weight": (4, 320, 3, 3),
    }
    unet = {}
    for theirs in names:
        width = 320 if "blocks.0" in theirs else 640 if "blocks.1" in theirs else 1280
        told = {
            "attn2.to_k.weight": (width, 2048),
            "proj_in.weight": (1, 1),
            "conv2.weight": (width, 1, 1, 1),
        }
        shape = next((value for end, value in told.items() if theirs.endswith(end)), (1,))
        unet[theirs] = torch.ones(shapes.get(theirs, shape), dtype=torch.float8_e4m3fn)
    save_file(filled(unildiff(NARROW), torch.float16) | unet, tmp_path / "liar.safetensors")
    monkeypatch.setattr(
        comfy.sd, "load_diffusion_model_state_dict", lambda *_: pytest.fail("the host was to build it")
    )
    with pytest.raises(ValueError, match="liar.safetensors is not whole"):
        load_unet(tmp_path / "liar.safetensors")


def test_a_pickle_that_only_wants_memory_gets_none(tmp_path):
    state = restorer_state(TINY.restorer)
    torch.save(state | {"x": Payload(bytearray, 2**40)}, tmp_path / "bomb.bin")
    with pytest.raises(ValueError, match="bomb.bin cannot be read safely: it asks for .*bytearray"):
        load_checkpoint(tmp_path / "bomb.bin")
    torch.save(state | {"x": torch.ones(1).expand(10**6, 10**6)}, tmp_path / "wide.bin")
    with pytest.raises(ValueError, match=r"wide.bin has \d+ bytes, but its tensors would take 4\d{12}"):
        load_checkpoint(tmp_path / "wide.bin")


def test_a_compressed_archive_and_an_old_pickle_are_refused(tmp_path):
    buffer = io.BytesIO()
    torch.save({"x": torch.zeros(10**6)}, buffer)
    with (
        zipfile.ZipFile(buffer) as old,
        zipfile.ZipFile(tmp_path / "packed.bin", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
    with pytest.raises(ValueError, match="packed.bin cannot be read safely: .* is compressed"):
        load_checkpoint(tmp_path / "packed.bin")
    (tmp_path / "old.pth").write_bytes(pickle.dumps({"x": 1}))
    with pytest.raises(ValueError, match="old.pth cannot be read safely: it is no zip archive"):
        load_checkpoint(tmp_path / "old.pth")


@pytest.mark.parametrize(
    "changed, sentence",
    [
        ({"settings": "[" * 100_000}, "'settings' of these weights is no JSON"),
        ({"settings": "[1]"}, "'settings' of these weights is a list"),
        ({"settings": '{"daem.pools": [4, 2, 1, 3]}'}, "DAEM pools level 3 by 3"),
        ({"settings": '{"daem.top_k": 5}'}, "DAEM chooses 5 of 4 experts"),
        (
            {"settings": '{"daem.top_k": true}'},
            "daem.top_k of these weights is True; expected a whole number",
        ),
        (
            {"settings": '{"daem.dilations": [1, 1, 1, 1000000]}'},
            "daem.dilations of these weights is 1000000",
        ),
        ({"settings": '{"unet.head_channels": Infinity}'}, "unet.head_channels of these weights is inf"),
        (
            {"settings": '{"daff.mode": "fast"}'},
            "daff.mode of these weights is 'fast'; expected paper or official",
        ),
        ({"family": "sdxl"}, "family sdxl, of a compact model compact"),
        ({"family": "huge"}, "family of these weights is 'huge'"),
        ({"latent_rgb": "[[1, 2, NaN]]"}, "'latent_rgb' of these weights is not 17 rows of three numbers"),
    ],
)
def test_metadata_that_is_none_is_named(host, tmp_path, changed, sentence):
    from aior_pack.aior_core.host.compact_model import load_compact
    from aior_pack.aior_core.weights import describe

    (tmp_path / "told.safetensors").write_bytes(draft(compact_state(), describe(TINY) | changed).bytes())
    with pytest.raises(ValueError, match=sentence):
        load_compact(tmp_path / "told.safetensors")


def test_parts_of_two_models_are_refused(host, tmp_path):
    """Each part fits a network by itself; what comes out of one does not go into the other."""
    from aior_pack.aior_core.host.restorer import load_restorer

    wide = dataclasses.replace(TINY.restorer.daff, condition_width=32)
    state = restorer_state(TINY.restorer) | {
        k: v
        for k, v in restorer_state(dataclasses.replace(TINY.restorer, daff=wide)).items()
        if k.startswith("daff.")
    }
    save_file(state, tmp_path / "mixed.safetensors")
    with pytest.raises(ValueError, match="channels of the LQ encoder 24, of DAFF's condition 32"):
        load_restorer(tmp_path / "mixed.safetensors")


def test_weights_that_are_no_numbers_are_named(host, tmp_path):
    from aior_pack.aior_core.host.restorer import load_restorer

    state = restorer_state(TINY.restorer)
    state["daff.spatial_ch_projs.bias"][3] = float("nan")
    save_file(state, tmp_path / "broken.safetensors")
    with pytest.raises(
        ValueError, match="broken.safetensors has NaN or infinite weights in daff.spatial_ch_projs.bias"
    ):
        load_restorer(tmp_path / "broken.safetensors")
    save_file(
        restorer_state(TINY.restorer) | {"prior.head.local.bias": torch.ones(8, dtype=torch.int32)},
        tmp_path / "ints.safetensors",
    )
    with pytest.raises(
        ValueError,
        match=r"ints.safetensors holds tensors of another kind than weights are: "
        r"prior.head.local.bias \(int32\)",
    ):
        load_restorer(tmp_path / "ints.safetensors")


def test_shard_names_that_cannot_be(tmp_path):
    for name in ("x-00003-of-00002.safetensors", "x-00001-of-99999.safetensors"):
        save_file({"prior.x": torch.ones(1)}, tmp_path / name)
        with pytest.raises(ValueError, match="numbered from 1 to their count, at most 1000"):
            load_weights(tmp_path / name)
    save_file({"prior.x": torch.ones(1)}, tmp_path / "y-00001-of-00999.safetensors")
    with pytest.raises(FileNotFoundError, match=r"998 of 999 missing.* and 990 more") as caught:
        load_weights(tmp_path / "y-00001-of-00999.safetensors")
    assert len(str(caught.value)) < 1000
    for index in (1, 2):
        save_file(
            {"prior.x": torch.ones(1)},
            tmp_path / f"z-0000{index}-of-00002.safetensors",
            metadata={"set": "a"},
        )
    with pytest.raises(ValueError, match="z-00002-of-00002.safetensors holds prior.x once more"):
        load_weights(tmp_path / "z-00001-of-00002.safetensors")
