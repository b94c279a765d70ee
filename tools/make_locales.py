"""Writes locales/en/ from the nodes, so that both always agree.

    python3 -m tools.make_locales

The other languages are written by hand, in the same form. nodeDefs.json has the display name and the
description of a node, and label and tooltip of its inputs and outputs. main.json has the category. ComfyUI's
format has no place for the choices of a combo, so they stay in English, and tooltips use them as they are.
`tests/unit/test_locales.py` finds what is missing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from scripts.client import ComfyClient
from scripts.host import find_host
from scripts.server import Server

ROOT = Path(__file__).resolve().parents[1]
LOCALES = ROOT / "locales"
OURS = "AIOR_"
HOST_CATEGORIES = {"image"}
"""Parts of a category's path that ComfyUI itself translates."""


def english(info: Mapping[str, dict]) -> dict[str, dict]:
    """The content of locales/en by file name, from `/object_info`. Nodes of other packs are left out."""
    nodes = {name: node for name, node in info.items() if name.startswith(OURS)}
    parts = (part for node in nodes.values() for part in node["category"].split("/"))
    categories = {part: part for part in sorted(set(parts) - HOST_CATEGORIES)}
    return {
        "main.json": {"nodeCategories": categories},
        "nodeDefs.json": {name: node_words(node) for name, node in nodes.items()},
    }


def node_words(node: dict) -> dict:
    """A node's entry in nodeDefs.json, from that in `/object_info`. Outputs are named by their numbers."""
    inputs = {}
    for section in ("required", "optional"):
        for name, (_, *options) in node["input"].get(section, {}).items():
            known = options[0] if options else {}
            inputs[name] = {"name": known.get("display_name") or name, "tooltip": known.get("tooltip")}
    outputs = {
        str(slot): {"name": name, "tooltip": tooltip}
        for slot, (name, tooltip) in enumerate(zip(node["output_name"], node["output_tooltips"], strict=True))
    }
    words = {
        "display_name": node["display_name"],
        "description": node["description"],
        "inputs": inputs,
        "outputs": outputs,
    }
    return {key: value for key, value in words.items() if value}


def main() -> None:
    with Server(find_host(ROOT)) as server:
        info = ComfyClient(server.port, server.alive).object_info()
    for name, content in english(info).items():
        path = LOCALES / "en" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
