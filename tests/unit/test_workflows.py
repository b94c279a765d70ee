"""The workflows of the pack: valid JSON, consistent with the nodes, and readable on the canvas."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from aior_pack.tests import schemas

from scripts.graph import find_nodes, to_prompt, widget_slots

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "workflows").glob("*.json"))
NOTES = {"MarkdownNote"}
TITLE = 30
# Nodes without outputs in older versions of ComfyUI: there nothing may hang on them.
NEW_OUTPUTS = {"PreviewAny", "PreviewImage", "SaveImage", "MaskPreview", "SaveVideo"}
# What older versions do not have: the browser there leaves it out, and nothing may hang on it.
NEW_SLOTS = {("CreateVideo", "bit_depth"), ("GetVideoComponents", "bit_depth")}
UPLOADS = {("LoadImage", "image"), ("LoadVideo", "file")}
# What is for looking only gives nothing back.
LOOKING = {"what_is_wrong"}
SAVING = ("SaveImage", "SaveVideo")


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def workflow(request) -> dict:
    return json.loads(request.param.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def object_info(comfyui) -> dict:
    used = {
        node["type"] for path in FILES for node in json.loads(path.read_text(encoding="utf-8"))["nodes"]
    } - NOTES
    return schemas.object_info(used)


def test_there_are_workflows():
    names = {path.stem for path in FILES}
    ways, pictures = (
        {"restore", "restore_ksampler", "restore_custom_sampler"},
        {"restore_masked", "restore_batch"},
    )
    assert ways | pictures | {"restore_upscale", "restore_keep_grain", "finetune"} <= names
    assert {"what_is_wrong", "damage_and_measure", "compare_samplers", "restore_video"} <= names
    assert {"sdxl_restore", "sdxl_lora", "sdxl_controlnet", "sdxl_masked", "sdxl_upscale"} <= names


def test_every_workflow_has_its_picture():
    from PIL import Image

    # Those for SDXL need weights of the user's, and a picture that nobody made is none.
    for path in (path for path in FILES if not path.stem.startswith("sdxl_")):
        with Image.open(path.with_suffix(".jpg")) as picture:
            assert picture.format == "JPEG" and min(picture.size) >= 100


def test_links_agree_with_sockets(workflow):
    nodes = {node["id"]: node for node in workflow["nodes"]}
    assert len(nodes) == len(workflow["nodes"]) and max(nodes) == workflow["last_node_id"]
    links = {link[0]: link for link in workflow["links"]}
    assert max(links) == workflow["last_link_id"] and len(links) == len(workflow["links"])
    for number, source, output, target, position, kind in links.values():
        assert number in nodes[source]["outputs"][output]["links"]
        assert nodes[target]["inputs"][position]["link"] == number
        assert nodes[source]["outputs"][output]["type"] == kind
        assert nodes[target]["inputs"][position]["type"] in (kind, "*")
        assert nodes[source]["order"] < nodes[target]["order"]
    ends = [slot["link"] for node in nodes.values() for slot in node["inputs"] if slot["link"] is not None]
    starts = [link for node in nodes.values() for slot in node["outputs"] for link in slot["links"] or []]
    assert sorted(ends) == sorted(starts) == sorted(links)


def test_nodes_do_not_overlap(workflow):
    def box(node: dict) -> tuple[float, float, float, float]:
        (x, y), (width, height) = node["pos"], node["size"]
        return x, y - TITLE, x + width, y + height

    for a, b in itertools.combinations(workflow["nodes"], 2):
        left, top, right, bottom = box(a)
        other = box(b)
        assert right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top, (
            a["type"],
            b["type"],
        )


def test_groups_hold_whole_nodes_and_do_not_overlap(workflow):
    boxes = [group["bounding"] for group in workflow["groups"]]
    assert all(group["color"] for group in workflow["groups"])
    for (x, _, width, _), (other, *_) in itertools.pairwise(boxes):
        assert x + width <= other
    for node in workflow["nodes"]:
        if node["type"] in NOTES:
            continue
        (left, top), (width, height) = node["pos"], node["size"]
        assert any(
            x <= left and y <= top and left + width <= x + w and top + height <= y + h for x, y, w, h in boxes
        ), node["type"]


def test_only_nodes_of_core_and_this_pack(workflow, object_info):
    assert {node["type"] for node in workflow["nodes"]} - NOTES <= set(object_info)


def test_sockets_and_widgets_fit_the_nodes(workflow, object_info):
    for node in workflow["nodes"]:
        if node["type"] in NOTES:
            continue
        entry = object_info[node["type"]]
        known = {name for group in ("required", "optional") for name in entry["input"].get(group, {})}
        named = {slot["name"] for slot in node["inputs"]} - {"upload"}
        assert named >= known and all((node["type"], name) in NEW_SLOTS for name in named - known), node[
            "type"
        ]
        outputs = [slot["name"] for slot in node["outputs"]]
        if node["type"] in NEW_OUTPUTS and not entry["output_name"]:
            outputs = [slot["name"] for slot in node["outputs"] if slot["links"]]
        if len(outputs) > len(entry["output_name"]):
            outputs = [
                slot["name"]
                for slot in node["outputs"]
                if (node["type"], slot["name"]) not in NEW_SLOTS or slot["links"]
            ]
        assert outputs == entry["output_name"], node["type"]
        widgets = [slot["name"] for slot in node["inputs"] if "widget" in slot and slot["name"] in known]
        slots = widget_slots(node, object_info)
        assert sorted(slots) == sorted(widgets), node["type"]
        extra = len(node["widgets_values"]) - len(slots)
        added = sum(name in ("seed", "noise_seed") or (node["type"], name) in UPLOADS for name in slots)
        assert extra == added + len(named - known), node["type"]


def test_converts_to_a_prompt(workflow, object_info, request):
    prompt = to_prompt(workflow, object_info)
    for node_id, node in prompt.items():
        required = object_info[node["class_type"]]["input"].get("required", {})
        assert set(required) <= set(node["inputs"]), (node_id, node["class_type"])
    looking = request.node.callspec.id in LOOKING
    assert looking or (
        any(find_nodes(prompt, kind) for kind in SAVING) and find_nodes(prompt, "AIOR_DecodeDAEM")
    )
    assert not looking or find_nodes(prompt, "PreviewImage")


def test_a_note_says_what_it_is_in_words(workflow):
    (note,) = (node for node in workflow["nodes"] if node["type"] == "MarkdownNote")
    (text,) = note["widgets_values"]
    assert text.startswith("# ") and len(text) > 300
    left = min(node["pos"][0] for node in workflow["nodes"] if node is not note)
    assert note["pos"][0] + note["size"][0] < left


def test_numbers_are_within_the_nodes_limits(workflow, object_info):
    for node in to_prompt(workflow, object_info).values():
        inputs = object_info[node["class_type"]]["input"]
        for name, (kind, *options) in {**inputs.get("required", {}), **inputs.get("optional", {})}.items():
            value = node["inputs"].get(name)
            if kind in ("INT", "FLOAT") and not isinstance(value, list) and value is not None:
                assert options[0]["min"] <= value <= options[0]["max"], (node["class_type"], name)
