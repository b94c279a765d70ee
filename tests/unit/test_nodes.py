"""The nodes as ComfyUI sees them: their ids, inputs and outputs never change; and what they return."""

import asyncio
from pathlib import Path

import pytest
import torch
from aior_pack.tests.tiny import picture

pytestmark = pytest.mark.usefixtures("host")

PAGES = Path(__file__).resolve().parents[2] / "web" / "docs"
KINDS = ("noise", "blur", "low_resolution", "rain", "snow", "haze", "low_light", "jpeg")
SCHEMAS = {
    "AIOR_LoadCompact": (["file"], ["MODEL", "VAE", "AIOR_RESTORER"]),
    "AIOR_LoadRestorer": (["file"], ["AIOR_RESTORER"]),
    "AIOR_EncodePrior": (["restorer", "vae", "image", "tile", "smooth"], ["AIOR_PRIOR", "LATENT", "STRING"]),
    "AIOR_ApplyDAFF": (
        [
            "model",
            "restorer",
            "prior",
            "positive",
            "negative",
            "strength",
            "start_percent",
            "end_percent",
            "clip",
        ],
        ["MODEL", "CONDITIONING", "CONDITIONING"],
    ),
    "AIOR_DAFFSampler": (
        [
            "model",
            "restorer",
            "prior",
            "positive",
            "negative",
            "latent",
            "seed",
            "steps",
            "cfg",
            "sampler_name",
            "scheduler",
            "start_point",
            "denoise",
            "fidelity",
            "strength",
            "tile",
            "noise",
            "clip",
            "vae",
        ],
        ["LATENT"],
    ),
    "AIOR_DecodeDAEM": (
        ["samples", "vae", "restorer", "prior", "strength", "tile", "color_fix", "ensemble"],
        ["IMAGE"],
    ),
    "AIOR_PriorFromBatch": (["prior", "batch_index", "length"], ["AIOR_PRIOR"]),
    "AIOR_PriorReport": (["prior"], ["STRING", "IMAGE", "IMAGE", "MASK"]),
    "AIOR_SteerPrior": (["prior", *KINDS], ["AIOR_PRIOR"]),
    "AIOR_Inspect": (
        [
            "model",
            "vae",
            "restorer",
            "prior",
            "positive",
            "negative",
            "seed",
            "steps",
            "cfg",
            "strength",
            "clip",
        ],
        ["STRING", "IMAGE", "IMAGE", "IMAGE"],
    ),
    "AIOR_TrainRestorer": (
        [
            "model",
            "vae",
            "restorer",
            "folder",
            "stage",
            "minutes",
            "learning_rate",
            "seed",
            *KINDS,
            "damaged",
            "clean",
        ],
        ["AIOR_RESTORER", "IMAGE", "STRING"],
    ),
    "AIOR_SaveRestorer": (["restorer", "filename_prefix"], []),
}


@pytest.fixture(scope="module")
def nodes():
    from aior_pack import comfy_entrypoint

    async def load():
        return await (await comfy_entrypoint()).get_node_list()

    return {node.GET_SCHEMA().node_id: node for node in asyncio.run(load())}


@pytest.mark.parametrize("node_id", SCHEMAS)
def test_ids_inputs_and_outputs(nodes, node_id):
    schema = nodes[node_id].GET_SCHEMA()
    inputs, outputs = SCHEMAS[node_id]
    assert [i.id for i in schema.inputs] == inputs
    assert [o.io_type for o in schema.outputs] == outputs
    assert schema.category == "image/restoration"


def test_everything_is_explained(nodes):
    for node_id, node in nodes.items():
        schema = node.GET_SCHEMA()
        assert (
            node_id.startswith("AIOR_")
            and schema.description
            and schema.search_aliases
            and schema.display_name
        )
        for part in [*schema.inputs, *schema.outputs]:
            assert part.tooltip, f"{node_id}: {part.id or part.display_name} has no tooltip"
        assert (PAGES / f"{node_id}.md").read_text(encoding="utf-8").startswith(f"# {schema.display_name}\n")


