"""What users read in the front end in English and Chinese: node search, help pages, labels."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.front_end import HELP_NOISE, FrontEnd, front_end
from tools.make_help_pictures import PAGES, page_of, picture_of

ROOT = Path(__file__).resolve().parents[2]
NODES = sorted(path.stem for path in PAGES.glob("*.md"))
BLUEPRINTS = sorted(path.stem for path in (ROOT / "subgraphs").glob("*.json"))
WORDS = ("derain", "dehaze", "denoise", "deblur", "low light", "restore", "enhance")
SEEN = 20
"""How many search results to look through: two screens. Matching names come before other matching words."""


def words(language: str) -> dict[str, dict]:
    """The names and labels of the nodes in that language."""
    return json.loads((ROOT / "locales" / language / "nodeDefs.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module", params=("en", "zh"))
def language(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def front(client, language) -> Iterator[FrontEnd]:
    """The front end in that language, with an empty workflow."""
    with front_end(client, (1600, 1000)) as front:
        front.open(Comfy_Locale=language)
        front.command("Comfy.NewBlankWorkflow")
        front.taken()
        yield front
        client.request("/settings", {"Comfy.Locale": "en"})


@pytest.mark.parametrize("word", WORDS)
def test_the_search_finds_the_walks_first_node_by_what_people_call_it(front, language, keep, word):
    name = words(language)["AIOR_EncodePrior"]["display_name"]
    found = front.search(word, keep / "search" / f"{language}_{word.replace(' ', '_')}.png")
    assert any(entry.startswith(name) for entry in found[:SEEN]), found


def test_the_search_finds_every_node_and_blueprint_by_its_name(front, language, keep):
    assert front.search("qxqxzz") == []
    names = [node["display_name"] for node in words(language).values()]
    assert len(names) == len(NODES) and len(BLUEPRINTS) == 3
    for name in (*names, *BLUEPRINTS):
        found = front.search(name, keep / "search" / f"{language}_{name}.png" if name in BLUEPRINTS else None)
        assert any(entry.startswith(name) for entry in found[:SEEN]), (name, found)


def test_a_blueprint_is_put_on_the_canvas_as_one_node(front, language, keep):
    for name in BLUEPRINTS:
        front.empty()
        front.search(name, take=name)
        nodes = front.page.evaluate(
            "app.graph._nodes.map("
            "node => [node.getTitle(), node.isSubgraphNode?.() ?? false, node.inputs.map(i => i.type)])"
        )
        assert len(nodes) == 1 and nodes[0][:2] == [name, True] and "IMAGE" in nodes[0][2], nodes
        inner = front.page.evaluate(
            "app.canvas.openSubgraph(app.graph._nodes[0].subgraph, app.graph._nodes[0]);"
            " app.canvas.graph._nodes.map(n => n.type)"
        )
        front.fit()
        front.screenshot(keep / "blueprints" / f"{language}_{name}.png")
        front.page.evaluate("app.canvas.setGraph(app.graph)")
        assert "AIOR_DAFFSampler" in inner and "AIOR_DecodeDAEM" in inner


@pytest.mark.parametrize("node", NODES)
def test_the_help_of_a_node_opens_with_its_text_and_its_picture(front, language, keep, node):
    front.taken()
    front.alone(node)
    page = front.help()
    front.screenshot(keep / "help" / f"{language}_{node}.png")
    text, pictures = page
    written = page_of(node, language).read_text(encoding="utf-8")
    title, first = re.match(r"# (.+)\n\n(?:!\[.*\n\n)?(\S+)", written).groups()
    assert (
        text.startswith(title)
        and first.strip("*")[:6] in text
        and len(text) > 0.6 * len(re.sub(r"[|*\-]", "", written))
    ), text
    assert [(Path(source).parent.name, Path(source).name) for source, _, _ in pictures] == [
        (node, picture_of(node, language).name)
    ]
    assert all(width >= 300 and height >= 60 for _, width, height in pictures), pictures
    assert front.taken(HELP_NOISE) == []


@pytest.mark.parametrize("node", NODES)
def test_the_node_shows_the_labels_of_the_language(front, language, keep, node):
    entry = front.client.object_info()[node]["input"]
    options = {
        name: spec[1] if len(spec) > 1 else {}
        for group in entry.values()
        for name, spec in group.items()
        if isinstance(spec, list)
    }
    front.set("Comfy.VueNodes.Enabled", True)
    try:
        front.alone(node)
        shown = front.page.locator("[data-node-id]").first.inner_text()
        front.screenshot(keep / "labels" / f"{language}_{node}.png")
    finally:
        front.set("Comfy.VueNodes.Enabled", False)
    told = words(language)[node]
    labels = [label["name"] for name, label in told["inputs"].items() if not options[name].get("advanced")]
    labels += [label["name"] for label in told.get("outputs", {}).values()]
    lines = {line.strip() for line in shown.splitlines()}
    assert {told["display_name"], *labels} <= lines, (sorted({told["display_name"], *labels} - lines), shown)
