"""Prompts that no user would send: each ends in a correct picture or an error, and the server goes on."""

from __future__ import annotations

import copy
import json
import re
import urllib.error

import pytest
from aior_pack.tests.graph.conftest import Graph
from aior_pack.tests.graph.walk import photograph, said, start

from scripts.client import PromptError

NAN, INFINITY = float("nan"), float("inf")
FLOATS = {
    "AIOR_ApplyDAFF": ("strength", "start_percent", "end_percent"),
    "AIOR_DAFFSampler": ("cfg", "denoise", "fidelity", "strength"),
    "AIOR_DecodeDAEM": ("strength",),
    "AIOR_Inspect": ("cfg", "strength"),
    "AIOR_SteerPrior": ("noise", "haze"),
    "AIOR_Degrade": ("severity",),
    "AIOR_Measure": ("error_gain",),
    "AIOR_TrainRestorer": ("minutes", "learning_rate"),
}
WHOLES = {
    "AIOR_EncodePrior": ("tile",),
    "AIOR_DAFFSampler": ("seed", "steps", "tile"),
    "AIOR_DecodeDAEM": ("tile",),
    "AIOR_Inspect": ("seed", "steps"),
    "AIOR_Degrade": ("seed",),
    "AIOR_Measure": ("border",),
    "AIOR_TrainRestorer": ("seed",),
}
CHOICES = {
    "AIOR_LoadCompact": ("file",),
    "AIOR_DAFFSampler": ("sampler_name", "scheduler", "start_point"),
    "AIOR_DecodeDAEM": ("color_fix",),
    "AIOR_Degrade": ("degradation",),
    "AIOR_Measure": ("channel",),
    "AIOR_TrainRestorer": ("stage",),
}
KINDS = ("noise", "blur", "low_resolution", "rain", "snow", "haze", "low_light", "jpeg")


@pytest.fixture(scope="module")
def everything(comfy, weights):
    """A prompt with every node of the walk in it, sound: 40x32, one step; and the ids by class."""
    graph = Graph()
    walk = start(graph, comfy.upload_array(photograph(32, 40)), weights)
    steered = graph.add("AIOR_SteerPrior", prior=walk.prior, **dict.fromkeys(KINDS, 1.0))
    daff = walk.apply()
    sampled = walk.sampler(steps=1)
    decoded = walk.decode(sampled.out(0))
    damaged = graph.add(
        "AIOR_Degrade", image=walk.image, degradation="noise", severity=0.5, seed=1, recipe=""
    )
    graph.add(
        "AIOR_Measure",
        reference=walk.image,
        image=damaged.out(0),
        border=0,
        channel="rgb",
        perceptual=False,
        error_gain=8.0,
    )
    walk.keep(walk.ksampler(daff, walk.latent, steps=1).out(0))
    graph.add("AIOR_PriorReport", prior=steered.out(0))
    compact = {"model": walk.model, "vae": walk.vae, "restorer": walk.restorer}
    graph.add("AIOR_Inspect", **compact, prior=walk.prior, seed=0, steps=1, cfg=1.0, strength=1.0)
    walk.save(decoded.out(0))
    trained = graph.add(
        "AIOR_TrainRestorer",
        **compact,
        folder="nothing here",
        stage="detail",
        minutes=0.01,
        learning_rate=1.0,
        seed=0,
        **dict.fromkeys(KINDS, True),
    )
    graph.add("AIOR_SaveRestorer", restorer=walk.restorer, filename_prefix="restorers/hostile")
    graph.add("PreviewAny", source=trained.out(2))
    return graph.prompt


def ids(prompt: dict, kind: str) -> str:
    return next(key for key, node in prompt.items() if node["class_type"] == kind)


def alone(prompt: dict, node: str, changes: dict) -> dict:
    """The prompt with changed inputs of a node, reduced to that node, its sources and an output."""
    prompt = copy.deepcopy(prompt)
    prompt[node]["inputs"] |= changes
    wanted, kept = [node], {}
    while wanted:
        key = wanted.pop()
        kept[key] = prompt[key]
        wanted += [
            value[0]
            for value in prompt[key]["inputs"].values()
            if isinstance(value, list)
            and len(value) == 2
            and isinstance(value[0], str)
            and value[0] in prompt
        ]
    if prompt[node]["class_type"] != "AIOR_SaveRestorer":
        kept["show"] = {"class_type": "PreviewAny", "inputs": {"source": [node, 0]}}
    return kept


