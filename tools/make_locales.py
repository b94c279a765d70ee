"""Writes locales/en/ from the nodes themselves, so that it never says anything else than they do.

    python3 -m tools.make_locales

The other languages are written by hand, in the same shape: nodeDefs.json has a node's display name and description, and of every
input and output its label and tooltip; main.json has the category. The choices of a combo have no place in ComfyUI's format: they
stay as they are, and tooltips name them so. `tests/unit/test_locales.py` says what is missing where.
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
"""Parts of a category's path that ComfyUI has words for in all its languages."""


def english(info: Mapping[str, dict]) -> dict[str, dict]:
    """File name to content of locales/en, from `/object_info`, in which nodes of others may be."""
    nodes = {name: node for name, node in info.items() if name.startswith(OURS)}
    parts = (part for node in nodes.values() for part in node["category"].split("/"))
    categories = {part: part for part in sorted(set(parts) - HOST_CATEGORIES)}
    return {
        "main.json": {"nodeCategories": categories},
        "nodeDefs.json": {name: node_words(node) for name, node in nodes.items()},
    }


def node_words(node: dict) -> dict:
    """One node's entry in nodeDefs.json, from its entry in `/object_info`. Outputs have their numbers for names, as text."""
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
