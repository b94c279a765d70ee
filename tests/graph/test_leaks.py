"""The server's memory does not grow over 12 prompts; with --stress 50, and the bundled weights too."""

from __future__ import annotations

import psutil
import pytest
from aior_pack.tests.graph.conftest import Graph
from aior_pack.tests.graph.walk import photograph, start
from aior_pack.tests.tiny import save_tiny

SETTLED = 5
"""Prompts after which caches and allocators are as large as they get."""
MOST_GROWTH = 50 * 2**20


def resident(server) -> int:
    """Resident bytes of the server's process."""
    return psutil.Process(server.process.pid).memory_info().rss


def after_each(comfy, name: str, file: str, prompts: int) -> list[int]:
    """Resident memory after each of `count` prompts that sample, decode, report and save."""
    sizes = []
    for seed in range(prompts):
        graph = Graph()
        walk = start(graph, name, file)
        # Another picture of the same size each time, so that nothing comes from the cache.
        damaged = graph.add(
            "AIOR_Degrade", image=walk.image, degradation="noise", severity=0.3, seed=seed, recipe=""
        )
        prior = graph.add(
            "AIOR_EncodePrior", restorer=walk.restorer, vae=walk.vae, image=damaged.out(0), tile=0
        )
        inputs = graph.prompt[walk.sampler(seed=seed, steps=2).id]["inputs"] | {"prior": prior.out(0)}
        sampled = graph.add("AIOR_DAFFSampler", **inputs)
        inputs = graph.prompt[walk.decode(sampled.out(0)).id]["inputs"] | {"prior": prior.out(0)}
        walk.save(graph.add("AIOR_DecodeDAEM", **inputs).out(0))
        graph.add("AIOR_PriorReport", prior=prior.out(0))
        comfy.run(graph.prompt)
        sizes.append(resident(comfy.server))
    return sizes


def require_level(sizes: list[int]) -> None:
    told = ", ".join(f"{size / 2**20:.0f}" for size in sizes)
    print(
        f"resident MB after each prompt: {told}; after the fifth "
        f"{(max(sizes[SETTLED:]) - sizes[SETTLED - 1]) / 2**20:+.1f}"
    )
    assert max(sizes[SETTLED:]) - sizes[SETTLED - 1] < MOST_GROWTH, told


def test_memory_stays_with_a_small_model(comfy, models_folder, stress):
    (models_folder / "aior").mkdir(exist_ok=True)
    file = save_tiny(models_folder / "aior").name
    require_level(after_each(comfy, comfy.upload_array(photograph(96, 104)), file, 50 if stress else 12))


def test_memory_stays_with_the_bundled_weights(comfy, stress):
    if not stress:
        pytest.skip("50 restorations of 256x256: with --stress")
    require_level(
        after_each(
            comfy, comfy.upload_array(photograph(256, 256)), "aior_compact-00001-of-00002.safetensors", 50
        )
    )