def test_the_sound_prompt_runs(comfy, everything):
    """So that what follows fails for what was changed, and for nothing else."""
    for kind in {*FLOATS, *WHOLES} - {"AIOR_TrainRestorer"}:
        assert said(comfy, alone(everything, ids(everything, kind), {})) == ""


@pytest.mark.parametrize("kind", sorted(FLOATS))
def test_floats_that_are_none(comfy, everything, kind):
    node = ids(everything, kind)
    for name in FLOATS[kind]:
        for value in (
            NAN,
            INFINITY,
            -INFINITY,
            1e9,
            -1e9,
            "NaN",
            "half",
            None,
            {},
            [],
            [1],
            [[1, 2], 3],
            {"__value__": [1]},
        ):
            assert said(comfy, alone(everything, node, {name: value})), (kind, name, value)


@pytest.mark.parametrize("kind", sorted(WHOLES))
def test_whole_numbers_that_are_none(comfy, everything, kind):
    node = ids(everything, kind)
    for name in WHOLES[kind]:
        huge = (
            ()
            if name == "seed" and kind in ("AIOR_DAFFSampler", "AIOR_Inspect")
            else (10**9,)
            if name != "seed"
            else (10**12,)
        )
        for value in (NAN, INFINITY, *huge, 10**30, -1, "many", "1e3", None, {}, [], [1]):
            assert said(comfy, alone(everything, node, {name: value})), (kind, name, value)


@pytest.mark.parametrize("kind", sorted(CHOICES))
def test_choices_that_are_none(comfy, everything, kind):
    node = ids(everything, kind)
    for name in CHOICES[kind]:
        for value in (
            "nothing",
            "../../x",
            "/etc/passwd",
            "",
            3,
            None,
            True,
            NAN,
            {},
            {"__value__": ["a"]},
            "x" * 5000,
        ):
            if isinstance(value, str) and len(value) > 1000:
                # The host repeats what it refuses.
                assert pytest.raises(PromptError, comfy.run, alone(everything, node, {name: value}))
                continue
            assert said(comfy, alone(everything, node, {name: value})), (kind, name, value)


def test_small_and_odd_tiles_give_the_right_size(comfy, everything, stress):
    decoded = ids(everything, "AIOR_DecodeDAEM")
    for tile in (1, 7, 8, 9, 64, 8192, True, "16", 24.9) if stress else (7, 8192, "16"):
        prompt = copy.deepcopy(everything)
        for kind in ("AIOR_EncodePrior", "AIOR_DAFFSampler", "AIOR_DecodeDAEM"):
            prompt[ids(prompt, kind)]["inputs"]["tile"] = tile
        prompt = alone(prompt, decoded, {})
        prompt["save"] = {
            "class_type": "SaveImage",
            "inputs": {"images": [decoded, 0], "filename_prefix": "tile"},
        }
        (out,) = comfy.pictures(comfy.run(prompt))
        assert out.shape == (32, 40, 3) and out.std() > 0.01


def test_inputs_that_are_missing_or_come_from_the_wrong_place(comfy, everything):
    for kind in sorted({*FLOATS, *WHOLES, *CHOICES, "AIOR_PriorReport", "AIOR_SaveRestorer"}):
        node = ids(everything, kind)
        sound = everything[node]["inputs"]
        for name, value in sound.items():
            prompt = alone(everything, node, {})
            del prompt[node]["inputs"][name]
            text = said(comfy, prompt)
            assert text or name in ("recipe",), (kind, name)
            if isinstance(value, list):
                wrong = ids(everything, "LoadImage")
                # A mask is what none of them takes.
                assert "mismatch" in said(comfy, alone(everything, node, {name: [wrong, 1]})), (kind, name)
                assert said(comfy, alone(everything, node, {name: 3})), (kind, name)
    for link in (["1", 99], ["1", -99], ["no", 0], ["1", "0"], [1, 0], [None, None], [{}, []], ["1", NAN]):
        # What the host makes of links to nowhere is its own; it has to go on.
        prompt = alone(everything, ids(everything, "AIOR_EncodePrior"), {"image": link})
        with pytest.raises((PromptError, urllib.error.HTTPError)):
            comfy.run(prompt)
    assert said(comfy, alone(everything, ids(everything, "AIOR_EncodePrior"), {})) == ""


def through(graph: Graph, kind: str, text: str = "") -> list:
    return graph.add("AIORTest_Anything", kind=kind, text=text).out(0)


