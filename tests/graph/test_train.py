"""Train, save, load and use a restorer through the server; and what is said when the pictures are wrong."""

from __future__ import annotations

import json
import re
import threading
import time

import numpy
import pytest
from aior_pack.tests.graph.conftest import Graph
from aior_pack.tests.graph.walk import SAMPLER, photograph
from PIL import Image

from scripts.client import PromptError

KINDS = ("noise", "blur", "low_resolution", "rain", "snow", "haze", "low_light", "jpeg")
TRAIN = {"stage": "detail", "minutes": 0.05, "learning_rate": 5.0, "seed": 3, **dict.fromkeys(KINDS, True)}


@pytest.fixture(scope="module")
def pairs(server):
    """A folder of pairs in the server's input folder."""
    for seed in range(3):
        picture = photograph(140, 150, seed=seed)
        for side, shown in (("gt", picture), ("lq", 0.3 + 0.5 * picture)):
            folder = server.folder / "input" / "scans" / side
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(numpy.rint(255 * shown).astype(numpy.uint8)).save(folder / f"{seed}.png")
    return "scans"


def train(graph, weights, folder, **options):
    compact = graph.add("AIOR_LoadCompact", file=weights)
    model, vae, restorer = (compact.out(slot) for slot in range(3))
    return compact, graph.add(
        "AIOR_TrainRestorer",
        model=model,
        vae=vae,
        restorer=restorer,
        folder=str(folder),
        **{**TRAIN, **options},
    )


def restore(graph, compact, restorer, image):
    model, vae = compact.out(0), compact.out(1)
    prior = graph.add("AIOR_EncodePrior", restorer=restorer, vae=vae, image=image, tile=0)
    sampled = graph.add("AIOR_DAFFSampler", model=model, restorer=restorer, prior=prior.out(0), **SAMPLER)
    options = {"strength": 1.0, "tile": 0, "color_fix": "none"}
    decoded = graph.add(
        "AIOR_DecodeDAEM", samples=sampled.out(0), vae=vae, restorer=restorer, prior=prior.out(0), **options
    )
    return graph.add("SaveImage", images=decoded.out(0), filename_prefix="train")


def test_a_trained_restorer_is_saved_loaded_and_gives_the_same_picture(comfy, graph, weights, pairs):
    name, truth = comfy.upload_array(0.3 + 0.5 * photograph(96, 104)), comfy.upload_array(photograph(96, 104))
    watched = {
        "damaged": graph.add("LoadImage", image=name).out(0),
        "clean": graph.add("LoadImage", image=truth).out(0),
    }
    compact, trained = train(graph, weights, pairs, **watched)
    shown = graph.add("SaveImage", images=trained.out(1), filename_prefix="loss")
    summary = graph.add("PreviewAny", source=trained.out(2))
    saved = graph.add("AIOR_SaveRestorer", restorer=trained.out(0), filename_prefix="restorers/mine")
    restored = restore(graph, compact, trained.out(0), graph.add("LoadImage", image=name).out(0))
    stock = restore(graph, compact, compact.out(2), graph.add("LoadImage", image=name).out(0))
    result = comfy.run(graph.prompt)
    assert (
        "3 pairs" in result.items("text", summary.id)[0]
        and "dB as it came" in result.items("text", summary.id)[0]
    )
    assert comfy.pictures(result, shown)[0].shape == (512, 768, 3)
    assert result.previews, "no preview of the picture being repaired"
    (file,) = (comfy.server.folder / "output" / "restorers").glob("mine_*.safetensors")
    assert file.name in result.items("text", saved.id)[0]
    once, before = comfy.pictures(result, restored)[0], comfy.pictures(result, stock)[0]
    assert not numpy.array_equal(once, before)

    second = Graph()
    compact = second.add("AIOR_LoadCompact", file=weights)
    loaded = second.add("AIOR_LoadRestorer", file=file.name)
    again = restore(second, compact, loaded.out(0), second.add("LoadImage", image=name).out(0))
    assert numpy.array_equal(comfy.pictures(comfy.run(second.prompt), again)[0], once)


def test_cancel_keeps_what_was_learnt(comfy, weights, pairs):
    def prompt(minutes: float) -> tuple[dict, str]:
        graph = Graph()
        _, trained = train(graph, weights, pairs, minutes=minutes, seed=4)
        summary = graph.add("PreviewAny", source=trained.out(2))
        graph.add("AIOR_SaveRestorer", restorer=trained.out(0), filename_prefix="restorers/kept")
        return graph.prompt, summary.id

    restorers, runs = (comfy.server.folder / "output" / name for name in ("restorers", "aior_training"))
    before = set(runs.glob("*/curve.json"))

    def cancel() -> None:
        # The curve is written when the first picture has been shown; some steps follow.
        deadline = time.monotonic() + 60
        while not set(runs.glob("*/curve.json")) - before and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(2)
        comfy.interrupt()

    threading.Thread(target=cancel).start()
    with pytest.raises(PromptError) as caught:
        comfy.run(prompt(30.0)[0])
    assert caught.value.kind == "interrupted"
    (unfinished,) = restorers.glob("unfinished-detail-*.safetensors")
    assert not list(restorers.glob("kept_*"))
    assert (
        unfinished.name
        in comfy.json("/object_info/AIOR_LoadRestorer")["AIOR_LoadRestorer"]["input"]["required"]["file"][1][
            "options"
        ]
    )
    (curve,) = set(runs.glob("*/curve.json")) - before
    losses = json.loads(curve.read_text())["losses"]
    spent = losses[-1][0]
    # Time for the first look and some more steps, however slow a busy machine makes them.
    longer, summary = prompt((spent + 20 + 4 * spent / len(losses)) / 60)
    text = comfy.run(longer).items("text", summary)[0]
    assert int(re.search(r"(\d+) steps", text)[1]) > len(losses) and list(restorers.glob("kept_*"))


@pytest.mark.parametrize(
    "name, words",
    [
        ("empty", "no pictures in .*empty"),
        ("odd", r"no partner: lq/a, gt/b"),
        ("absent", "no folder .*absent"),
    ],
)
def test_wrong_folders_are_named(comfy, graph, server, weights, name, words):
    folder = server.folder / "input" / name
    if name != "absent":
        folder.mkdir(exist_ok=True)
    if name == "odd":
        for path in (folder / "lq" / "a.png", folder / "gt" / "b.png"):
            path.parent.mkdir(exist_ok=True)
            Image.new("RGB", (130, 130)).save(path)
    _, trained = train(graph, weights, name)
    graph.add("AIOR_SaveRestorer", restorer=trained.out(0), filename_prefix="restorers/none")
    text = str(comfy.error(graph.prompt))
    assert "Train AIOR Restorer" in text and re.search(words, text), text
