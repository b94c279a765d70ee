"""Writes workflows/*.json from the short descriptions in `workflow_table.py`.

    python3 -m scripts.make_workflows

Asks a ComfyUI server, which it starts, for the nodes' inputs, so that sockets, widgets and their order are those of the
nodes as they are. Nodes stand in columns from left to right; every column with a colour becomes a group.
"""

from __future__ import annotations

import json
import uuid
from pathlib import Path

from .client import ComfyClient
from .host import find_host
from .server import Server
from .workflow_table import WORKFLOWS, Column, Node, Workflow
from .workflow_table_sdxl import WORKFLOWS as SDXL_WORKFLOWS

ROOT = Path(__file__).resolve().parents[1]
TESTED_WITH = "0.30.0"
WEIGHTS = "aior_compact-00001-of-00002.safetensors"

GAP, COLUMN_GAP, TITLE, SLOT, WIDGET = 40, 90, 30, 20, 30
PADDING, GROUP_TITLE = 20, 50
WIDGET_TYPES = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
# Nodes that show a picture or a text below their widgets, and how much room that takes.
SHOWS = {"LoadImage": 330, "SaveImage": 330, "PreviewImage": 300, "PreviewAny": 210, "AIOR_PriorReport": 210}


def is_widget(spec: list) -> bool:
    """Whether the browser shows this input as a widget rather than as a socket alone."""
    options = spec[1] if len(spec) > 1 else {}
    return (isinstance(spec[0], list) or spec[0] in WIDGET_TYPES) and not options.get("forceInput")


def default_value(spec: list):
    """A widget's value where the description gives none."""
    options = spec[1] if len(spec) > 1 else {}
    choices = spec[0] if isinstance(spec[0], list) else options.get("options", [])
    zero = {"INT": 0, "FLOAT": 0.0, "STRING": "", "BOOLEAN": False}.get(spec[0] if isinstance(spec[0], str) else "")
    return options.get("default", choices[0] if choices else zero)


def weights_file(info: dict) -> str:
    """The bundled model as the loader lists it; its name by contract where the pack has none yet."""
    listed = info["AIOR_LoadCompact"]["input"]["required"]["file"][1]["options"]
    return next((name for name in listed if "aior_compact" in name), WEIGHTS)


def specs(info: dict, kind: str) -> list[tuple[str, list, bool]]:
    """Name, specification and whether it is optional, of every input of a class, in the browser's order: sockets come
    before widgets in nodes of the old kind, and as declared otherwise."""
    entry = info[kind]
    return [(name, entry["input"][group][name], group == "optional")
            for group in ("required", "optional") for name in entry.get("input_order", entry["input"]).get(group, [])]


def build(workflow: Workflow, info: dict) -> dict:
    """The workflow as the browser saves it. Raises KeyError for a node, input or output that does not exist."""
    nodes, links, groups = [_note(workflow)], [], []
    numbers = {node.name: number for number, node in enumerate((n for c in workflow.columns for n in c.nodes), 2)}
    kinds = {node.name: node.type for column in workflow.columns for node in column.nodes}
    outputs: dict[str, list] = {}
    x = nodes[0]["size"][0] + COLUMN_GAP
    for column in workflow.columns:
        y, left = 0, x
        for node in column.nodes:
            made = _node(node, numbers, kinds, info, links)
            made["pos"], made["order"] = [left, y], len(nodes)
            outputs[node.name] = made["outputs"]
            y += made["size"][1] + TITLE + GAP
            x = max(x, left + made["size"][0])
            nodes.append(made)
        _add_group(groups, column, [left, 0, x - left, y - TITLE - GAP])
        x += COLUMN_GAP
    by_id = {number: name for name, number in numbers.items()}
    for link in links:
        slot = outputs[by_id[link[1]]][link[2]]
        slot["links"] = [*(slot["links"] or []), link[0]]
    return {
        "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"aior/{workflow.name}")), "revision": 0,
        "last_node_id": len(nodes), "last_link_id": len(links), "nodes": nodes, "links": links, "groups": groups,
        "config": {}, "extra": {"ds": {"scale": 0.65, "offset": [160, 220]}}, "version": 0.4,
    }


