"""DAFF: on a MODEL for any sampler, or with a sampler in one node."""

from comfy_api.latest import io

from ..aior_core.host.daff_patch import apply_daff
from ..aior_core.host.sampling import NOISES, sample_daff, sampler_names, scheduler_names
from ..aior_core.host.start_points import START_POINTS, started
from .named_errors import in_its_name
from .sockets import CFG, CLIP, PRIOR, RESTORER, SEARCHED, STRENGTH

POSITIVE = "What to make. Leave open for the compact model: it gets the damages found. For SDXL open means an empty text, made by clip."
NEGATIVE = "What to keep away from. Leave open for the compact model. For SDXL open means an empty text, made by clip."
ALIASES = [*SEARCHED, "UniLDiff"]


class ApplyDAFF(io.ComfyNode):
    """Wraps `apply_daff`."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AIOR_ApplyDAFF",
            display_name="Apply DAFF",
            category="image/restoration",
            description="Makes a MODEL restore the picture of a prior, with any sampler or guider: Degradation-Aware Feature Fusion.",
            search_aliases=ALIASES,
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="From Load AIOR Compact, or an SDXL checkpoint for an SDXL restorer. It is not changed.",
                ),
                RESTORER.Input("restorer", tooltip="The restorer that the prior was made with."),
                PRIOR.Input(
                    "prior",
                    tooltip="From Encode Degradation Prior; its picture has the size of the latent that is sampled.",
                ),
                io.Conditioning.Input("positive", optional=True, tooltip=POSITIVE),
                io.Conditioning.Input("negative", optional=True, tooltip=NEGATIVE),
                io.Float.Input("strength", default=1.0, min=0.0, max=2.0, step=0.01, tooltip=STRENGTH),
                io.Float.Input(
                    "start_percent",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.001,
                    advanced=True,
                    tooltip="Part of the schedule after which DAFF sets in.",
                ),
                io.Float.Input(
                    "end_percent",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.001,
                    advanced=True,
                    tooltip="Part of the schedule after which DAFF stops.",
                ),
                io.Clip.Input("clip", optional=True, tooltip=CLIP),
            ],
            outputs=[
                io.Model.Output(
                    display_name="model",
                    tooltip="For any sampler or guider, together with the two conditionings.",
                ),
                io.Conditioning.Output(
                    display_name="positive",
                    tooltip="Carries the prior: use this one, not the one that came in.",
                ),
                io.Conditioning.Output(
                    display_name="negative",
                    tooltip="Carries the prior: use this one, not the one that came in.",
                ),
            ],
        )

    @classmethod
    @in_its_name
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


class DAFFSampler(io.ComfyNode):
    """Wraps `sample_daff`."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AIOR_DAFFSampler",
            display_name="DAFF Sampler",
            category="image/restoration",
            description="Restores the picture of a prior in latent space: Apply DAFF and a sampler in one, with tiles and a fidelity dial.",
            search_aliases=[*ALIASES, "sampler", "ksampler"],
            inputs=[
                io.Model.Input(
                    "model", tooltip="From Load AIOR Compact, or an SDXL checkpoint for an SDXL restorer."
                ),
                RESTORER.Input("restorer", tooltip="The restorer that the prior was made with."),
                PRIOR.Input("prior", tooltip="From Encode Degradation Prior."),
                io.Conditioning.Input("positive", optional=True, tooltip=POSITIVE),
                io.Conditioning.Input("negative", optional=True, tooltip=NEGATIVE),
                io.Latent.Input(
                    "latent",
                    optional=True,
                    tooltip="Where to start from; with a noise mask, only what is masked is repaired, and DAEM Decode "
                    "gives back the rest as it came in. Open: see start_point.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=io.ControlAfterGenerate.fixed,
                    tooltip="The noise. The same seed gives the same picture.",
                ),
                io.Int.Input(
                    "steps",
                    default=4,
                    min=1,
                    max=200,
                    tooltip="1 is closest to the truth on average, 4 sharper, 20 for texture.",
                ),
                io.Float.Input(
                    "cfg",
                    default=1.0,
                    min=0.0,
                    max=30.0,
                    step=0.1,
                    tooltip=CFG,
                ),
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
                    tooltip="ComfyUI's scheduler; ddim_uniform with 20 steps is the reference for SDXL restorers.",
                ),
                io.Combo.Input(
                    "start_point",
                    options=list(START_POINTS),
                    default="noise",
                    advanced=True,
                    tooltip="Without a latent: start from pure noise, from the damaged picture (lq), with denoise below 1, or as UniLDiff's code does "
                    "(lq_official, SDXL), in 2i-1 with the slip in its code too.",
                ),
                io.Float.Input(
                    "denoise",
                    default=1.0,
                    min=0.01,
                    max=1.0,
                    step=0.01,
                    advanced=True,
                    tooltip="How much noise the start gets: 1 forgets it, less keeps more of it.",
                ),
                io.Float.Input(
                    "fidelity",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="0 lets the sampler invent texture, 1 holds it to its first, safest guess.",
                ),
                io.Float.Input("strength", default=1.0, min=0.0, max=2.0, step=0.01, tooltip=STRENGTH),
                io.Int.Input(
                    "tile",
                    default=0,
                    min=0,
                    max=8192,
                    step=64,
                    advanced=True,
                    tooltip="Side in pixels of the overlapping windows that the denoiser sees, to save memory. 0: the whole picture, or 1024 if it is large; "
                    "smaller ones are used only where memory is short.",
                ),
                io.Combo.Input(
                    "noise",
                    options=list(NOISES),
                    default=NOISES[0],
                    optional=True,
                    advanced=True,
                    tooltip="For the frames of a video, 'same for all': then nothing flickers that the noise has made.",
                ),
                io.Clip.Input("clip", optional=True, tooltip=CLIP),
                io.Vae.Input(
                    "vae",
                    optional=True,
                    tooltip="For the start point lq_official_2i-1: the VAE of the SDXL checkpoint. Not used otherwise.",
                ),
            ],
            outputs=[
                io.Latent.Output(
                    display_name="latent", tooltip="The restored latent, for DAEM Decode (or VAE Decode)."
                )
            ],
        )

    @classmethod
    @in_its_name
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
