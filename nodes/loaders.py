"""Loaders of AIOR weights."""

from comfy_api.latest import io

from ..aior_core.host.compact_model import load_compact
from ..aior_core.host.folders import fingerprint, weight_files, weight_path
from ..aior_core.host.restorer import load_restorer
from ..aior_core.host.unet_file import load_unet
from .named_errors import in_its_name
from .sockets import RESTORER

FILE = "A safetensors file from the pack's models folder or from ComfyUI/models/aior; of a file in several parts, the first."


class LoadCompact(io.ComfyNode):
    """Wraps `load_compact`."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AIOR_LoadCompact",
            display_name="Load AIOR Compact",
            category="image/restoration",
            description="Loads the small restoration model that comes with this pack: denoiser, autoencoder and restorer in one file.",
            search_aliases=[
                "AIOR",
                "restore",
                "photo repair",
                "denoise",
                "derain",
                "dehaze",
                "deblur",
                "enhance",
                "checkpoint",
            ],
            inputs=[io.Combo.Input("file", options=weight_files(), tooltip=FILE)],
            outputs=[
                io.Model.Output(
                    display_name="model", tooltip="The denoiser, for Apply DAFF and any sampler."
                ),
                io.Vae.Output(display_name="vae", tooltip="The autoencoder; stock VAE nodes take it too."),
                RESTORER.Output(
                    display_name="restorer", tooltip="LQ encoder, DAFF and DAEM, for the other AIOR nodes."
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, file: str) -> str:
        return fingerprint(file)

    @classmethod
    @in_its_name
    def execute(cls, file: str) -> io.NodeOutput:
        return io.NodeOutput(*load_compact(weight_path(file)))


class LoadRestorer(io.ComfyNode):
    """Wraps `load_restorer`."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AIOR_LoadRestorer",
            display_name="Load AIOR Restorer",
            category="image/restoration",
            description="Loads LQ encoder, DAFF and DAEM only, to go with a MODEL and a VAE of their own loaders; reads UniLDiff's and FaithDiff's files too.",
            search_aliases=[
                "AIOR",
                "UniLDiff",
                "FaithDiff",
                "SDXL restore",
                "photo repair",
                "denoise",
                "derain",
                "dehaze",
                "deblur",
            ],
            inputs=[io.Combo.Input("file", options=weight_files(), tooltip=FILE)],
            outputs=[
                RESTORER.Output(
                    display_name="restorer",
                    tooltip="For Encode Degradation Prior, Apply DAFF and DAEM Decode.",
                )
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, file: str) -> str:
        return fingerprint(file)

    @classmethod
    @in_its_name
    def execute(cls, file: str) -> io.NodeOutput:
        return io.NodeOutput(load_restorer(weight_path(file)))


class LoadUNet(io.ComfyNode):
    """Wraps `load_unet`."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AIOR_LoadUNet",
            display_name="Load AIOR UNet",
            category="image/restoration",
            description="The SDXL denoiser inside a UniLDiff or FaithDiff checkpoint, which was trained together with its restorer.",
            search_aliases=["AIOR", "UniLDiff", "FaithDiff", "SDXL restore", "diffusion model"],
            inputs=[io.Combo.Input("file", options=weight_files(), tooltip=FILE)],
            outputs=[
                io.Model.Output(
                    display_name="model",
                    tooltip="In the place of the MODEL of your SDXL checkpoint; its VAE and CLIP stay.",
                )
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, file: str) -> str:
        return fingerprint(file)

    @classmethod
    @in_its_name
    def execute(cls, file: str) -> io.NodeOutput:
        return io.NodeOutput(load_unet(weight_path(file)))