def _note(workflow: Workflow) -> dict:
    return {"id": 1, "type": "MarkdownNote", "pos": [0, 0], "size": [400, workflow.note_height], "flags": {}, "order": 0, "mode": 0,
            "inputs": [], "outputs": [], "title": "About this workflow", "properties": {}, "widgets_values": [workflow.note],
            "color": "#432", "bgcolor": "#653"}


def _node(node: Node, numbers: dict[str, int], kinds: dict[str, str], info: dict, links: list) -> dict:
    inputs, values, known = [], [], specs(info, node.type)
    unknown = set(node.inputs) - {name for name, _, _ in known}
    if unknown:
        raise KeyError(f"{node.type} has no input {', '.join(sorted(unknown))}")
    for name, spec, optional in known:
        given = node.inputs.get(name)
        source, _, output = given.partition(".") if isinstance(given, str) else ("", "", "")
        linked = source in numbers and bool(output)
        kind = "COMBO" if isinstance(spec[0], list) else spec[0]
        slot = {"name": name, "type": kind, **({"shape": 7} if optional and not is_widget(spec) else {}), "link": None}
        if linked:
            position = info[kinds[source]]["output_name"].index(output)
            links.append([len(links) + 1, numbers[source], position, numbers[node.name], len(inputs), info[kinds[source]]["output"][position]])
            slot["link"] = len(links)
        if is_widget(spec):
            slot["widget"] = {"name": name}
            options = spec[1] if len(spec) > 1 else {}
            values.append(default_value(spec) if linked or given is None else given)
            if options.get("control_after_generate"):
                values.append("fixed")
            inputs.append(slot)
            if options.get("image_upload"):
                values.append("image")
                inputs.append({"name": "upload", "type": "IMAGEUPLOAD", "widget": {"name": "upload"}, "link": None})
        else:
            inputs.append(slot)
    entry = info[node.type]
    outputs = [{"name": name, "type": kind, "links": None} for name, kind in zip(entry["output_name"], entry["output"])]
    own = {} if node.type.startswith("AIOR_") else {"cnr_id": "comfy-core", "ver": TESTED_WITH}
    sockets = max(sum("widget" not in slot for slot in inputs), len(outputs))
    height = sockets * SLOT + len(values) * WIDGET + 20 + SHOWS.get(node.type, 0)
    made = {"id": numbers[node.name], "type": node.type, "pos": [0, 0], "size": [node.width, height], "flags": {}, "order": 0, "mode": 0,
            "inputs": inputs, "outputs": outputs, "properties": {"Node name for S&R": node.type, **own}, "widgets_values": values}
    return made | ({"title": node.title} if node.title else {})


def _add_group(groups: list[dict], column: Column, box: list[int]) -> None:
    x, y, width, height = box
    bounding = [x - PADDING, y - TITLE - GROUP_TITLE, width + 2 * PADDING, height + TITLE + GROUP_TITLE + PADDING]
    if groups and groups[-1]["title"] == column.title:
        last = groups[-1]["bounding"]
        last[2] = bounding[0] + bounding[2] - last[0]
        last[3] = max(last[3], bounding[3])
        return
    groups.append({"id": len(groups) + 1, "title": column.title, "bounding": bounding, "color": column.color, "font_size": 24, "flags": {}})


def main() -> None:
    with Server(find_host(ROOT)) as server:
        info = ComfyClient(server.port, server.alive).object_info()
    info["AIOR_LoadCompact"]["input"]["required"]["file"][1]["default"] = weights_file(info)
    for workflow in (*WORKFLOWS, *SDXL_WORKFLOWS):
        path = ROOT / "workflows" / f"{workflow.name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(build(workflow, info), indent=1) + "\n", encoding="utf-8")
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
