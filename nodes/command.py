"""Nodes that `aior.py restore` uses instead of Load Image and Save Image; only its own server has them."""

from comfy_api.latest import io

from ..aior_core.host.picture_files import load_source, save_results
from .sockets import CATEGORY

SOURCE = io.Custom("AIOR_PICTURE_FILE")


class ReadPicture(io.ComfyNode):
    """Wraps `load_source`. The first two outputs are the same as those of Load Image."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AIOR_ReadPicture",
            display_name="Read Picture",
            category=CATEGORY,
            inputs=[io.String.Input("file"), io.String.Input("format")],
            outputs=[io.Image.Output(), io.Mask.Output(), SOURCE.Output()],
        )

    @classmethod
    def execute(cls, file: str, format: str) -> io.NodeOutput:
        return io.NodeOutput(*load_source(file, format))


class WritePicture(io.ComfyNode):
    """Wraps `save_results`."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AIOR_WritePicture",
            display_name="Write Picture",
            category=CATEGORY,
            is_output_node=True,
            inputs=[io.Image.Input("images"), SOURCE.Input("source"), io.String.Input("settings")],
            outputs=[],
        )

    @classmethod
    def execute(cls, images, source, settings: str) -> io.NodeOutput:
        return io.NodeOutput(
            ui={"images": save_results(images, source, settings), "aior_remarks": list(source.remarks)}
        )


NODES = [ReadPicture, WritePicture]
