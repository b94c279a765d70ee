"""DAEM: decodes a latent with detail from the damaged picture."""

from comfy_api.latest import io

from ..aior_core.host.daem_decode import COLOR_FIXES, MIRRORED, decode_daem
from .named_errors import RestorationNode
from .sockets import CATEGORY, SEARCHED, prior_input, restorer_input, strength_input, tile_input, vae_input


class DecodeDAEM(RestorationNode):
    """Wraps `decode_daem`."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AIOR_DecodeDAEM",
            display_name="DAEM Decode",
            category=CATEGORY,
            description="Decodes a restored latent with fine detail from the damaged picture, in exactly "
            "its size. DAEM stands for Detail-Aware Expert Module.",
            search_aliases=[*SEARCHED, "detail", "vae decode", "UniLDiff"],
            inputs=[
                io.Latent.Input(
                    "samples",
                    tooltip="The restored latent, from DAFF Sampler or any other sampler. With a noise mask, "
                    "everything outside of the mask is returned unchanged.",
                ),
                vae_input(),
                restorer_input(),
                prior_input(
                    "From Encode Degradation Prior. It brings the size, alpha and detail of the damaged "
                    "picture."
                ),
                strength_input("Strength of DAEM. 1 is the method as trained, 0 is the plain decoder."),
                tile_input(
                    "Size of the tiles in pixels, to save memory. With the compact model the result stays "
                    "the same. 0 takes the whole picture, or the largest tile that fits."
                ),
                io.Combo.Input(
                    "color_fix",
                    options=list(COLOR_FIXES),
                    default="none",
                    advanced=True,
                    tooltip="Takes the colours from the damaged picture. "
                    "Do not use it for haze or low light, where the colours are the damage.",
                ),
                io.Int.Input(
                    "ensemble",
                    default=1,
                    min=1,
                    max=len(MIRRORED),
                    optional=True,
                    tooltip="Averages this many mirrored copies, decoded one after another. "
                    "2 takes twice as long to decode and is slightly more accurate. 1 turns it off.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="image",
                    tooltip="The restored picture, in exactly its original size and with its original alpha.",
                )
            ],
        )

    @classmethod
    def execute(
        cls, samples, vae, restorer, prior, strength: float, tile: int, color_fix: str, ensemble: int = 1
    ) -> io.NodeOutput:
        image = decode_daem(
            samples,
            vae,
            restorer,
            prior,
            strength=strength,
            tile=tile,
            color_fix=color_fix,
            ensemble=ensemble,
        )
        return io.NodeOutput(image)
