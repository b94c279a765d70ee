"""AIOR: one restoration model for noise, blur, low resolution, rain, snow, haze, low light and JPEG, as ComfyUI nodes."""

from __future__ import annotations

WEB_DIRECTORY = "./web"
__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]


async def comfy_entrypoint():
    """What ComfyUI calls to get the nodes; imported only then, so that this package imports without ComfyUI."""
    from comfy_api.latest import ComfyExtension

    from .nodes import NODES

    class AIOR(ComfyExtension):
        async def get_node_list(self):
            return NODES

    return AIOR()
