"""Converts the columns of nodes in the tables into nodes, links and groups in the form that the browser
saves.

Sockets, widgets and their order come from the server's /object_info. Nodes stand in columns from left to
right. Each column becomes a group; neighbouring columns with one title share a group.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from scripts import graph

from .workflow_pieces import Column, Node

TESTED_WITH = "0.30.0"
GAP, COLUMN_GAP, TITLE, SLOT, WIDGET = 40, 90, 30, 20, 30
# Heights of a widget on the canvas, of a picture below the last widget, and of a text below that.
DRAWN_WIDGET, PREVIEW, SUMMARY = 24, 240, 150
# The same in Nodes 2.0, where nodes end with the name of their pack.
MODERN_WIDGET, PACK_NAME = 32, 48
PADDING, GROUP_TITLE = 20, 50
# Nodes that show a picture or a text below their widgets, and the height of that.
SHOWS = {
    "LoadImage": 330,
    "SaveImage": 330,
    "PreviewImage": 300,
    "PreviewAny": 210,
    "MaskPreview": 300,
    "LoadVideo": 300,
    "SaveVideo": 300,
    "CLIPTextEncode": 60,
    "AIOR_EncodePrior": 45,
    "AIOR_PriorReport": 195,
    "AIOR_Measure": 120,
    "AIOR_SaveRestorer": 90,
}
# Nodes that show a preview while they run, and its height, which stays free below them.
GROWING = {
    "AIOR_DAFFSampler": PREVIEW,
    "AIOR_TrainRestorer": PREVIEW + SUMMARY,
    "KSampler": PREVIEW,
    "SamplerCustomAdvanced": PREVIEW,
}
# The browser does not save this widget. It puts the value into the prompt when it runs.
NOT_SAVED = "IMAGECOMPARE"


@dataclass(frozen=True)
class Laid:
    """A laid out graph.

    `nodes` and `groups` are in the form that the browser saves. `links` are (id, source, its output, target,
    its input, type). `ids` are those of the nodes by their names in the table. `width` is the total width in
    pixels.
    """

    nodes: list[dict]
    links: list[list]
    groups: list[dict]
    ids: dict[str, int]
    width: int


@dataclass(frozen=True)
class Source:
    """A start of links: its id, its outputs as (name, type), and the values that linked widgets show."""

    id: int
    outputs: tuple[tuple[str, str], ...]
    values: tuple = ()


def is_widget(spec: list) -> bool:
    """Whether the browser shows this input as a widget, and not only as a socket."""
    options = spec[1] if len(spec) > 1 else {}
    return graph.is_widget(spec, options) or spec[0] == NOT_SAVED


def default_value(spec: list):
    """The value of a widget for which the table has none."""
    options = spec[1] if len(spec) > 1 else {}
    choices = spec[0] if isinstance(spec[0], list) else options.get("options", [])
    first = choices[0]["key"] if choices and isinstance(choices[0], dict) else choices[0] if choices else None
    zero = {"INT": 0, "FLOAT": 0.0, "STRING": "", "BOOLEAN": False}.get(
        spec[0] if isinstance(spec[0], str) else ""
    )
    return options.get("default", first if choices else zero)


def specs(info: dict, kind: str) -> list[tuple[str, list, bool]]:
    """Name, specification and whether it is optional, of every input of a class, in the browser's order.

    Sockets come first, then widgets. The links of subgraphs refer to inputs by their position in this order.
    """
    entry = info[kind]
    declared = [
        (name, entry["input"][group][name], group == "optional")
        for group in ("required", "optional")
        for name in entry.get("input_order", entry["input"]).get(group, [])
    ]
    return sorted(declared, key=lambda item: is_widget(item[1]))


def lay_out(
    columns: Iterable[Column], info: dict, *, first: int, left: int, ports: dict[str, Source] | None = None
) -> Laid:
    """Lay out the nodes of `columns` from the x coordinate `left` on. Their ids start at `first`.

    `ports` are further starts of links. Raises KeyError for a node, input or output that does not exist.
    """
    columns = tuple(columns)
    described = [node for column in columns for node in column.nodes]
    ids = {node.name: number for number, node in enumerate(described, first)}
    sources = {
        node.name: Source(
            ids[node.name], tuple(zip(info[node.type]["output_name"], info[node.type]["output"]))
        )
        for node in described
    }
    nodes: list[dict] = []
    links: list[list] = []
    groups: list[dict] = []
    x = left
    for column in columns:
        y, start = 0, x
        bottom = 0
        for node in column.nodes:
            made = _node(node, ids[node.name], sources | (ports or {}), info, links)
            made["pos"], made["order"] = [start, y], len(nodes)
            height = _room(made)
            bottom = y + height
            y += height + TITLE + GAP
            x = max(x, start + made["size"][0])
            nodes.append(made)
        _add_group(groups, column, [start, 0, x - start, bottom])
        x += COLUMN_GAP
    by_id = {node["id"]: node for node in nodes}
    for link in links:
        if link[1] in by_id:
            slot = by_id[link[1]]["outputs"][link[2]]
            slot["links"] = [*(slot["links"] or []), link[0]]
    return Laid(nodes, links, groups, ids, x - COLUMN_GAP - left)


def _node(node: Node, number: int, sources: dict[str, Source], info: dict, links: list) -> dict:
    inputs, values, known = [], [], specs(info, node.type)
    unknown = set(node.inputs) - {name for name, _, _ in known}
    if unknown:
        raise KeyError(f"{node.type} has no input {', '.join(sorted(unknown))}")
    for name, spec, optional in known:
        given = node.inputs.get(name)
        source, _, output = given.partition(".") if isinstance(given, str) else ("", "", "")
        linked = source in sources and bool(output)
        kind = graph.kind_of(spec)
        slot = {
            "name": name,
            "type": kind,
            **({"shape": 7} if optional and not is_widget(spec) else {}),
            "link": None,
        }
        shown = None if linked else given
        if linked:
            start = sources[source]
            position = [label for label, _ in start.outputs].index(output)
            links.append(
                [len(links) + 1, start.id, position, number, len(inputs), start.outputs[position][1]]
            )
            slot["link"] = len(links)
            shown = start.values[position] if start.values else None
        inputs.append(slot)
        if is_widget(spec):
            slot["widget"] = {"name": name}
            values += _values(spec, default_value(spec) if shown is None else shown)
            options = spec[1] if len(spec) > 1 else {}
            if any(options.get(upload) for upload in graph.UPLOADS):
                inputs.append(
                    {"name": "upload", "type": "IMAGEUPLOAD", "widget": {"name": "upload"}, "link": None}
                )
    entry = info[node.type]
    outputs = [
        {"name": name, "type": kind, "links": None}
        for name, kind in zip(entry["output_name"], entry["output"])
    ]
    own = {} if node.type.startswith("AIOR_") else {"cnr_id": "comfy-core", "ver": TESTED_WITH}
    height = (
        _sockets(inputs, outputs) * SLOT + len(values) * WIDGET + 20 + SHOWS.get(node.type, 0) + node.more
    )
    made = {
        "id": number,
        "type": node.type,
        "pos": [0, 0],
        "size": [node.width, height],
        "flags": {},
        "order": 0,
        "mode": 0,
        "inputs": inputs,
        "outputs": outputs,
        "properties": {"Node name for S&R": node.type, **own},
        "widgets_values": values,
    }
    return made | ({"title": node.title} if node.title else {})


def _sockets(inputs: list[dict], outputs: list[dict]) -> int:
    """Number of rows of sockets of a node."""
    return max(sum("widget" not in slot for slot in inputs), len(outputs))


def _room(made: dict) -> int:
    """The height to keep free for a node: its own, or the one it grows to while it runs."""
    sockets, widgets = _sockets(made["inputs"], made["outputs"]) * SLOT, len(made["widgets_values"])
    with_preview = sockets + widgets * DRAWN_WIDGET + GROWING[made["type"]] if made["type"] in GROWING else 0
    modern = (
        sockets + widgets * MODERN_WIDGET + PACK_NAME + SHOWS.get(made["type"], 0)
        if made["type"].startswith("AIOR_")
        else 0
    )
    return max(made["size"][1], with_preview, modern)


def _values(spec: list, value: object) -> list:
    """The saved values of a widget: its own, and those of the widgets that the browser adds after it."""
    options = spec[1] if len(spec) > 1 else {}
    if spec[0] == NOT_SAVED:
        return []
    more = (
        ["fixed"]
        if options.get("control_after_generate")
        else ["image"]
        if any(options.get(upload) for upload in graph.UPLOADS)
        else []
    )
    return [value, *more]


def _add_group(groups: list[dict], column: Column, box: list[int]) -> None:
    x, y, width, height = box
    bounding = [
        x - PADDING,
        y - TITLE - GROUP_TITLE,
        width + 2 * PADDING,
        height + TITLE + GROUP_TITLE + PADDING,
    ]
    if groups and groups[-1]["title"] == column.title:
        last = groups[-1]["bounding"]
        last[2] = bounding[0] + bounding[2] - last[0]
        last[3] = max(last[3], bounding[3])
        return
    groups.append(
        {
            "id": len(groups) + 1,
            "title": column.title,
            "bounding": bounding,
            "color": column.color,
            "font_size": 24,
            "flags": {},
        }
    )
