"""`web/text.js` shows the texts of the pack's nodes on the nodes, in both renderers of the front end."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from aior_pack.tests.browser.inputs import ROOT, provide, read

from tools.front_end import FrontEnd

WORKFLOW, OTHER = (ROOT / "workflows" / f"{name}.json" for name in ("what_is_wrong", "restore"))
SECONDS = 120
READ = """() => {
    const isText = one => one.offsetParent && one.textContent.startsWith('Picture 1')
    return [...document.querySelectorAll('pre')].filter(isText).map(one => {
        const {x, y, width, height} = one.getBoundingClientRect()
        const above = document.elementFromPoint(x + width / 2, y + height / 2)
        const whole = one.scrollHeight <= one.clientHeight && one.scrollWidth <= one.clientWidth
        return [one.textContent, above === one, whole]
    })
}"""
INTO_A_SUBGRAPH = """() => {
    const types = ['AIOR_EncodePrior', 'AIOR_PriorReport']
    app.graph.convertToSubgraph(new Set(app.graph._nodes.filter(node => types.includes(node.type))))
}"""
OPEN_IT = """() => {
    const node = app.graph._nodes.find(node => node.isSubgraphNode?.())
    app.canvas.openSubgraph(node.subgraph, node)
}"""


@pytest.fixture(params=(False, True), ids=("classic", "nodes_2_0"))
def drawn_as(request, front, server) -> Iterator[FrontEnd]:
    for path in (WORKFLOW, OTHER):
        provide(read(path), server.folder / "input", server.models)
    front.set("Comfy.VueNodes.Enabled", request.param)
    yield front
    front.page.evaluate("app.canvas.setGraph(app.graph.rootGraph ?? app.graph)")
    front.set("Comfy.VueNodes.Enabled", False)


def texts(front: FrontEnd) -> list[str]:
    """The texts on the nodes, shortest first. Fails if one is covered, or needs scrolling to be read."""
    front.fit()
    found = front.page.evaluate(READ)
    assert all(on_top and whole for _, on_top, whole in found), found
    return sorted((text for text, _, _ in found), key=len)


def test_texts_are_read_on_the_nodes(drawn_as, keep):
    front = drawn_as
    front.drop(WORKFLOW)
    assert texts(front) == []
    front.run(SECONDS)
    line, report = said = texts(front)
    assert report.splitlines()[0] == line and len(report.splitlines()) == 9
    # A text in the workflow or in the prompt would change them, and cached results would be computed again.
    assert "Picture 1" not in json.dumps(
        front.page.evaluate("app.graphToPrompt().then(({workflow, output}) => [workflow, output])")
    )

    # In a tab that is opened again.
    front.drop(OTHER)
    assert texts(front) == []
    front.command("Workspace.PreviousOpenedWorkflow")
    front.settle()
    assert texts(front) == said
    # From the cache, on nodes that never ran.
    front.drop(OTHER)
    front.drop(WORKFLOW)
    assert texts(front) == []
    front.run(SECONDS)
    assert texts(front) == said

    front.page.evaluate(INTO_A_SUBGRAPH)
    front.run(SECONDS)
    assert texts(front) == []
    front.page.evaluate(OPEN_IT)
    front.settle()
    assert texts(front) == said
    front.screenshot(
        keep
        / f"subgraph_texts_{'nodes_2_0' if front.page.evaluate('LiteGraph.vueNodesMode') else 'classic'}.png"
    )
    assert front.taken() == []
