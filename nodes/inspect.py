"""Look Inside: what DAFF and DAEM do to a picture."""

from comfy_api.latest import io, ui

from ..aior_core.host.diagnostics import diagnose
from ..aior_core.report.diagnostics import expert_sheet, influence_chart, inside_text
from .named_errors import RestorationNode
from .sockets import (
    CATEGORY,
    cfg_input,
    clip_input,
    model_input,
    prior_input,
    restorer_input,
    seed_input,
    steps_input,
    strength_input,
    vae_input,
)

AS_ON_SAMPLER = "As on DAFF Sampler. For the compact model, leave it unconnected."


class Inspect(RestorationNode):
    """Wraps `diagnose`, `inside_text`, `influence_chart` and `expert_sheet`."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AIOR_Inspect",
            display_name="Look Inside",
            category=CATEGORY,
            description="Restores the picture in the prior and shows how: what DAFF adds at every step, "
            "and which of DAEM's experts each region prefers.",
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
                model_input(),
                vae_input(),
                restorer_input(),
                prior_input(),
                io.Conditioning.Input("positive", optional=True, tooltip=AS_ON_SAMPLER),
                io.Conditioning.Input("negative", optional=True, tooltip=AS_ON_SAMPLER),
                seed_input(
                    "Decides the noise. The same seed gives the same picture, "
                    "also on DAFF Sampler with its default settings."
                ),
                steps_input("Number of sampling steps. The chart has a bar for each."),
                cfg_input(advanced=True),
                strength_input(),
                clip_input(),
            ],
            outputs=[
                io.String.Output(display_name="text", tooltip="What the pictures show, in numbers."),
                io.Image.Output(
                    display_name="influence",
                    tooltip="How much DAFF adds at every step, relative to the size of the denoiser's "
                    "first feature. One chart per picture.",
                ),
                io.Image.Output(
                    display_name="experts",
                    tooltip="Which of DAEM's experts each region of 32 pixels prefers, level by level, "
                    "and which one was chosen. One sheet per picture.",
                ),
                io.Image.Output(
                    display_name="image",
                    tooltip="The restored picture, as DAFF Sampler and DAEM Decode make it.",
                ),
            ],
        )

    @classmethod
    def execute(cls, model, vae, restorer, prior, positive=None, negative=None, **options) -> io.NodeOutput:
        inside = diagnose(model, vae, restorer, prior, positive, negative, **options)
        text = inside_text(inside, prior, restorer.config.daem)
        pictures = influence_chart(inside.influence), expert_sheet(inside, prior, restorer.config.daem)
        return io.NodeOutput(text, *pictures, inside.image, ui=ui.PreviewText(text))