def test_values_behind_a_link_that_checks_nothing(comfy, everything, server):
    outside = server.folder / "outside.safetensors"
    outside.write_bytes(b"secret")
    before = {path for path in server.folder.rglob("*")}
    graph = Graph()
    graph.prompt = copy.deepcopy(everything)
    cases = [
        (kind, name, value)
        for kind in FLOATS
        for name in FLOATS[kind]
        for value in (("text", "x"), ("none", ""), ("nan", ""), ("list", "ab"))
    ]
    names = (
        "../outside.safetensors",
        str(outside),
        "..\\outside.safetensors",
        "",
        "\0",
        "x" * 4000,
        "restorers/../../outside",
    )
    for name in names:
        cases += [
            ("AIOR_LoadCompact", "file", ("text", name)),
            ("AIOR_SaveRestorer", "filename_prefix", ("text", name)),
        ]
        if not name.startswith("/"):
            cases += [("AIOR_TrainRestorer", "folder", ("text", name))]
    cases += [
        ("AIOR_LoadCompact", "file", ("none", "")),
        ("AIOR_SaveRestorer", "filename_prefix", ("list", "ab")),
        ("AIOR_TrainRestorer", "folder", ("none", "")),
    ]
    cases += [(kind, name, ("text", "nothing")) for kind in CHOICES for name in CHOICES[kind]]
    cases += [("AIOR_Degrade", "recipe", ("text", "[" * 100_000))]
    for kind, name, value in cases:
        changes = {name: through(graph, *value)} | (
            {"degradation": "from recipe"} if name == "recipe" else {}
        )
        prompt = alone(graph.prompt, ids(everything, kind), changes)
        assert said(comfy, prompt), (kind, name, value[0], value[1][:50])
    assert {path for path in server.folder.rglob("*")} - before <= {server.folder / "output" / "restorers"}


@pytest.mark.parametrize(
    "prefix",
    ["../escaped", "/tmp/escaped", "a/../../escaped", "link/escaped", "..", "x" * 300, "taken/escaped"],
)
def test_a_restorer_is_saved_below_the_output_folder_or_not_at_all(comfy, everything, server, prefix):
    output = server.folder / "output"
    (output / "taken").write_bytes(b"a file")
    if not (output / "link").is_symlink():
        (output / "link").symlink_to(server.folder / "input")
    before = {path for path in server.folder.parent.rglob("*")}
    node = ids(everything, "AIOR_SaveRestorer")
    prompt = alone(everything, node, {"filename_prefix": prefix})
    assert re.search("Save AIOR Restorer: .*(leads out|does not end|can be no file)", said(comfy, prompt))
    assert {path for path in server.folder.parent.rglob("*")} == before


def test_a_link_out_of_the_models_folder(comfy, everything, models_folder, server):
    (server.folder / "outside2.safetensors").write_bytes(b"secret")
    (models_folder / "aior" / "linked.safetensors").symlink_to(server.folder / "outside2.safetensors")
    for kind in ("AIOR_LoadCompact", "AIOR_LoadRestorer", "AIOR_LoadUNet"):
        prompt = {
            "1": {"class_type": kind, "inputs": {"file": "linked.safetensors"}},
            "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}},
        }
        assert "linked.safetensors is a link to a file outside" in said(comfy, prompt)


@pytest.mark.parametrize("body", [
    b"", b"{}", b"[]", b"null", b"{", b'{"prompt": null}', b'{"prompt": []}', b'{"prompt": {"1": 3}}',
    b'{"prompt": {"1": {"class_type": "AIOR_EncodePrior"}}}',
    b'{"prompt": {"1": {"class_type": "AIOR_EncodePrior", "inputs": []}}}',
    b'{"prompt": {"1": {"class_type": 3, "inputs": {}}}}', b"[" * 100_000, b"\xff\xfe\x00",
], ids=lambda body: repr(body[:40]))  # fmt: skip
def test_bodies_that_are_no_prompt(comfy, everything, body):
    with pytest.raises(urllib.error.HTTPError) as caught:
        comfy.request("/prompt", body, {"Content-Type": "application/json"})
    assert caught.value.code >= 400
    assert said(comfy, alone(everything, ids(everything, "AIOR_Degrade"), {})) == ""


def test_no_half_file_is_left(server):
    """After all of the above."""
    left = [path for path in server.folder.rglob("*") if path.name.endswith((".partial", ".part", ".tmp"))]
    assert not left and json.loads((server.folder / "places.yaml").read_text())
