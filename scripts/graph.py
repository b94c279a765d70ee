"""Converts a workflow as the browser saves it (UI format) into the prompt that the server runs (API format).

The browser does this in `app.graphToPrompt`. This module does the same without a browser. The server's
/object_info describes the nodes' inputs.
"""

from __future__ import annotations

from collections.abc import Iterator

from .subgraphs import PROMOTED, expand

MUTED, BYPASSED = 2, 4
_NOTES = {"Note", "MarkdownNote"}
WIDGET_TYPES = {
    "INT",
    "FLOAT",
    "STRING",
    "BOOLEAN",
    "COMBO",
    "COLOR",
    "COLORS",
    "BOUNDING_BOX",
    "BOUNDING_BOXES",
    "CURVE",
    "RANGE",
    "COMFY_DYNAMICCOMBO_V3",
}
# The browser does not save this widget, and sends two empty pictures for it.
_SENT_ALWAYS = {"IMAGECOMPARE": {"__value__": ["", ""]}}
_AFTER_SEED = {"fixed", "increment", "decrement", "randomize"}
UPLOADS = ("image_upload", "video_upload", "audio_upload", "model_upload")


class GraphError(ValueError):
    """The workflow cannot be converted into a prompt. The message names the node and the reason."""


def is_api_format(workflow: dict) -> bool:
    """Whether `workflow` is already a prompt: class_type and inputs by node id."""
    return bool(workflow) and all(
        isinstance(node, dict) and "class_type" in node for node in workflow.values()
    )


def to_prompt(workflow: dict, object_info: dict) -> dict[str, dict]:
    """The API-format prompt of a workflow of either format. Raises GraphError.

    Muted nodes and links from them are left out. Bypassed nodes pass their inputs on. Notes, reroutes and
    primitive nodes are resolved, and subgraphs expanded (`subgraphs.py`). Every node keeps its title in
    `_meta`, for messages.
    """
    if is_api_format(workflow):
        missing = sorted({node["class_type"] for node in workflow.values()} - object_info.keys())
        if missing:
            raise GraphError(_missing_text(missing))
        return {
            node_id: {**node, "inputs": dict(node.get("inputs", {}))} for node_id, node in workflow.items()
        }
    if not isinstance(workflow.get("nodes"), list):
        raise GraphError(
            "this JSON is no ComfyUI workflow: it has neither a list 'nodes' nor 'class_type' entries"
        )
    return _Graph(workflow, object_info).prompt()


def _missing_text(classes: list[str]) -> str:
    return (
        f"this workflow needs nodes that ComfyUI does not have: {', '.join(classes)}. "
        "Either their pack is not installed or its import failed (see the server's log)"
    )


def widget_slots(node: dict, object_info: dict) -> dict[str, int]:
    """The index in the node's `widgets_values` list of every input that the browser shows as a widget, by
    name.

    The browser stores one value per widget in the order of inputs. After a seed follows "control after
    generate", and after an upload its button. These are recognised by their values, because older files lack
    them.
    """
    values = node.get("widgets_values")
    slots: dict[str, int] = {}
    if not isinstance(values, list):
        return slots
    position = 0

    def place(specs: Iterator[tuple[str, list]], prefix: str) -> None:
        nonlocal position
        for name, spec in specs:
            options = spec[1] if len(spec) > 1 and isinstance(spec[1], dict) else {}
            if not is_widget(spec, options) or position >= len(values):
                continue
            full = prefix + name
            slots[full] = position
            position += 1
            if spec[0] == "COMFY_DYNAMICCOMBO_V3":
                chosen = next(
                    (
                        option
                        for option in options.get("options", [])
                        if option["key"] == values[position - 1]
                    ),
                    None,
                )
                if chosen:
                    place(_input_specs(chosen["inputs"]), f"{full}.")
            following = values[position] if position < len(values) else None
            controlled = options.get("control_after_generate") or name in ("seed", "noise_seed")
            if controlled and isinstance(following, str) and following in _AFTER_SEED:
                position += 1
            elif any(options.get(key) for key in UPLOADS) and following in (
                "image",
                "video",
                "audio",
                "upload",
                None,
            ):
                position += 1

    place(_input_specs(object_info[node["type"]]["input"], object_info[node["type"]].get("input_order")), "")
    return slots


def _input_specs(inputs: dict, order: dict | None = None) -> Iterator[tuple[str, list]]:
    for group in ("required", "optional"):
        for name in (order or {}).get(group) or inputs.get(group, {}):
            yield name, inputs[group][name]


def is_widget(spec: list, options: dict) -> bool:
    """Whether the browser shows an input as a widget, whose value a workflow saves."""
    kind = spec[0]
    if options.get("forceInput") or options.get("rawLink"):
        return False
    return isinstance(kind, list) or options.get("widgetType", kind) in WIDGET_TYPES


def kind_of(spec: list) -> str:
    """The type of an input with this specification."""
    return spec[0] if isinstance(spec[0], str) else "COMBO"


