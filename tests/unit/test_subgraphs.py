"""Subgraphs: taken apart as the browser does, and the blueprints that come with the pack."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from aior_pack.tests import schemas

from scripts.graph import GraphError, find_nodes, to_prompt, widget_slots
from tools.blueprint_table import BLUEPRINTS

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "subgraphs").glob("*.json"))
INPUTS, OUTPUTS = -10, -20
INFO = {
    "Load": {"input": {"required": {"file": [["a.png"]]}}},
    "Add": {
        "input": {"required": {"image": ["IMAGE"], "amount": ["FLOAT", {}]}, "optional": {"mask": ["MASK"]}}
    },
    "Save": {"input": {"required": {"images": ["IMAGE"]}}},
}


def node(node_id, kind, inputs=(), values=(), mode=0, **more):
    slots = [
        {"name": name, "type": "IMAGE", "link": link, **({"widget": {"name": name}} if widget else {})}
        for name, link, widget in inputs
    ]
    return {
        "id": node_id,
        "type": kind,
        "mode": mode,
        "inputs": slots,
        "outputs": [{"type": "IMAGE"}],
        "widgets_values": list(values),
        **more,
    }


def link(link_id, origin, target, slot=0, origin_slot=0):
    return {
        "id": link_id,
        "origin_id": origin,
        "origin_slot": origin_slot,
        "target_id": target,
        "target_slot": slot,
        "type": "IMAGE",
    }


def two_adds(name="box"):
    """A subgraph of two Adds in a row, whose amounts are one input."""
    return {
        "id": name,
        "name": name,
        "inputs": [{"name": "image"}, {"name": "strength"}],
        "outputs": [{"name": "out"}],
        "nodes": [
            node(1, "Add", [("image", 1, False), ("amount", 2, True), ("mask", None, False)], [0.1]),
            node(2, "Add", [("image", 3, False), ("amount", 4, True)], [0.2]),
        ],
        "links": [
            link(1, INPUTS, 1),
            link(2, INPUTS, 1, 1, 1),
            link(3, 1, 2),
            link(4, INPUTS, 2, 1, 1),
            link(5, 2, OUTPUTS),
        ],
    }


def around(host, *graphs):
    """Load, `host` as node 5, Save."""
    return {
        "nodes": [node(4, "Load", values=["a.png"]), host, node(6, "Save", [("images", 2, False)])],
        "links": [[1, 4, 0, 5, 0, "IMAGE"], [2, 5, 0, 6, 0, "IMAGE"]],
        "definitions": {"subgraphs": list(graphs)},
    }


def test_inner_nodes_stand_in_for_the_subgraph():
    prompt = to_prompt(
        around(node(5, "box", [("image", 1, False), ("strength", None, True)], [0.7]), two_adds()), INFO
    )
    assert {key: value["inputs"] for key, value in prompt.items()} == {
        "4": {"file": "a.png"},
        "6": {"images": ["5:2", 0]},
        "5:1": {"image": ["4", 0], "amount": 0.7},
        "5:2": {"image": ["5:1", 0], "amount": 0.7},
    }


def test_widgets_in_the_older_notation_and_inner_values():
    shown = {"proxyWidgets": [["1", "amount"], ["-1", "strength"]]}
    host = node(5, "box", [("image", 1, False), ("strength", None, True)], [0.5, None], properties=shown)
    prompt = to_prompt(around(host, two_adds()), INFO)
    assert [prompt[key]["inputs"]["amount"] for key in ("5:1", "5:2")] == [0.5, 0.2]
    host = node(5, "box", [("image", 1, False)], [0.9], properties={"proxyWidgets": [["-1", "strength"]]})
    assert [to_prompt(around(host, two_adds()), INFO)[key]["inputs"]["amount"] for key in ("5:1", "5:2")] == [
        0.9,
        0.9,
    ]


def test_a_linked_widget_goes_before_its_value():
    host = node(5, "box", [("image", 1, False), ("strength", 3, True)], [0.7])
    workflow = around(host, two_adds())
    workflow["links"].append([3, 4, 1, 5, 1, "FLOAT"])
    assert to_prompt(workflow, INFO)["5:2"]["inputs"]["amount"] == ["4", 1]


def test_subgraphs_in_subgraphs():
    outer = {
        "id": "outer",
        "name": "outer",
        "inputs": [{"name": "image"}, {"name": "much"}],
        "outputs": [{"name": "out"}],
        "nodes": [
            node(7, "box", [("image", 1, False), ("strength", 2, True)], [0.3]),
            node(8, "box", [("image", 3, False), ("strength", None, True)], [0.4]),
        ],
        "links": [link(1, INPUTS, 7), link(2, INPUTS, 7, 1, 1), link(3, 7, 8), link(4, 8, OUTPUTS)],
    }
    prompt = to_prompt(
        around(node(5, "outer", [("image", 1, False), ("much", None, True)], [0.8]), two_adds(), outer), INFO
    )
    assert (
        prompt["5:7:1"]["inputs"] == {"image": ["4", 0], "amount": 0.8}
        and prompt["5:7:2"]["inputs"]["amount"] == 0.8
    )
    assert prompt["5:8:1"]["inputs"] == {"image": ["5:7:2", 0], "amount": 0.4}
    assert prompt["6"]["inputs"] == {"images": ["5:8:2", 0]}


def test_one_after_the_other_whatever_their_order():
    first, second = (
        node(number, "box", [("image", link_id, False), ("strength", None, True)], [0.5])
        for number, link_id in ((5, 1), (7, 2))
    )
    for order in itertools.permutations((first, second)):
        workflow = around(order[0], two_adds())
        workflow["nodes"].append(order[1])
        workflow["links"] = [[1, 4, 0, 5, 0, "IMAGE"], [2, 5, 0, 7, 0, "IMAGE"], [3, 7, 0, 6, 0, "IMAGE"]]
        workflow["nodes"][2] = node(6, "Save", [("images", 3, False)])
        prompt = to_prompt(workflow, INFO)
        assert prompt["7:1"]["inputs"]["image"] == ["5:2", 0] and prompt["6"]["inputs"]["images"] == [
            "7:2",
            0,
        ]


@pytest.mark.parametrize(("mode", "expected"), [(4, ["4", 0]), (2, None)])
def test_a_bypassed_and_a_muted_subgraph(mode, expected):
    prompt = to_prompt(around(node(5, "box", [("image", 1, False)], mode=mode), two_adds()), INFO)
    assert sorted(prompt) == ["4", "6"] and prompt["6"]["inputs"].get("images") == expected


def test_a_subgraph_that_hands_through_and_one_that_is_open():
    through = {
        "id": "box",
        "inputs": [{"name": "image"}],
        "outputs": [{"name": "out"}],
        "nodes": [],
        "links": [link(1, INPUTS, OUTPUTS)],
    }
    assert to_prompt(around(node(5, "box", [("image", 1, False)]), through), INFO)["6"]["inputs"] == {
        "images": ["4", 0]
    }
    workflow = around(node(5, "box", [("image", None, False)]), through)
    assert to_prompt(workflow, INFO)["6"]["inputs"] == {}
    workflow = around(node(5, "box", [("image", None, False)]), two_adds())
    assert to_prompt(workflow, INFO)["5:1"]["inputs"] == {"amount": 0.1}


def test_a_subgraph_that_holds_itself_is_refused():
    graph = two_adds()
    graph["nodes"].append(node(3, "box", []))
    with pytest.raises(GraphError, match="contains itself"):
        to_prompt(around(node(5, "box", [("image", 1, False)]), graph), INFO)


def test_the_browsers_own_comparison_gets_the_value_that_the_browser_sends():
    info = {
        "Compare": {
            "input": {"required": {"compare_view": ["IMAGECOMPARE", {}]}, "optional": {"image_a": ["IMAGE"]}}
        }
    }
    prompt = to_prompt({"nodes": [node(1, "Compare", [("image_a", None, False)])], "links": []}, info)
    assert prompt["1"]["inputs"] == {"compare_view": {"__value__": ["", ""]}}


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def blueprint(request) -> dict:
    return json.loads(request.param.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def object_info(comfyui) -> dict:
    graphs = (json.loads(path.read_text(encoding="utf-8"))["definitions"]["subgraphs"][0] for path in FILES)
    return schemas.object_info(
        {node["type"] for graph in graphs for node in graph["nodes"]} | {"LoadImage", "SaveImage"}
    )


def test_there_are_blueprints():
    names = {"Restore Photo", "Restore Large Photo", "Restore Masked Area"}
    assert {path.stem for path in FILES} == {blueprint.name for blueprint in BLUEPRINTS} == names
    ignored = (ROOT / ".comfyignore").read_text(encoding="utf-8").split()
    assert "/subgraphs/" not in ignored


def test_the_file_is_one_node_that_stands_for_the_graph(blueprint, request):
    (host,), (graph,) = blueprint["nodes"], blueprint["definitions"]["subgraphs"]
    assert host["type"] == graph["id"] and blueprint["links"] == []
    # The browser shows the file's name, and looks for these two.
    assert host["title"] == graph["name"] == request.node.callspec.id
    assert (
        len(blueprint["extra"]["BlueprintDescription"]) > 60
        and "AIOR" in blueprint["extra"]["BlueprintSearchAliases"]
    )
    for side in ("inputs", "outputs"):
        assert [(slot["name"], slot["type"]) for slot in host[side]] == [
            (slot["name"], slot["type"]) for slot in graph[side]
        ]
    assert len(host["widgets_values"]) == sum("widget" in slot for slot in host["inputs"])


def test_links_agree_with_sockets_and_ports(blueprint):
    (graph,) = blueprint["definitions"]["subgraphs"]
    nodes = {made["id"]: made for made in graph["nodes"]}
    assert graph["state"]["lastNodeId"] == max(nodes) and graph["state"]["lastLinkId"] == max(
        made["id"] for made in graph["links"]
    )
    for made in graph["links"]:
        source = (
            graph["inputs"][made["origin_slot"]]
            if made["origin_id"] == INPUTS
            else nodes[made["origin_id"]]["outputs"][made["origin_slot"]]
        )
        target = (
            graph["outputs"][made["target_slot"]]
            if made["target_id"] == OUTPUTS
            else nodes[made["target_id"]]["inputs"][made["target_slot"]]
        )
        assert made["id"] in source.get("linkIds", source.get("links"))
        assert made["id"] in target.get("linkIds", [target.get("link")])
        assert made["type"] == source["type"] == target["type"]
    assert all(slot["linkIds"] for slot in (*graph["inputs"], *graph["outputs"]))


def test_the_inner_nodes_fit_the_nodes_as_they_are(blueprint, object_info):
    (graph,) = blueprint["definitions"]["subgraphs"]
    for made in graph["nodes"]:
        entry = object_info[made["type"]]
        known = [name for group in ("required", "optional") for name in entry["input"].get(group, {})]
        # Sockets before widgets: where the browser makes the node anew it has this order, and links go by
        # places.
        widgets = [slot["name"] for slot in made["inputs"] if "widget" in slot]
        assert [slot["name"] for slot in made["inputs"]] == [
            name for name in known if name not in widgets
        ] + widgets, made["type"]
        assert [slot["name"] for slot in made["outputs"]] == entry["output_name"]
        assert sorted(widget_slots(made, object_info)) == sorted(
            slot["name"] for slot in made["inputs"] if "widget" in slot
        )
        left, top, right, bottom = _box(made)
        for other in graph["nodes"]:
            x, y, end, low = _box(other)
            assert other is made or right <= x or end <= left or bottom <= y or low <= top


def _box(made: dict) -> tuple[float, float, float, float]:
    (x, y), (width, height) = made["pos"], made["size"]
    return x, y - 30, x + width, y + height


def test_a_blueprint_becomes_a_whole_prompt(blueprint, object_info):
    (host,) = blueprint["nodes"]
    shown = {
        slot["name"]: value
        for slot, value in zip([slot for slot in host["inputs"] if "widget" in slot], host["widgets_values"])
    }
    host["id"], host["widgets_values"] = (
        9,
        [{"steps": 7, "tile": 512}.get(name, value) for name, value in shown.items()],
    )
    for slot, made in zip(("image", "mask"), host["inputs"]):
        made["link"] = {"image": 1, "mask": 2}[slot] if made["name"] == slot else made["link"]
    loader = node(1, "LoadImage", values=["a.png", "image"])
    blueprint["nodes"] += [loader, node(3, "SaveImage", [("images", 3, False)], ["x"])]
    blueprint["links"] = [[1, 1, 0, 9, 0, "IMAGE"], [2, 1, 1, 9, 1, "MASK"], [3, 9, 0, 3, 0, "IMAGE"]]
    prompt = to_prompt(blueprint, object_info)
    for made in prompt.values():
        assert set(object_info[made["class_type"]]["input"]["required"]) <= set(made["inputs"]), made[
            "class_type"
        ]
    (sampler,) = find_nodes(prompt, "AIOR_DAFFSampler")
    assert prompt[sampler]["inputs"]["steps"] == 7 and prompt[sampler]["inputs"]["fidelity"] == 0
    tiles = {made["inputs"]["tile"] for made in prompt.values() if "tile" in made["inputs"]}
    assert tiles == ({512} if "tile" in shown else {0})
