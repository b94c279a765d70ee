"""Replaces subgraph nodes by the nodes inside them, as the browser does before it sends a prompt."""

from __future__ import annotations

import json
from collections.abc import Callable

INPUTS, OUTPUTS = "-10", "-20"
"""Node ids that links inside a subgraph use for its own inputs and outputs."""
PROMOTED = "_promoted"
"""Key of values that a subgraph node gives to widgets of its inner nodes. They override `widgets_values`."""
LINK = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")


def expand(workflow: dict, runs: Callable[[dict], bool]) -> dict:
    """`workflow` without subgraphs. Node 3 inside subgraph node 5 gets the id "5:3". Links become dicts.

    Nodes for which `runs(node)` is false stay as they are. Raises ValueError for a subgraph that contains
    itself, KeyError for a broken file.
    """
    definitions = {graph["id"]: graph for graph in (workflow.get("definitions") or {}).get("subgraphs", [])}
    nodes = {str(node["id"]): node for node in workflow["nodes"]}
    links = {str(link["id"]): link for link in map(_as_dict, workflow.get("links") or [])}
    while hosts := [node_id for node_id, node in nodes.items() if node["type"] in definitions and runs(node)]:
        # Every level of nesting adds an id. Nesting deeper than the number of subgraphs means a cycle.
        if hosts[0].count(":") >= len(definitions):
            raise ValueError(
                f"the subgraph {definitions[nodes[hosts[0]]['type']].get('name')} contains itself"
            )
        host = nodes.pop(hosts[0])
        _inline(hosts[0], host, definitions[host["type"]], nodes, links)
    return {**workflow, "nodes": list(nodes.values()), "links": list(links.values()), "definitions": {}}


def _inline(host_id: str, host: dict, graph: dict, nodes: dict[str, dict], links: dict[str, dict]) -> None:
    """Add the nodes and links of `graph` to `nodes` and `links`, connected as `host` is."""
    inner = {f"{host_id}:{node['id']}": json.loads(json.dumps(node)) for node in graph["nodes"]}
    _promote(host_id, host, graph, inner)
    results = _inline_links(host_id, host, graph, inner, links)
    for link_id, link in list(links.items()):
        if str(link["origin_id"]) == host_id:
            result = results.get(link["origin_slot"])
            # Without a result the link goes, and the input that it fed is open.
            links.pop(link_id)
            if result:
                links[link_id] = {
                    **link,
                    "origin_id": result["origin_id"],
                    "origin_slot": result["origin_slot"],
                }
    for node_id, node in inner.items():
        nodes[node_id] = {**node, "id": node_id}


def _inline_links(
    host_id: str, host: dict, graph: dict, inner: dict[str, dict], links: dict[str, dict]
) -> dict[int, dict]:
    """Add the links of `graph` to `links`, and set them in the `inner` nodes.

    Returns the link that feeds each output of the subgraph, by the output's number.
    """
    outer = {slot["name"]: slot.get("link") for slot in host.get("inputs") or []}
    feeds = [links.get(str(outer.get(slot["name"]))) for slot in graph.get("inputs") or []]
    results: dict[int, dict] = {}
    for link in map(_as_dict, graph.get("links") or []):
        target = f"{host_id}:{link['target_id']}"
        if str(link["origin_id"]) == INPUTS:
            feed = feeds[link["origin_slot"]]
            # Where the subgraph's input is open, the inner node's own widget applies.
            made = {**feed, "type": link["type"]} if feed else None
        else:
            made = {**link, "origin_id": f"{host_id}:{link['origin_id']}"}
        if str(link["target_id"]) == OUTPUTS:
            if made:
                results[link["target_slot"]] = made
            continue
        for slot in inner[target].get("inputs") or []:
            if slot.get("link") == link["id"]:
                slot["link"] = f"{host_id}:{link['id']}" if made else None
        if made:
            links[f"{host_id}:{link['id']}"] = {
                **made,
                "id": f"{host_id}:{link['id']}",
                "target_id": target,
                "target_slot": link["target_slot"],
            }
    return results


def _promote(host_id: str, host: dict, graph: dict, inner: dict[str, dict]) -> None:
    """Give the inner nodes the values of the widgets that `host` shows for them."""
    by_input = {slot["name"]: position for position, slot in enumerate(graph.get("inputs") or [])}
    values = host.get("widgets_values")
    shown = (host.get("properties") or {}).get("proxyWidgets")
    if not isinstance(shown, list):
        shown = [["-1", slot["name"]] for slot in host.get("inputs") or [] if "widget" in slot]
    given = [
        (str(entry[0]), entry[1], value)
        for entry, value in zip(shown, values if isinstance(values, list) else [])
        if value is not None
    ]
    given += [("-1", name, value) for name, value in host.get(PROMOTED, {}).items()]
    for node, name, value in given:
        if node != "-1":
            if f"{host_id}:{node}" in inner:
                inner[f"{host_id}:{node}"].setdefault(PROMOTED, {})[name] = value
            continue
        for link in map(_as_dict, graph.get("links") or []):
            if (
                str(link["origin_id"]) == INPUTS
                and link["origin_slot"] == by_input.get(name)
                and str(link["target_id"]) != OUTPUTS
            ):
                target = inner[f"{host_id}:{link['target_id']}"]
                target.setdefault(PROMOTED, {})[target["inputs"][link["target_slot"]]["name"]] = value


def _as_dict(link: list | dict) -> dict:
    return dict(link) if isinstance(link, dict) else dict(zip(LINK, link))
