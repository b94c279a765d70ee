"""Loaders of AIOR weights."""

from comfy_api.latest import io

from ..aior_core.host.compact_model import load_compact
from ..aior_core.host.folders import fingerprint, weight_files, weight_path
from ..aior_core.host.restorer import load_restorer
from ..aior_core.host.unet_file import load_unet
from .named_errors import RestorationNode
from .sockets import CATEGORY, RESTORER


def file_input() -> io.Combo.Input:
    return io.Combo.Input(
        "file",
        options=weight_files(),
        tooltip="A safetensors file from the pack's models folder or from ComfyUI/models/aior. "
        "If the weights come in several files, choose the first one.",
    )


class WeightsLoader(RestorationNode):
    """Base class of the loaders: a node runs again when its file has changed."""

    @classmethod
    def fingerprint_inputs(cls, file: str) -> str:
        return fingerprint(file)


class LoadCompact(WeightsLoader):
    """Wraps `load_compact`."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AIOR_LoadCompact",
            display_name="Load AIOR Compact",
            category=CATEGORY,
            description="Loads the small restoration model that comes with this pack: "
            "denoiser, autoencoder and restorer in one file.",
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
            inputs=[file_input()],
            outputs=[
                io.Model.Output(
                    display_name="model", tooltip="The denoiser, for Apply DAFF and any sampler."
                ),
                io.Vae.Output(
                    display_name="vae", tooltip="The autoencoder. ComfyUI's own VAE nodes accept it too."
                ),
                RESTORER.Output(
                    display_name="restorer", tooltip="LQ encoder, DAFF and DAEM, for the other AIOR nodes."
                ),
            ],
        )

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        return io.NodeOutput(*load_compact(weight_path(file)))


class LoadRestorer(WeightsLoader):
    """Wraps `load_restorer`."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AIOR_LoadRestorer",
            display_name="Load AIOR Restorer",
            category=CATEGORY,
            description="Loads only the LQ encoder, DAFF and DAEM, for a MODEL and a VAE from other loaders. "
            "It also reads the checkpoints of UniLDiff and FaithDiff.",
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
            inputs=[file_input()],
            outputs=[
                RESTORER.Output(
                    display_name="restorer",
                    tooltip="For Encode Degradation Prior, Apply DAFF and DAEM Decode.",
                )
            ],
        )

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        return io.NodeOutput(load_restorer(weight_path(file)))


class LoadUNet(WeightsLoader):
    """Wraps `load_unet`."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AIOR_LoadUNet",
            display_name="Load AIOR UNet",
            category=CATEGORY,
            description="Loads the SDXL denoiser from a checkpoint of UniLDiff or FaithDiff. "
            "It was trained together with the restorer in that checkpoint.",
            search_aliases=["AIOR", "UniLDiff", "FaithDiff", "SDXL restore", "diffusion model"],
            inputs=[file_input()],
            outputs=[
                io.Model.Output(
                    display_name="model",
                    tooltip="Use it instead of the MODEL of your SDXL checkpoint, with the same VAE and "
                    "CLIP.",
                )
            ],
        )

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        return io.NodeOutput(load_unet(weight_path(file)))
