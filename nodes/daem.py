"""DAEM: decoding with the damaged picture's own detail."""

from comfy_api.latest import io

from ..aior_core.host.daem_decode import COLOR_FIXES, MIRRORED, decode_daem
from .named_errors import in_its_name
from .sockets import PRIOR, RESTORER, SEARCHED


class DecodeDAEM(io.ComfyNode):
    """Wraps `decode_daem`."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AIOR_DecodeDAEM",
            display_name="DAEM Decode",
            category="image/restoration",
            description="Decodes a restored latent with detail from the damaged picture, in exactly its size: Detail-Aware Expert Module.",
            search_aliases=[*SEARCHED, "detail", "vae decode", "UniLDiff"],
            inputs=[
                io.Latent.Input(
                    "samples",
                    tooltip="The restored latent, from DAFF Sampler or any sampler. With a noise mask, everything outside "
                    "of it comes back as it came in.",
                ),
                io.Vae.Input("vae", tooltip="The VAE that goes with the restorer."),
                RESTORER.Input("restorer", tooltip="The restorer that the prior was made with."),
                PRIOR.Input(
                    "prior",
                    tooltip="From Encode Degradation Prior: size, alpha and detail of the damaged picture.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=2.0,
                    step=0.01,
                    tooltip="How much of DAEM is added: 1 is the method, 0 the plain decoder.",
                ),
                io.Int.Input(
                    "tile",
                    default=0,
                    min=0,
                    max=8192,
                    step=64,
                    advanced=True,
                    tooltip="Side in pixels of the tiles, to save memory; the compact model's result is the same. 0: the whole picture, or what fits.",
                ),
                io.Combo.Input(
                    "color_fix",
                    options=list(COLOR_FIXES),
                    default="none",
                    advanced=True,
                    tooltip="Take colours from the damaged picture. Not for haze or low light, where the colours are the damage.",
                ),
                io.Int.Input(
                    "ensemble",
                    default=1,
                    min=1,
                    max=len(MIRRORED),
                    optional=True,
                    tooltip="The mean of so many mirrored copies, decoded one after the other: 2 takes twice as long to decode and is nearer to the truth. 1: off.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="image",
                    tooltip="The restored picture, of exactly the size that came in, alpha as it was.",
                )
            ],
        )

    @classmethod
    @in_its_name
    def execute(
        cls, samples, vae, restorer, prior, strength: float, tile: int, color_fix: str, ensemble: int = 1
    ) -> io.NodeOutput:
        return io.NodeOutput(
            decode_daem(
                samples,
                vae,
                restorer,
                prior,
                strength=strength,
                tile=tile,
                color_fix=color_fix,
                ensemble=ensemble,
            )
        )
