"""Writes workflows/*.json and subgraphs/*.json from the tables in `workflow_table*.py` and
`blueprint_table.py`.

    python3 -m tools.make_workflows

Starts a ComfyUI server and asks it for the nodes' inputs, so that sockets, widgets and their order are right.
`layout.py` places the nodes.
"""

from __future__ import annotations

import json
import uuid
from pathlib import Path

from scripts.client import ComfyClient
from scripts.host import find_host
from scripts.server import Server

from .blueprint_table import BLUEPRINTS
from .layout import COLUMN_GAP, lay_out
from .make_blueprints import build as build_blueprint
from .workflow_pieces import Workflow
from .workflow_table import WORKFLOWS
from .workflow_table_looking import WORKFLOWS as LOOKING_WORKFLOWS
from .workflow_table_sdxl import WORKFLOWS as SDXL_WORKFLOWS
from .workflow_table_video import WORKFLOWS as VIDEO_WORKFLOWS

ROOT = Path(__file__).resolve().parents[1]
WEIGHTS = "aior_compact-00001-of-00002.safetensors"
# Dark, because the front end writes quotes on it in blue.
NOTE = ("#4a3a1e", "#2b2418")


def weights_file(info: dict) -> str:
    """The bundled model's name in the loader's list; its future name if the pack has none yet."""
    listed = info["AIOR_LoadCompact"]["input"]["required"]["file"][1]["options"]
    return next((name for name in listed if "aior_compact" in name), WEIGHTS)


def build(workflow: Workflow, info: dict) -> dict:
    """The workflow's file. Raises KeyError for a node, input or output that does not exist."""
    note = _note(workflow)
    laid = lay_out(workflow.columns, info, first=2, left=note["size"][0] + COLUMN_GAP)
    nodes = [note, *({**node, "order": node["order"] + 1} for node in laid.nodes)]
    return {
        "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"aior/{workflow.name}")),
        "revision": 0,
        "last_node_id": len(nodes),
        "last_link_id": len(laid.links),
        "nodes": nodes,
        "links": laid.links,
        "groups": laid.groups,
        "config": {},
        "extra": {"ds": {"scale": 0.65, "offset": [160, 220]}},
        "version": 0.4,
    }


def _note(workflow: Workflow) -> dict:
    return {
        "id": 1,
        "type": "MarkdownNote",
        "pos": [0, 0],
        "size": [400, workflow.note_height],
        "flags": {},
        "order": 0,
        "mode": 0,
        "inputs": [],
        "outputs": [],
        "title": "About this workflow",
        "properties": {},
        "widgets_values": [workflow.note],
        "color": NOTE[0],
        "bgcolor": NOTE[1],
    }


def main() -> None:
    with Server(find_host(ROOT)) as server:
        info = ComfyClient(server.port, server.alive).object_info()
    info["AIOR_LoadCompact"]["input"]["required"]["file"][1]["default"] = weights_file(info)
    made = {
        f"workflows/{workflow.name}.json": build(workflow, info)
        for workflow in (*WORKFLOWS, *LOOKING_WORKFLOWS, *VIDEO_WORKFLOWS, *SDXL_WORKFLOWS)
    }
    made |= {f"subgraphs/{blueprint.name}.json": build_blueprint(blueprint, info) for blueprint in BLUEPRINTS}
    for name, content in made.items():
        path = ROOT / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        print(name)


if __name__ == "__main__":
    main()
