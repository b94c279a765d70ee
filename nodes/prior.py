"""The degradation prior: making it, taking it apart, and reading it."""

from comfy_api.latest import io, ui

from ..aior_core.host.prior_encode import encode_prior
from ..aior_core.pipeline.prior_batch import prior_from_batch
from ..aior_core.report.degradation_report import report_maps, report_plot, report_text, short_report
from .named_errors import in_its_name
from .sockets import PRIOR, RESTORER, SEARCHED, said


class EncodePrior(io.ComfyNode):
    """Wraps `encode_prior`, and shows `short_report`."""

    # Its text is sent again when the result comes from the cache, as for nodes at the end of a graph. An older ComfyUI does not know this.
    HAS_INTERMEDIATE_OUTPUT = True

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AIOR_EncodePrior",
            display_name="Encode Degradation Prior",
            category="image/restoration",
            description="Looks at a damaged picture: its features for DAFF and DAEM, and which damages it has, how badly and where.",
            search_aliases=[*SEARCHED, "super resolution", "all-in-one restoration"],
            inputs=[
                RESTORER.Input("restorer", tooltip="From Load AIOR Compact or Load AIOR Restorer."),
                io.Vae.Input("vae", tooltip="The VAE that goes with the restorer."),
                io.Image.Input(
                    "image",
                    tooltip="The damaged picture or pictures, any size from 16x16. Alpha is kept and comes back as it was.",
                ),
                io.Int.Input(
                    "tile",
                    default=0,
                    min=0,
                    max=8192,
                    step=64,
                    advanced=True,
                    tooltip="Side in pixels of the tiles that the picture is encoded in, to save memory. 0: the whole picture, or what fits.",
                ),
                io.Int.Input(
                    "smooth",
                    default=0,
                    min=0,
                    max=64,
                    optional=True,
                    advanced=True,
                    tooltip="For the frames of a video: over how many frames on either side the estimate is averaged, against flicker; 0 for none.",
                ),
            ],
            outputs=[
                PRIOR.Output(
                    display_name="prior",
                    tooltip="For Apply DAFF, DAFF Sampler, DAEM Decode and Degradation Report.",
                ),
                io.Latent.Output(
                    display_name="latent",
                    tooltip="The damaged picture's latent: the right size for a sampler, or its start.",
                ),
                io.String.Output(display_name="report", tooltip="What is wrong with the picture, in words."),
            ],
        )

    @classmethod
    @in_its_name
    def execute(cls, restorer, vae, image, tile: int = 0, smooth: int = 0) -> io.NodeOutput:
        prior = encode_prior(restorer, vae, image, tile=tile, smooth=smooth)
        return io.NodeOutput(
            prior, {"samples": prior.latent}, report_text(prior), ui=said(short_report(prior))
        )


class PriorFromBatch(io.ComfyNode):
    """Wraps `prior_from_batch`."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AIOR_PriorFromBatch",
            display_name="Get Prior From Batch",
            category="image/restoration",
            description="Takes the prior of one picture, or of some in a row, out of the prior of a batch.",
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
                PRIOR.Input("prior", tooltip="From Encode Degradation Prior, of several pictures."),
                io.Int.Input(
                    "batch_index",
                    default=0,
                    min=-(2**14),
                    max=2**14,
                    tooltip="The first picture that is taken, counted from 0; -1 is the last one. "
                    "As in ComfyUI's node for latents.",
                ),
                io.Int.Input(
                    "length",
                    default=1,
                    min=1,
                    max=2**14,
                    tooltip="How many pictures are taken, as far as there are so many.",
                ),
            ],
            outputs=[
                PRIOR.Output(
                    display_name="prior",
                    tooltip="The prior of these pictures. Their latents are those that ComfyUI's node gives for the "
                    "same two numbers.",
                )
            ],
        )

    @classmethod
    @in_its_name
    def execute(cls, prior, batch_index: int, length: int) -> io.NodeOutput:
        return io.NodeOutput(prior_from_batch(prior, batch_index, length))


class PriorReport(io.ComfyNode):
    """Wraps `report_text`, `report_plot` and `report_maps`."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AIOR_PriorReport",
            display_name="Degradation Report",
            category="image/restoration",
            description="Shows what the restorer thinks is wrong with the picture: text, a chart, and a map per damage.",
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
            inputs=[PRIOR.Input("prior", tooltip="From Encode Degradation Prior.")],
            outputs=[
                io.String.Output(
                    display_name="text",
                    tooltip="Severity and certainty of each damage, worst first; and where it mostly is, if a part of the picture stands out.",
                ),
                io.Image.Output(display_name="plot", tooltip="The same as a bar chart, one per picture."),
                io.Image.Output(
                    display_name="maps",
                    tooltip="Where each damage is: one heat map over the picture per damage, with its name.",
                ),
                io.Mask.Output(
                    display_name="masks",
                    tooltip="The same as masks, one per damage, for inpainting or compositing.",
                ),
            ],
        )

    @classmethod
    @in_its_name
    def execute(cls, prior) -> io.NodeOutput:
        text = report_text(prior)
        return io.NodeOutput(text, report_plot(prior), *report_maps(prior), ui=ui.PreviewText(text))
