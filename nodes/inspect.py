"""Look Inside: what DAFF and DAEM do to a picture."""

from comfy_api.latest import io, ui

from ..aior_core.host.diagnostics import look_inside
from ..aior_core.report.diagnostics import expert_sheet, influence_chart, inside_text
from .named_errors import in_its_name
from .sockets import CFG, CLIP, PRIOR, RESTORER, STRENGTH


class Inspect(io.ComfyNode):
    """Wraps `look_inside`, `inside_text`, `influence_chart` and `expert_sheet`."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AIOR_Inspect",
            display_name="Look Inside",
            category="image/restoration",
            description="Restores the picture of a prior and shows how: what DAFF adds at every step, and which of DAEM's experts each region speaks for.",
            search_aliases=[
                "AIOR",
                "inspect",
                "explain",
                "daff influence",
                "experts",
                "router",
                "mixture of experts",
                "debug restoration",
                "UniLDiff",
            ],
            is_output_node=True,
            inputs=[
                io.Model.Input(
                    "model", tooltip="From Load AIOR Compact, or an SDXL checkpoint for an SDXL restorer."
                ),
                io.Vae.Input("vae", tooltip="The VAE that goes with the restorer."),
                RESTORER.Input("restorer", tooltip="The restorer that the prior was made with."),
                PRIOR.Input("prior", tooltip="From Encode Degradation Prior."),
                io.Conditioning.Input(
                    "positive", optional=True, tooltip="As on DAFF Sampler: leave open for the compact model."
                ),
                io.Conditioning.Input(
                    "negative", optional=True, tooltip="As on DAFF Sampler: leave open for the compact model."
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=io.ControlAfterGenerate.fixed,
                    tooltip="The noise. The same seed gives the same picture, here and in DAFF Sampler as it comes.",
                ),
                io.Int.Input(
                    "steps",
                    default=4,
                    min=1,
                    max=200,
                    tooltip="Steps of the sampler; the chart has a bar for each.",
                ),
                io.Float.Input(
                    "cfg",
                    default=1.0,
                    min=0.0,
                    max=30.0,
                    step=0.1,
                    advanced=True,
                    tooltip=CFG,
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=2.0,
                    step=0.01,
                    tooltip=STRENGTH,
                ),
                io.Clip.Input(
                    "clip",
                    optional=True,
                    tooltip=CLIP,
                ),
            ],
            outputs=[
                io.String.Output(display_name="text", tooltip="What the pictures show, in numbers."),
                io.Image.Output(
                    display_name="influence",
                    tooltip="How much DAFF adds at every step, of the size of the denoiser's first feature: a chart per picture.",
                ),
                io.Image.Output(
                    display_name="experts",
                    tooltip="Which of DAEM's experts each region of 32 pixels speaks for, level by level, and which was chosen: a sheet per picture.",
                ),
                io.Image.Output(
                    display_name="image",
                    tooltip="The restored picture, as DAFF Sampler and DAEM Decode make it.",
                ),
            ],
        )

    @classmethod
    @in_its_name
    def execute(cls, model, vae, restorer, prior, positive=None, negative=None, **options) -> io.NodeOutput:
        inside = look_inside(model, vae, restorer, prior, positive, negative, **options)
        text = inside_text(inside, prior, restorer.config.daem)
        pictures = influence_chart(inside.influence), expert_sheet(inside, prior, restorer.config.daem)
        return io.NodeOutput(text, *pictures, inside.image, ui=ui.PreviewText(text))
