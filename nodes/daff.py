"""DAFF: on a MODEL for any sampler, or together with a sampler in one node."""

from comfy_api.latest import io

from ..aior_core.host.daff_patch import apply_daff
from ..aior_core.host.sampling import NOISES, sample_daff, sampler_names, scheduler_names
from ..aior_core.host.start_points import START_POINTS, started
from .named_errors import RestorationNode
from .sockets import (
    CATEGORY,
    SEARCHED,
    cfg_input,
    clip_input,
    conditioning_inputs,
    model_input,
    percent_input,
    prior_input,
    restorer_input,
    seed_input,
    steps_input,
    strength_input,
    tile_input,
)

ALIASES = [*SEARCHED, "UniLDiff"]
CARRIES_PRIOR = "Carries the prior. Use this output, not the conditioning that you connected."


class ApplyDAFF(RestorationNode):
    """Wraps `apply_daff`."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AIOR_ApplyDAFF",
            display_name="Apply DAFF",
            category=CATEGORY,
            description="Makes a MODEL restore the picture in the prior, with any sampler or guider. "
            "DAFF stands for Degradation-Aware Feature Fusion.",
            search_aliases=ALIASES,
            inputs=[
                model_input("It is not changed."),
                restorer_input(),
                prior_input(
                    "From Encode Degradation Prior. Its picture must have the size of the latent that you "
                    "sample."
                ),
                *conditioning_inputs(),
                strength_input(),
                percent_input("start_percent", 0.0, "The part of the schedule after which DAFF starts."),
                percent_input("end_percent", 1.0, "The part of the schedule after which DAFF stops."),
                clip_input(),
            ],
            outputs=[
                io.Model.Output(
                    display_name="model",
                    tooltip="For any sampler or guider, together with both conditionings.",
                ),
                io.Conditioning.Output(display_name="positive", tooltip=CARRIES_PRIOR),
                io.Conditioning.Output(display_name="negative", tooltip=CARRIES_PRIOR),
            ],
        )

    @classmethod
    def execute(
        cls,
        model,
        restorer,
        prior,
        strength: float,
        start_percent: float,
        end_percent: float,
        positive=None,
        negative=None,
        clip=None,
    ) -> io.NodeOutput:
        options = {
            "strength": strength,
            "start_percent": start_percent,
            "end_percent": end_percent,
            "clip": clip,
        }
        return io.NodeOutput(*apply_daff(model, restorer, prior, positive, negative, **options))


class DAFFSampler(RestorationNode):
    """Wraps `sample_daff`."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AIOR_DAFFSampler",
            display_name="DAFF Sampler",
            category=CATEGORY,
            description="Restores the picture in the prior, in latent space. It combines Apply DAFF and a "
            "sampler in one node, with tiles and a fidelity control.",
            search_aliases=[*ALIASES, "sampler", "ksampler"],
            inputs=[
                model_input(),
                restorer_input(),
                prior_input(),
                *conditioning_inputs(),
                io.Latent.Input(
                    "latent",
                    optional=True,
                    tooltip="The latent to start from. With a noise mask, only the masked area is "
                    "restored, and DAEM Decode returns the rest unchanged. If it is not connected, "
                    "start_point decides.",
                ),
                seed_input("Decides the noise. The same seed gives the same picture."),
                steps_input("On average 1 is closest to the truth, 4 is sharper, and 20 gives more texture."),
                cfg_input(),
                io.Combo.Input(
                    "sampler_name",
                    options=sampler_names(),
                    default="euler",
                    advanced=True,
                    tooltip="ComfyUI's sampler.",
                ),
                io.Combo.Input(
                    "scheduler",
                    options=scheduler_names(),
                    default="simple",
                    advanced=True,
                    tooltip="ComfyUI's scheduler. For SDXL restorers, ddim_uniform with 20 steps is the "
                    "reference.",
                ),
                io.Combo.Input(
                    "start_point",
                    options=list(START_POINTS),
                    default="noise",
                    advanced=True,
                    tooltip="Where to start if no latent is connected: from pure noise (noise); from the "
                    "damaged picture (lq), which needs denoise below 1; or as UniLDiff's code does "
                    "(lq_official, SDXL). lq_official_2i-1 also repeats the mistake in that code, which "
                    "encodes 2i-1.",
                ),
                io.Float.Input(
                    "denoise",
                    default=1.0,
                    min=0.01,
                    max=1.0,
                    step=0.01,
                    advanced=True,
                    tooltip="How much noise is added to the start. 1 erases it, lower values keep more of "
                    "it.",
                ),
                io.Float.Input(
                    "fidelity",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="0 lets the sampler invent texture. 1 keeps it close to its first, safest guess.",
                ),
                strength_input(),
                tile_input(
                    "Size in pixels of the overlapping windows that the denoiser sees, to save memory. 0 "
                    "takes the whole picture, or windows of 1024 if it is large. Smaller ones are used "
                    "only if memory is short."
                ),
                io.Combo.Input(
                    "noise",
                    options=list(NOISES),
                    default=NOISES[0],
                    optional=True,
                    advanced=True,
                    tooltip="Choose 'same for all' for the frames of a video, so that the noise causes no "
                    "flicker.",
                ),
                clip_input(),
                io.Vae.Input(
                    "vae",
                    optional=True,
                    tooltip="Only for the start point lq_official_2i-1: the VAE of the SDXL checkpoint.",
                ),
            ],
            outputs=[
                io.Latent.Output(
                    display_name="latent", tooltip="The restored latent, for DAEM Decode (or VAE Decode)."
                )
            ],
        )

    @classmethod
    def execute(
        cls,
        model,
        restorer,
        prior,
        start_point: str,
        positive=None,
        negative=None,
        latent=None,
        vae=None,
        **options,
    ) -> io.NodeOutput:
        prior, start = started(restorer, prior, start_point, vae, latent)
        return io.NodeOutput(
            sample_daff(model, restorer, prior, positive, negative, latent, start=start, **options)
        )
