"""AIOR: all-in-one image restoration for ComfyUI."""

from __future__ import annotations

WEB_DIRECTORY = "./web"
__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]


async def comfy_entrypoint():
    """Return the pack's nodes. ComfyUI calls it.

    ComfyUI is imported here, so that the package can be imported without it.
    """
    import os

    from comfy_api.latest import ComfyExtension

    from .nodes import NODES

    # Set by `aior.py restore` for the server that it starts.
    if os.environ.get("AIOR_COMMAND"):
        from .nodes.command import NODES as COMMAND_NODES
    else:
        COMMAND_NODES = []

    class AIOR(ComfyExtension):
        async def get_node_list(self):
            return NODES + COMMAND_NODES

    return AIOR()
