"""Converts a blueprint of the table into the file that ComfyUI serves: one subgraph node and its definition.

The browser offers it as a node.
"""

from __future__ import annotations

import uuid

from scripts import subgraphs
from scripts.subgraphs import LINK

from .blueprint_table import Blueprint
from .layout import SLOT, WIDGET, Source, lay_out

CATEGORY = "Image Tools/Restoration"
INPUTS, OUTPUTS = int(subgraphs.INPUTS), int(subgraphs.OUTPUTS)
"""Node ids that links inside a subgraph use for its own inputs and outputs."""
BORDER, GAP = 120, 100
"""Width of the boxes for inputs and outputs inside a subgraph, and their distance from the nodes."""


def build(blueprint: Blueprint, info: dict) -> dict:
    """The blueprint's file. Raises KeyError or ValueError for an unknown node, input or output."""
    ports = {
        "in": Source(
            INPUTS,
            tuple((port.name, port.type) for port in blueprint.inputs),
            tuple(port.default for port in blueprint.inputs),
        )
    }
    laid = lay_out(blueprint.columns, info, first=1, left=0, ports=ports)
    links = [dict(zip(LINK, link)) for link in laid.links]
    outputs = []
    for position, (name, place) in enumerate(blueprint.outputs.items()):
        node, _, output = place.partition(".")
        made = next(made for made in laid.nodes if made["id"] == laid.ids[node])
        slot = [slot["name"] for slot in made["outputs"]].index(output)
        kind = made["outputs"][slot]["type"]
        links.append(dict(zip(LINK, (len(links) + 1, made["id"], slot, OUTPUTS, position, kind))))
        made["outputs"][slot]["links"] = [*(made["outputs"][slot]["links"] or []), len(links)]
        outputs.append(
            {"id": _id(blueprint, "out", name), "name": name, "type": kind, "linkIds": [len(links)]}
        )
    inputs = [
        {
            "id": _id(blueprint, "in", port.name),
            "name": port.name,
            "type": port.type,
            "linkIds": [
                link["id"] for link in links if (link["origin_id"], link["origin_slot"]) == (INPUTS, slot)
            ],
        }
        for slot, port in enumerate(blueprint.inputs)
    ]
    definition = {
        "id": _id(blueprint),
        "version": 1,
        "revision": 0,
        "config": {},
        "name": blueprint.name,
        "state": {
            "lastGroupId": len(laid.groups),
            "lastNodeId": len(laid.nodes),
            "lastLinkId": len(links),
            "lastRerouteId": 0,
        },
        "inputNode": {"id": INPUTS, "bounding": [-GAP - BORDER, 0, BORDER, 40 + SLOT * len(inputs)]},
        "outputNode": {"id": OUTPUTS, "bounding": [laid.width + GAP, 0, BORDER, 40 + SLOT * len(outputs)]},
        "inputs": inputs,
        "outputs": outputs,
        "widgets": [],
        "nodes": laid.nodes,
        "groups": laid.groups,
        "links": links,
        "extra": {},
        "category": CATEGORY,
        "description": blueprint.description,
    }
    return {
        "id": _id(blueprint, "file"),
        "revision": 0,
        "last_node_id": 1,
        "last_link_id": 0,
        "nodes": [_instance(blueprint, outputs)],
        "links": [],
        "groups": [],
        "definitions": {"subgraphs": [definition]},
        "config": {},
        "extra": {
            "BlueprintDescription": blueprint.description,
            "BlueprintSearchAliases": list(blueprint.aliases),
        },
        "version": 0.4,
    }


def _instance(blueprint: Blueprint, outputs: list[dict]) -> dict:
    widgets = [port for port in blueprint.inputs if port.default is not None]
    sockets = max(len(blueprint.inputs) - len(widgets), len(outputs))
    inputs = [
        {
            "name": port.name,
            "type": port.type,
            **({"widget": {"name": port.name}} if port in widgets else {}),
            "link": None,
        }
        for port in blueprint.inputs
    ]
    size = [320, 20 + SLOT * sockets + WIDGET * len(widgets)]
    return {
        "id": 1,
        "type": _id(blueprint),
        "pos": [0, 0],
        "size": size,
        "flags": {},
        "order": 0,
        "mode": 0,
        "inputs": inputs,
        "outputs": [{"name": slot["name"], "type": slot["type"], "links": []} for slot in outputs],
        "title": blueprint.name,
        "properties": {},
        "widgets_values": [port.default for port in widgets],
    }


def _id(blueprint: Blueprint, *parts: str) -> str:
    """A UUID that is always the same for the same place."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "/".join(("aior/subgraphs", blueprint.name, *parts))))
