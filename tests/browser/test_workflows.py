"""Every workflow in the front end: dropped on the canvas, checked, and run with the Run button."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
from aior_pack.tests.browser import drawn
from aior_pack.tests.browser.inputs import needs_models, provide, read, workflow_files

from tools.front_end import FrontEnd

FILES = workflow_files()
NOTES = {"MarkdownNote", "Note"}
SECONDS = 240
CONTRAST = 2.5
"""Least contrast of a group's title with its bar. ComfyUI's own palette has 1.9 to 2.9."""
REGISTERED = (
    "() => app.graph._nodes.filter(node => "
    "!LiteGraph.registered_node_types[node.type]).map(node => node.type)"
)
FLAGGED = "() => app.graph._nodes.filter(node => node.has_errors).map(node => node.type)"
MINUTES = """() => {
    for (const node of app.graph._nodes.filter(node => node.type === 'AIOR_TrainRestorer')) {
        const minutes = node.widgets.find(widget => widget.name === 'minutes')
        minutes.value = minutes.options.min
    }
}"""
SHOWN = """() => app.graph._nodes.map(node => [String(node.id), {
    pictures: (node.imgs ?? []).map(image => image.naturalWidth),
    films: (node.widgets ?? []).flatMap(
        widget => [...(widget.element?.querySelectorAll('video') ?? [])].map(film => film.videoWidth)),
    texts: (node.widgets ?? []).map(widget => String(widget.value)),
}])"""


def reopen(front: FrontEnd, path: Path) -> None:
    """Drop the workflow, as a person who has nothing else open."""
    front.taken()
    front.drop(path)


def check_layout(front: FrontEnd) -> None:
    """Faults of a layout: overlaps, links to the left, cut titles, nodes outside groups, titles."""
    nodes, groups = drawn.nodes(front), drawn.groups(front)
    for a, b in itertools.combinations(nodes.values(), 2):
        assert not a.overlaps(b), f"{a.title} and {b.title} overlap: {a} {b}"
    for a, b in itertools.combinations(groups, 2):
        assert not a.overlaps(b), f"the groups {a.title} and {b.title} overlap"
    for start, end in drawn.links(front):
        assert nodes[start].left <= nodes[end].left, (
            f"{nodes[start].title} stands right of {nodes[end].title}, which it feeds"
        )
    for box in (*nodes.values(), *groups):
        assert box.title_width <= box.title_room, (
            f"the title {box.title} is cut off: {box.title_width:.0f} of {box.title_room:.0f} pixels"
        )
    for node in nodes.values():
        if node.kind in NOTES:
            assert not any(node.overlaps(group) for group in groups), f"a group covers the note {node.title}"
        else:
            assert any(group.holds(node) for group in groups), f"{node.title} sticks out of its group: {node}"
    for group in groups:
        assert drawn.contrast(group.kind) >= CONTRAST, (
            f"the title of the group {group.title} in {group.kind} is hard to read"
        )
    notes = drawn.notes(front)
    assert notes, "no note is visible"
    for text, height, shown in notes:
        assert len(text) > 100 and 0.5 * shown < height <= shown + 1, (
            f"a note of {height:.0f} pixels has {shown:.0f}: {text[:40]}"
        )


def check_results(front: FrontEnd) -> int:
    """Check that the nodes show the pictures and texts of the last run. Returns the number of pictures."""
    outputs = next(iter(front.client.json("/history?max_items=1").values()))["outputs"]
    kinds = {node.id: node.kind for node in drawn.nodes(front).values()}
    seen = 0
    for node, output in outputs.items():
        wanted = len(output.get("images", ()))
        sizes = pictures_on(front, node, "films" if any(output.get("animated", ())) else "pictures", wanted)
        # What made none may still show a preview of its work.
        assert not wanted or len(sizes) == wanted and all(size > 0 for size in sizes), (
            kinds[node],
            output,
            sizes,
        )
        seen += wanted
        said = dict(front.page.evaluate(SHOWN))[node]["texts"]
        for text in (*output.get("text", ()), *output.get("aior_text", ())):
            assert any(text.strip()[:40] in value for value in said), (kinds[node], text[:40])
    return seen


def pictures_on(front: FrontEnd, node: str, what: str, wanted: int, patience: int = 50) -> list[int]:
    """The widths of the pictures on a node, once `wanted` are loaded, or after ten seconds."""
    for _ in range(patience):
        sizes = dict(front.page.evaluate(SHOWN))[node][what]
        if len(sizes) >= wanted and all(sizes):
            break
        front.page.wait_for_timeout(200)
    return sizes


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_workflow_opens_and_runs(front, server, keep, path):
    provide(read(path), server.folder / "input", server.models)
    reopen(front, path)
    assert front.page.evaluate(REGISTERED) == []
    expected = sorted(node["type"] for node in read(path)["nodes"])
    assert sorted(node.kind for node in drawn.nodes(front).values()) == expected
    if needs_models(path):
        # What is asked for is the user's own: those loaders alone are marked.
        assert all("Load" in kind for kind in front.page.evaluate(FLAGGED))
        assert not re.search("missing node", front.page.inner_text("body"), re.I)
    else:
        assert front.page.evaluate(FLAGGED) == []
        assert not front.page.get_by_test_id("error-overlay").is_visible()
        front.page.evaluate(MINUTES)
        front.run(SECONDS)
        # Only what is in view is loaded.
        front.fit()
        assert check_results(front) > 0
    assert front.taken() == []
    front.fit()
    front.screenshot(keep / f"{path.stem}.png")
    check_layout(front)


@pytest.mark.parametrize("modern", (False, True), ids=("classic", "nodes_2_0"))
def test_workflows_are_laid_out_for_both_ways_to_draw_nodes(front, keep, modern):
    front.set("Comfy.VueNodes.Enabled", modern)
    failures = []
    try:
        for path in FILES:
            reopen(front, path)
            front.fit()
            try:
                check_layout(front)
            except AssertionError as error:
                failures.append(f"{path.stem}: {str(error).splitlines()[0]}")
            if modern:
                front.screenshot(keep / "nodes_2_0" / f"{path.stem}.png")
        assert front.taken() == [] and not failures, "\n".join(failures)
    finally:
        front.set("Comfy.VueNodes.Enabled", False)


def test_nothing_outside_the_machine_was_asked_for_by_the_pack(opened):
    assert not [address for address in opened.refused if "aior" in address.lower()], opened.refused
