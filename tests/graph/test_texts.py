"""The server sends the texts of nodes for `web/text.js`: after a run, from the cache, and in a subgraph."""

from __future__ import annotations

import pytest
from aior_pack.tests.graph.walk import photograph, start

FILE = "aior_compact-00001-of-00002.safetensors"


@pytest.fixture
def said(comfy, graph):
    """A prompt of nodes that say something, with ids as in a subgraph, and the ids of those nodes by name."""
    picture = comfy.upload_array(photograph(64, 80))
    walk = start(graph, picture, FILE)
    nodes = {"prior": walk.prior[0], "report": graph.add("AIOR_PriorReport", prior=walk.prior).id}
    measured = graph.add(
        "AIOR_Measure",
        reference=walk.image,
        image=walk.image,
        border=0,
        channel="rgb",
        perceptual=False,
        error_gain=8.0,
    )
    options = {"seed": 1, "steps": 1, "cfg": 1.0, "strength": 1.0}
    inside = graph.add(
        "AIOR_Inspect", model=walk.model, vae=walk.vae, restorer=walk.restorer, prior=walk.prior, **options
    )
    saved = graph.add("AIOR_SaveRestorer", restorer=walk.restorer, filename_prefix="restorers/said")
    nodes |= {"measure": measured.id, "inside": inside.id, "saved": saved.id}

    def inner(value):
        return [f"70:{value[0]}", value[1]] if isinstance(value, list) else value

    prompt = {
        f"70:{name}": {**node, "inputs": {key: inner(value) for key, value in node["inputs"].items()}}
        for name, node in graph.prompt.items()
    }
    return prompt, {name: f"70:{node}" for name, node in nodes.items()}


def heard(result, nodes: dict[str, str]) -> dict[str, list[str]]:
    return {
        name: result.items("aior_text" if name == "prior" else "text", node) for name, node in nodes.items()
    }


def test_what_nodes_say_is_sent_when_they_run_and_from_the_cache(comfy, said):
    prompt, nodes = said
    first = comfy.run(prompt)
    texts = heard(first, nodes)
    assert all(len(text) == 1 for text in texts.values()), texts
    assert texts["prior"][0] == texts["report"][0].splitlines()[0] and texts["prior"][0].startswith(
        "Picture 1 (80x64): "
    )
    assert (
        "100.00" in texts["measure"][0]
        and "DAFF adds" in texts["inside"][0]
        and ".safetensors" in texts["saved"][0]
    )

    again = comfy.run(prompt)
    known = heard(again, nodes)
    assert set(nodes.values()) <= set(again.cached)
    # What is not at the end of a graph is silent then on a ComfyUI that does not know of such texts.
    assert known == texts or known == texts | {"prior": []}