def test_the_walk_through_the_nodes(nodes, tiny_file):
    import folder_paths
    from aior_pack.aior_core.host.folders import FOLDER, weight_files

    folder_paths.add_model_folder_path(FOLDER, str(tiny_file.parent))
    assert tiny_file.name in weight_files()
    assert not any("-00002-of-" in name for name in weight_files())
    load = nodes["AIOR_LoadCompact"]
    assert load.fingerprint_inputs(file=tiny_file.name) == load.fingerprint_inputs(file=tiny_file.name) != ""
    model, vae, restorer = load.execute(file=tiny_file.name).result
    prior, latent, report = nodes["AIOR_EncodePrior"].execute(restorer, vae, picture(50, 70)).result
    assert latent["samples"].shape == (1, 16, 7, 9) and "severity" in report
    patched = (
        nodes["AIOR_ApplyDAFF"]
        .execute(model, restorer, prior, strength=1.0, start_percent=0.0, end_percent=1.0)
        .result
    )
    assert len(patched) == 3 and patched[0] is not model
    options = {
        "seed": 1,
        "steps": 2,
        "cfg": 1.0,
        "sampler_name": "euler",
        "scheduler": "simple",
        "start_point": "noise",
    }
    options |= {"denoise": 1.0, "fidelity": 0.2, "strength": 1.0, "tile": 0}
    (out,) = nodes["AIOR_DAFFSampler"].execute(model=model, restorer=restorer, prior=prior, **options).result
    (image,) = (
        nodes["AIOR_DecodeDAEM"]
        .execute(out, vae, restorer, prior, strength=1.0, tile=0, color_fix="wavelet")
        .result
    )
    assert image.shape == (1, 50, 70, 3) and torch.isfinite(image).all()
    reported = nodes["AIOR_PriorReport"].execute(prior)
    assert [type(x) for x in reported.result] == [str, torch.Tensor, torch.Tensor, torch.Tensor]
    assert reported.ui.as_dict()["text"] == (reported.result[0],)
    looked = nodes["AIOR_Inspect"].execute(
        model, vae, restorer, prior, seed=1, steps=2, cfg=1.0, strength=1.0
    )
    assert [type(x) for x in looked.result] == [
        str,
        torch.Tensor,
        torch.Tensor,
        torch.Tensor,
    ] and looked.result[3].shape == image.shape
    assert looked.ui.as_dict()["text"] == (looked.result[0],)
    assert nodes["AIOR_LoadRestorer"].execute(file=tiny_file.name).result[0].config == restorer.config


def test_an_absent_file_is_named(nodes):
    assert nodes["AIOR_LoadCompact"].fingerprint_inputs(file="absent.safetensors") == ""
    with pytest.raises(FileNotFoundError, match="absent.safetensors"):
        nodes["AIOR_LoadCompact"].execute(file="absent.safetensors")


def test_any_part_of_a_file_in_several_that_changes_is_seen(nodes, tiny_file, tmp_path, monkeypatch):
    import os
    import shutil

    import folder_paths
    from aior_pack.aior_core.host.folders import FOLDER

    for part in tiny_file.parent.glob("tiny-*"):
        shutil.copy2(part, tmp_path)
    parts = sorted(tmp_path.glob("tiny-*"))
    monkeypatch.setitem(
        folder_paths.folder_names_and_paths,
        FOLDER,
        ([str(tmp_path)], folder_paths.folder_names_and_paths[FOLDER][1]),
    )
    folder_paths.filename_list_cache.pop(FOLDER, None)
    seen = [nodes["AIOR_LoadRestorer"].fingerprint_inputs(file=parts[0].name)]
    for number, part in enumerate(parts):
        os.utime(part, ns=(0, 10**9 + number))
        seen.append(nodes["AIOR_LoadRestorer"].fingerprint_inputs(file=parts[0].name))
    parts[-1].unlink()
    seen.append(nodes["AIOR_LoadRestorer"].fingerprint_inputs(file=parts[0].name))
    assert len(parts) > 1 and len(set(seen)) == len(parts) + 2 and "" not in seen
