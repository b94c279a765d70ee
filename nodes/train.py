"""Training: a restorer for one's own kind of damage, and its file."""

from comfy_api.latest import io, ui

from ..aior_core.degradations import DEGRADATIONS
from ..aior_core.host.restorer_file import save_restorer
from .named_errors import in_its_name
from .sockets import RESTORER, said

STAGES = ("detail", "fusion")
"""Those of `training.finetune`, which is imported when it is used: it is slow to import."""


class TrainRestorer(io.ComfyNode):
    """Wraps `train_restorer`."""

    # Its text is sent again when the result comes from the cache, as for nodes at the end of a graph. An older ComfyUI does not know this.
    HAS_INTERMEDIATE_OUTPUT = True

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AIOR_TrainRestorer",
            display_name="Train AIOR Restorer",
            category="image/restoration",
            description="Goes on training a restorer on your own pictures: pairs of damaged and clean ones, or clean ones that it damages.",
            search_aliases=[
                "AIOR",
                "train",
                "fine-tune",
                "finetune",
                "learn",
                "film scan",
                "dust",
                "scratches",
                "faded",
                "own damage",
            ],
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="The MODEL of Load AIOR Compact. It is not changed: the result goes with the same one.",
                ),
                io.Vae.Input("vae", tooltip="The VAE of Load AIOR Compact. It is not changed either."),
                RESTORER.Input(
                    "restorer",
                    tooltip="Where to start from: of Load AIOR Compact, or one trained before. It is not changed.",
                ),
                io.String.Input(
                    "folder",
                    default="",
                    tooltip=(
                        "A folder in ComfyUI's input folder, or an absolute path. With sub-folders lq (damaged) and gt (clean), pictures of "
                        "equal names are pairs; otherwise all pictures are taken for clean ones and damaged while training."
                    ),
                ),
                io.Combo.Input(
                    "stage",
                    options=list(STAGES),
                    default="detail",
                    tooltip="detail trains LQ encoder, degradation head and DAEM: begin with it. fusion trains DAFF, what guides the sampler.",
                ),
                io.Float.Input(
                    "minutes",
                    default=10.0,
                    min=0.01,
                    max=10000.0,
                    step=0.5,
                    round=0.01,
                    tooltip="How long in all. The same settings again with more minutes go on from where the last run ended.",
                ),
                io.Float.Input(
                    "learning_rate",
                    default=1.0,
                    min=0.01,
                    max=10.0,
                    step=0.05,
                    advanced=True,
                    tooltip="Times the stage's own. Less keeps more of what was known, more learns a strange damage faster.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**31 - 1,
                    control_after_generate=io.ControlAfterGenerate.fixed,
                    advanced=True,
                    tooltip="Which crops and damages are drawn.",
                ),
                *(
                    io.Boolean.Input(
                        each.name,
                        default=True,
                        advanced=True,
                        tooltip=f"Learn to repair {each.trained}, made on clean pictures. Not used for pairs.",
                    )
                    for each in DEGRADATIONS
                ),
                io.Image.Input(
                    "damaged",
                    optional=True,
                    tooltip="A damaged picture to watch being repaired. Open: the first picture of the folder. Its middle 256x256 are shown.",
                ),
                io.Image.Input(
                    "clean",
                    optional=True,
                    tooltip="The same picture undamaged: the result is measured against it as it goes.",
                ),
            ],
            outputs=[
                RESTORER.Output(
                    display_name="restorer",
                    tooltip="The trained restorer: use it in place of the other, with the same MODEL and VAE.",
                ),
                io.Image.Output(
                    display_name="loss_plot", tooltip="The loss, and PSNR of the watched picture, over time."
                ),
                io.String.Output(
                    display_name="summary", tooltip="What was trained on, for how long, and how far it came."
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, folder: str | None = None, **others) -> str:
        from ..aior_core.training.finetune import pictures_fingerprint

        return pictures_fingerprint(folder) if folder else ""

    @classmethod
    @in_its_name
    def execute(cls, model, vae, restorer, folder: str, damaged=None, clean=None, **options) -> io.NodeOutput:
        from ..aior_core.training.finetune import Settings, train_restorer

        kinds = tuple(each.name for each in DEGRADATIONS if options.pop(each.name))
        settings = Settings(kinds=kinds, **options)
        trained, plot, summary = train_restorer(
            model, vae, restorer, folder, settings, damaged=damaged, clean=clean
        )
        return io.NodeOutput(trained, plot, summary, ui=said(summary))


class SaveRestorer(io.ComfyNode):
    """Wraps `save_restorer`."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AIOR_SaveRestorer",
            display_name="Save AIOR Restorer",
            category="image/restoration",
            description="Saves a restorer as a file for Load AIOR Restorer, in ComfyUI's output folder.",
            search_aliases=[
                "AIOR",
                "save restorer",
                "export restorer",
                "checkpoint save",
                "train",
                "fine-tune",
            ],
            is_output_node=True,
            inputs=[
                RESTORER.Input("restorer", tooltip="The restorer to save, usually from Train AIOR Restorer."),
                io.String.Input(
                    "filename_prefix",
                    default="restorers/aior",
                    tooltip="Below the output folder. In restorers/ Load AIOR Restorer lists it; from elsewhere, move it to models/aior.",
                ),
            ],
            outputs=[],
        )

    @classmethod
    @in_its_name
    def execute(cls, restorer, filename_prefix: str) -> io.NodeOutput:
        return io.NodeOutput(ui=ui.PreviewText(f"Saved: {save_restorer(restorer, filename_prefix)}"))
