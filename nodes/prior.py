"""The degradation prior: encode it, select from it, and report on it."""

from comfy_api.latest import io, ui

from ..aior_core.host.prior_encode import encode_prior
from ..aior_core.pipeline.prior_batch import prior_from_batch
from ..aior_core.report.degradation_report import report_maps, report_plot, report_text, short_report
from .named_errors import RestorationNode
from .sockets import (
    CATEGORY,
    PRIOR,
    SEARCHED,
    prior_input,
    restorer_input,
    text_on_node,
    tile_input,
    vae_input,
)


class EncodePrior(RestorationNode):
    """Wraps `encode_prior`, and shows `short_report` on the node."""

    # ComfyUI sends the node's text again when the result comes from the cache. An older version ignores this.
    HAS_INTERMEDIATE_OUTPUT = True

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AIOR_EncodePrior",
            display_name="Encode Degradation Prior",
            category=CATEGORY,
            description="Analyses a damaged picture: extracts its features for DAFF and DAEM, and estimates "
            "which degradations it has, how severe they are and where.",
            search_aliases=[*SEARCHED, "super resolution", "all-in-one restoration"],
            inputs=[
                restorer_input("From Load AIOR Compact or Load AIOR Restorer."),
                vae_input(),
                io.Image.Input(
                    "image",
                    tooltip="One damaged picture or a batch, of any size from 16x16. "
                    "Alpha is kept and returned unchanged.",
                ),
                tile_input(
                    "Size in pixels of the tiles in which the picture is encoded, to save memory. "
                    "0 takes the whole picture, or the largest tile that fits."
                ),
                io.Int.Input(
                    "smooth",
                    default=0,
                    min=0,
                    max=64,
                    optional=True,
                    advanced=True,
                    tooltip="For the frames of a video: averages the estimate over this many frames before "
                    "and after each one, to avoid flicker. 0 turns it off.",
                ),
            ],
            outputs=[
                PRIOR.Output(
                    display_name="prior",
                    tooltip="For Apply DAFF, DAFF Sampler, DAEM Decode and Degradation Report.",
                ),
                io.Latent.Output(
                    display_name="latent",
                    tooltip="The latent of the damaged picture: it has the right size for a sampler, "
                    "and can be its start.",
                ),
                io.String.Output(display_name="report", tooltip="What is wrong with the picture, in words."),
            ],
        )

    @classmethod
    def execute(cls, restorer, vae, image, tile: int = 0, smooth: int = 0) -> io.NodeOutput:
        prior = encode_prior(restorer, vae, image, tile=tile, smooth=smooth)
        shown = text_on_node(short_report(prior))
        return io.NodeOutput(prior, {"samples": prior.latent}, report_text(prior), ui=shown)


class PriorFromBatch(RestorationNode):
    """Wraps `prior_from_batch`."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AIOR_PriorFromBatch",
            display_name="Get Prior From Batch",
            category=CATEGORY,
            description="Takes the prior of one picture, or of several consecutive ones, out of the prior "
            "of a batch.",
            search_aliases=[
                "AIOR",
                "prior from batch",
                "pick prior",
                "split prior",
                "select from batch",
                "batch subset",
                "latent from batch",
                "frame",
            ],
            inputs=[
                prior_input("From Encode Degradation Prior, of several pictures."),
                io.Int.Input(
                    "batch_index",
                    default=0,
                    min=-(2**14),
                    max=2**14,
                    tooltip="The first picture to take, counted from 0; -1 is the last one. "
                    "It works as in ComfyUI's node for latents.",
                ),
                io.Int.Input(
                    "length",
                    default=1,
                    min=1,
                    max=2**14,
                    tooltip="How many pictures to take. If there are fewer, all that are left are taken.",
                ),
            ],
            outputs=[
                PRIOR.Output(
                    display_name="prior",
                    tooltip="The prior of these pictures. ComfyUI's node for latents gives their latents "
                    "for the same two numbers.",
                )
            ],
        )

    @classmethod
    def execute(cls, prior, batch_index: int, length: int) -> io.NodeOutput:
        return io.NodeOutput(prior_from_batch(prior, batch_index, length))


class PriorReport(RestorationNode):
    """Wraps `report_text`, `report_plot` and `report_maps`."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AIOR_PriorReport",
            display_name="Degradation Report",
            category=CATEGORY,
            description="Shows what the restorer finds wrong with the picture: "
            "a text, a chart, and a map per degradation.",
            search_aliases=[
                "AIOR",
                "degradation estimate",
                "noise level",
                "image quality",
                "what is wrong",
                "heat map",
                "restore",
            ],
            is_output_node=True,
            inputs=[prior_input()],
            outputs=[
                io.String.Output(
                    display_name="text",
                    tooltip="Severity and certainty of each degradation, worst first. "
                    "If one part of the picture stands out, the text names it.",
                ),
                io.Image.Output(display_name="plot", tooltip="The same as a bar chart, one per picture."),
                io.Image.Output(
                    display_name="maps",
                    tooltip="Where each degradation is: one labelled heat map over the picture per "
                    "degradation.",
                ),
                io.Mask.Output(
                    display_name="masks",
                    tooltip="The same as masks, one per degradation, for inpainting or compositing.",
                ),
            ],
        )

    @classmethod
    def execute(cls, prior) -> io.NodeOutput:
        text = report_text(prior)
        return io.NodeOutput(text, report_plot(prior), *report_maps(prior), ui=ui.PreviewText(text))