class _Graph:
    def __init__(self, workflow: dict, object_info: dict):
        self.info = object_info
        try:
            workflow = expand(workflow, self._runs)
        except (ValueError, KeyError, IndexError) as error:
            raise GraphError(f"a subgraph of this workflow cannot be expanded: {error!r}") from error
        self.nodes = {str(node["id"]): node for node in workflow["nodes"]}
        self.links: dict[object, tuple[str, int, str]] = {
            link["id"]: (str(link["origin_id"]), int(link["origin_slot"]), str(link.get("type")))
            for link in workflow["links"]
        }

    @staticmethod
    def _runs(node: dict) -> bool:
        return node.get("mode", 0) not in (MUTED, BYPASSED)

    @staticmethod
    def _label(node: dict) -> str:
        return f"node {node['id']} ({node.get('title') or node['type']})"

    def prompt(self) -> dict[str, dict]:
        real = {
            node_id: node
            for node_id, node in self.nodes.items()
            if self._runs(node) and node["type"] not in _NOTES | {"Reroute", "PrimitiveNode"}
        }
        missing = sorted({node["type"] for node in real.values()} - self.info.keys())
        if missing:
            raise GraphError(_missing_text(missing))
        prompt = {}
        for node_id, node in real.items():
            title = node.get("title") or self.info[node["type"]].get("display_name") or node["type"]
            prompt[node_id] = {
                "class_type": node["type"],
                "inputs": self._inputs(node),
                "_meta": {"title": title},
            }
        return prompt

    def _inputs(self, node: dict) -> dict[str, object]:
        values: dict | list | None = node.get("widgets_values")
        if isinstance(values, dict):
            names = {name for name, _ in _input_specs(self.info[node["type"]]["input"])}
            inputs = {name: value for name, value in values.items() if name in names}
        else:
            slots = widget_slots(node, self.info)
            inputs = {name: (values or [])[slot] for name, slot in slots.items()}
        inputs |= node.get(PROMOTED, {})
        # The server reads a list as a link. Wrapped like this it is a value.
        inputs = {
            name: {"__value__": value} if isinstance(value, list) else value for name, value in inputs.items()
        }
        inputs |= {
            name: _SENT_ALWAYS[spec[0]]
            for name, spec in _input_specs(self.info[node["type"]]["input"])
            if kind_of(spec) in _SENT_ALWAYS
        }
        for socket in node.get("inputs") or []:
            if socket.get("link") is None:
                continue
            source = self._source(socket["link"])
            if source is not None:
                inputs[socket["name"]] = source
            elif "widget" not in socket:
                inputs.pop(socket["name"], None)
        return inputs

    def _source(self, link_id: object, seen: tuple = ()) -> object | None:
        """The source of a link: `[node id, output]`, a primitive's value, or None if muted or missing."""
        if link_id in seen:
            raise GraphError(f"link {link_id} is part of a cycle")
        if link_id not in self.links:
            return None
        origin, slot, kind = self.links[link_id]
        node = self.nodes.get(origin)
        if node is None or node.get("mode", 0) == MUTED:
            return None
        if node["type"] == "PrimitiveNode" and self._runs(node):
            return next(iter(node.get("widgets_values") or []), None)
        through = None
        if node["type"] == "Reroute":
            through = next(iter(node.get("inputs") or []), None)
        elif node.get("mode", 0) == BYPASSED:
            through = self._bypass(node, slot, kind)
        else:
            return [origin, slot]
        if through is None or through.get("link") is None:
            return None
        return self._source(through["link"], (*seen, link_id))

    @staticmethod
    def _bypass(node: dict, slot: int, kind: str) -> dict | None:
        """The input that a bypassed node passes to output `slot`.

        It is the input at the same place if its type fits, otherwise the first whose type fits.
        """
        inputs = node.get("inputs") or []
        outputs = node.get("outputs") or []
        wanted = str(outputs[slot]["type"]) if slot < len(outputs) else kind

        def fits(socket: dict) -> bool:
            return "*" in (wanted, socket.get("type")) or bool(
                set(wanted.split(",")) & set(str(socket.get("type")).split(","))
            )

        same_place = inputs[slot : slot + 1]
        return next((socket for socket in (*same_place, *inputs) if fits(socket)), None)


def find_nodes(prompt: dict, class_type: str) -> list[str]:
    """Ids of the nodes of one class, in the prompt's order."""
    return [node_id for node_id, node in prompt.items() if node["class_type"] == class_type]


def override(prompt: dict, object_info: dict, names: tuple[str, ...], value: object) -> list[str]:
    """Set the number inputs called one of `names` on every node that has them. Returns the nodes' ids."""
    changed = []
    for node_id, node in prompt.items():
        for name, spec in _input_specs(object_info[node["class_type"]]["input"]):
            if name in names and spec[0] in ("INT", "FLOAT"):
                node["inputs"][name] = value
                changed.append(node_id)
    return changed


def sync_widgets(workflow: dict, prompt: dict, object_info: dict) -> dict:
    """A copy of a workflow in UI format whose widgets have the prompt's values.

    A saved picture holds it, and brings it back when it is dropped on ComfyUI. A workflow in API format is
    returned as it is.
    """
    if is_api_format(workflow):
        return workflow
    nodes = []
    for node in workflow["nodes"]:
        inputs = prompt.get(str(node["id"]), {}).get("inputs", {})
        if inputs and isinstance(node.get("widgets_values"), list):
            values = list(node["widgets_values"])
            for name, slot in widget_slots(node, object_info).items():
                if name in inputs and not isinstance(inputs[name], (list, dict)):
                    values[slot] = inputs[name]
            node = {**node, "widgets_values": values}
        nodes.append(node)
    return {**workflow, "nodes": nodes}
