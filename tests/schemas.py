"""The server's /object_info for nodes, made from their classes, without a server."""

from __future__ import annotations

import asyncio
import importlib
import sys
from pathlib import Path

# Where ComfyUI defines the nodes that are not in its nodes.py.
EXTRAS = ("custom_sampler", "upscale_model", "mask", "preview_any", "dataset", "video", "images")


def object_info(kinds: set[str]) -> dict[str, dict]:
    """The entries of `kinds`: nodes of this pack, of ComfyUI's nodes.py, and of `EXTRAS`.

    Raises KeyError for any other.
    """
    from aior_pack.nodes import NODES

    import nodes as host

    classes = dict(host.NODE_CLASS_MAPPINGS)
    for name in EXTRAS:
        module = _extra(f"comfy_extras.nodes_{name}", Path(host.__file__).parent)
        classes |= getattr(module, "NODE_CLASS_MAPPINGS", None) or {}
        if hasattr(module, "comfy_entrypoint"):
            classes |= {value.GET_SCHEMA().node_id: value for value in asyncio.run(_new_kind(module))}
    classes |= {value.GET_SCHEMA().node_id: value for value in NODES}
    return {name: _describe(classes[name]) for name in kinds}


def _extra(name: str, comfyui: Path):
    # nodes.py puts comfy/ before all else on the path, and its utils.py hides the package that older servers
    # need.
    if not hasattr(sys.modules.get("utils"), "__path__"):
        sys.modules.pop("utils", None)
    sys.path.insert(0, str(comfyui))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(comfyui))


async def _new_kind(module) -> list[type]:
    return await (await module.comfy_entrypoint()).get_node_list()


def _describe(kind: type) -> dict:
    inputs = kind.INPUT_TYPES()
    names = list(getattr(kind, "RETURN_NAMES", None) or kind.RETURN_TYPES)
    return {
        "input": inputs,
        "input_order": {group: list(value) for group, value in inputs.items()},
        "output": [str(name) for name in kind.RETURN_TYPES],
        "output_name": names,
        "display_name": kind.__name__,
    }
