"""Stop: at any moment, within a tile, without a trace. A few times by default, 200 with --stress."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import psutil
from aior_pack.tests.graph.conftest import Graph
from aior_pack.tests.graph.walk import photograph, start
from PIL import Image

from scripts.client import PromptError

SOON = 1.0
"""Seconds within which a stopped prompt has ended: a window of the small model takes a tenth of that."""


def long_prompt(comfy, name: str, weights: str, seed: int, steps: int = 6) -> dict:
    """Tiles in all three stages, some seconds in all."""
    graph = Graph()
    walk = start(graph, name, weights)
    graph.prompt[walk.prior[0]]["inputs"]["tile"] = 128
    walk.save(walk.decode(walk.sampler(seed=seed, steps=steps, tile=128).out(0), tile=128).out(0))
    return graph.prompt


def resident(comfy) -> float:
    """MiB of the server's process."""
    return psutil.Process(comfy.server.process.pid).memory_info().rss / 2**20


def saved(comfy) -> list[Path]:
    """All pictures in the server's output folder, and what is left of half-written ones."""
    return [
        path
        for path in (comfy.server.folder / "output").rglob("walk*")
        if path.is_file() and path.suffix != ".latent"
    ]


def test_interrupts_at_random_moments(comfy, weights, stress):
    moments = random.Random(0)
    name = comfy.upload_array(photograph(192, 256))
    # The first prompt loads the model and takes longer than those that are interrupted.
    comfy.run(long_prompt(comfy, name, weights, seed=0))
    prompt = long_prompt(comfy, name, weights, seed=201)
    prompt["3"]["inputs"]["tile"] = 192
    begun = time.monotonic()
    comfy.run(prompt)
    whole = time.monotonic() - begun
    before, nodes, waits, level = len(saved(comfy)), [], [], resident(comfy)
    finished = 0
    for number in range(200 if stress else 6):
        prompt = long_prompt(comfy, name, weights, seed=1 + number)
        # A change of picture-wide settings runs the encoder again too, every other time.
        prompt["3"]["inputs"]["tile"] = 128 if number % 2 else 192
        asked = []

        def stop():
            asked.append(time.monotonic())
            comfy.interrupt()

        timer = threading.Timer(moments.uniform(0.0, 0.8 * whole), stop)
        timer.start()
        try:
            comfy.run(prompt)
            finished += 1
        except PromptError as error:
            assert error.kind == "interrupted", error
            waits.append(time.monotonic() - asked[0])
            nodes.append(prompt[error.nodes[0]]["class_type"])
        finally:
            timer.join()
    result = comfy.run(long_prompt(comfy, name, weights, seed=999))
    (picture,) = comfy.pictures(result)
    assert picture.shape == (192, 256, 3)
    files = saved(comfy)
    assert len(files) == before + finished + 1
    for path in files:
        with Image.open(path) as image:
            image.load()
    grown = resident(comfy) - level
    print(
        f"{len(waits)} interrupted, {finished} finished first; longest wait {max(waits):.2f} s; in "
        f"{sorted(set(nodes))}; memory {grown:+.0f} MiB"
    )
    assert len(waits) >= 3 and {"AIOR_DAFFSampler", "AIOR_DecodeDAEM"} & set(nodes)
    assert max(waits) < SOON * (5 if not stress else 10)
    assert grown < 100


def test_only_the_seed_changed_encodes_nothing_again(comfy, weights):
    name = comfy.upload_array(photograph(96, 128))
    comfy.run(long_prompt(comfy, name, weights, seed=7, steps=1))
    again = comfy.run(long_prompt(comfy, name, weights, seed=8, steps=1))
    prompt = long_prompt(comfy, name, weights, seed=8)
    assert {prompt[node]["class_type"] for node in again.cached} >= {"AIOR_LoadCompact", "AIOR_EncodePrior"}
    assert {prompt[node]["class_type"] for node in again.executed} >= {"AIOR_DAFFSampler", "AIOR_DecodeDAEM"}


def test_another_weights_file_of_the_same_name_is_loaded_anew(comfy, models_folder):
    folder = models_folder / "aior"
    folder.mkdir(exist_ok=True)
    # In its own set of files: other tests go on using theirs.
    from aior_pack.aior_core.weights import describe, save_weights
    from aior_pack.tests.tiny import TINY, compact_state

    def write(seed: int) -> str:
        return save_weights(folder / "changing", compact_state(TINY, seed), describe(TINY))[0].name

    name = comfy.upload_array(photograph(64, 64))
    first = comfy.pictures(comfy.run(long_prompt(comfy, name, write(1), seed=1, steps=1)))[0]
    second = comfy.pictures(comfy.run(long_prompt(comfy, name, write(2), seed=1, steps=1)))[0]
    assert abs(first - second).max() > 0.02


def test_progress_counts_tiles_and_steps(comfy, weights):
    """More progress events with another value than there are steps: windows and tiles count."""
    seen: dict[str, set] = {}
    prompt = long_prompt(comfy, comfy.upload_array(photograph(192, 256, seed=5)), weights, seed=3, steps=2)

    def note(progress):
        seen.setdefault(prompt[progress.node]["class_type"], set()).add((progress.value, progress.maximum))

    comfy.run(prompt, on_progress=note)
    steps = {maximum for _, maximum in seen["AIOR_DAFFSampler"]}
    assert max(steps) >= 2 * 12 and len(seen["AIOR_DAFFSampler"]) > 2
    assert max(maximum for _, maximum in seen["AIOR_DecodeDAEM"]) >= 4 * 5
