"""What users saved with the first edition still loads; its nodes and workflows are in tests/fixtures/.

Do not regenerate these files. A test that fails here means that a saved workflow breaks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from aior_pack.tests import schemas

from scripts.graph import find_nodes, is_widget, to_prompt, widget_slots

EDITION = Path(__file__).resolve().parents[1] / "fixtures" / "first_edition"
NODES = json.loads((EDITION / "nodes.json").read_text(encoding="utf-8"))
WORKFLOWS = sorted((EDITION / "workflows").glob("*.json"))
BLUEPRINTS = sorted((EDITION / "subgraphs").glob("*.json"))
NOTES = {"MarkdownNote"}
VALUES = ("default", "step", "multiline", "control_after_generate")
"""What an input keeps exactly. Limits may widen, and choices may be added."""
LOCAL = {"file"}
"""Inputs whose choices are the files of this computer."""


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def saved_nodes(saved: dict) -> Iterator[dict]:
    """The nodes of a workflow or blueprint, and those inside of its subgraphs."""
    for part in (saved, *saved.get("definitions", {}).get("subgraphs", ())):
        yield from part["nodes"]


def inputs_of(entry: dict) -> dict[str, tuple[str, str, dict]]:
    """Name -> (section, type, options) of a node's inputs, in the order in which the browser shows them."""
    found = {}
    for section in ("required", "optional"):
        for name, (kind, *options) in entry["input"].get(section, {}).items():
            found[name] = (section, kind, options[0] if options else {})
    return found


def widgets(names: dict[str, tuple[str, dict]]) -> list[str]:
    return [name for name, (kind, options) in names.items() if is_widget([kind], options)]


@pytest.fixture(scope="module")
def object_info(comfyui) -> dict[str, dict]:
    kinds = {node["type"] for path in WORKFLOWS for node in read(path)["nodes"]} - NOTES
    return schemas.object_info(kinds | NODES.keys())


def test_the_first_edition_is_kept():
    assert len(NODES) == 15 and len(WORKFLOWS) == 17 and len(BLUEPRINTS) == 3
    used = {node["type"] for path in (*WORKFLOWS, *BLUEPRINTS) for node in saved_nodes(read(path))}
    assert len({kind for kind in used if kind.startswith("AIOR_")} & NODES.keys()) >= 12


@pytest.mark.parametrize("node_id", NODES)
def test_inputs_keep_their_names_types_and_values(node_id, object_info):
    found = inputs_of(object_info[node_id])
    for name, saved in NODES[node_id]["inputs"].items():
        section, kind, options = found[name]
        assert kind == saved["type"], name
        # A required input may become optional, but not the other way round.
        assert section in (saved["section"], "optional"), name
        assert {key: options.get(key) for key in VALUES} == {key: saved.get(key) for key in VALUES}, name
        if "min" in saved:
            assert options["min"] <= saved["min"] and options["max"] >= saved["max"], name
        assert set(saved.get("options", ())) <= set(options.get("options", ())), name
    assert all(found[name][0] == "optional" for name in found.keys() - NODES[node_id]["inputs"].keys())


@pytest.mark.parametrize("node_id", NODES)
def test_widgets_keep_their_places(node_id, object_info):
    """A workflow stores the values of widgets by position: a new widget must come last."""
    saved = widgets({name: (one["type"], one) for name, one in NODES[node_id]["inputs"].items()})
    found = widgets({name: parts[1:] for name, parts in inputs_of(object_info[node_id]).items()})
    assert found[: len(saved)] == saved


@pytest.mark.parametrize("node_id", NODES)
def test_outputs_keep_their_places(node_id, object_info):
    """Links name an output by position: a new output must come last."""
    entry, saved = object_info[node_id], NODES[node_id]["outputs"]
    found = [list(output) for output in zip(entry["output"], entry["output_name"], strict=True)]
    assert found[: len(saved)] == saved


@pytest.mark.parametrize("path", [*WORKFLOWS, *BLUEPRINTS], ids=lambda path: path.stem)
def test_saved_nodes_fit(path, object_info):
    for node in saved_nodes(read(path)):
        if node["type"] not in NODES:
            continue
        entry = object_info[node["type"]]
        known = inputs_of(entry)
        for slot in node["inputs"]:
            assert slot["name"] in known and slot["type"] == known[slot["name"]][1], (node["type"], slot)
        saved = [(slot["type"], slot["name"]) for slot in node["outputs"]]
        assert list(zip(entry["output"], entry["output_name"], strict=True))[: len(saved)] == saved
        slots = widget_slots(node, object_info)
        shown = [slot["name"] for slot in node["inputs"] if "widget" in slot]
        assert sorted(slots) == sorted(shown), node["type"]
        for name, place in slots.items():
            value, options = node["widgets_values"][place], known[name][2]
            if "min" in options:
                assert options["min"] <= value <= options["max"], (node["type"], name, value)
            elif "options" in options and name not in LOCAL:
                assert value in options["options"], (node["type"], name, value)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_convert_to_a_prompt(path, object_info):
    prompt = to_prompt(read(path), object_info)
    for node in prompt.values():
        required = object_info[node["class_type"]]["input"].get("required", {})
        assert set(required) <= set(node["inputs"]), node["class_type"]
    assert any(find_nodes(prompt, node_id) for node_id in NODES)
