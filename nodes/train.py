"""Training: fine-tunes a restorer on a user's own pictures, and saves it."""

from comfy_api.latest import io, ui

from ..aior_core.degradations import DEGRADATIONS
from ..aior_core.host.restorer_file import save_restorer
from .named_errors import RestorationNode
from .sockets import CATEGORY, RESTORER, restorer_input, seed_input, text_on_node

STAGES = ("detail", "fusion")
"""The stages of `training.finetune`, a module that is imported only when the node runs, as that is slow."""


class TrainRestorer(RestorationNode):
    """Wraps `train_restorer`."""

    # ComfyUI sends the node's text again when the result comes from the cache. An older version ignores this.
    HAS_INTERMEDIATE_OUTPUT = True

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AIOR_TrainRestorer",
            display_name="Train AIOR Restorer",
            category=CATEGORY,
            description="Fine-tunes a restorer on your own pictures: pairs of damaged and clean ones, "
            "or clean ones that the node damages.",
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
                    tooltip="The MODEL of Load AIOR Compact. It is not changed: "
                    "the trained restorer works with the same one.",
                ),
                io.Vae.Input("vae", tooltip="The VAE of Load AIOR Compact. It is not changed either."),
                restorer_input(
                    "The restorer to start from: from Load AIOR Compact, or one that you trained before. "
                    "It is not changed."
                ),
                io.String.Input(
                    "folder",
                    default="",
                    tooltip="A folder in ComfyUI's input folder, or an absolute path. If it has subfolders "
                    "lq (damaged) and gt (clean), pictures with the same name are pairs. Otherwise all "
                    "pictures count as clean and are damaged during training.",
                ),
                io.Combo.Input(
                    "stage",
                    options=list(STAGES),
                    default="detail",
                    tooltip="detail trains LQ encoder, degradation head and DAEM; start with it. "
                    "fusion trains DAFF, which guides the sampler.",
                ),
                io.Float.Input(
                    "minutes",
                    default=10.0,
                    min=0.01,
                    max=10000.0,
                    step=0.5,
                    round=0.01,
                    tooltip="Training time in all. Run the same settings with more minutes to continue "
                    "where the last run ended.",
                ),
                io.Float.Input(
                    "learning_rate",
                    default=1.0,
                    min=0.01,
                    max=10.0,
                    step=0.05,
                    advanced=True,
                    tooltip="Multiplies the learning rate of the stage. Lower keeps more of what was "
                    "learnt before, higher learns an unusual damage faster.",
                ),
                seed_input("Decides which crops and damage are drawn.", most=2**31 - 1, advanced=True),
                *(
                    io.Boolean.Input(
                        kind.name,
                        default=True,
                        advanced=True,
                        tooltip=f"Learn to repair {kind.trained} that is added to clean pictures. Not used "
                        "for pairs.",
                    )
                    for kind in DEGRADATIONS
                ),
                io.Image.Input(
                    "damaged",
                    optional=True,
                    tooltip="A damaged picture to watch during training. If it is not connected, the first "
                    "picture of the folder is used. Only its middle 256x256 pixels are shown.",
                ),
                io.Image.Input(
                    "clean",
                    optional=True,
                    tooltip="The same picture without damage. The result is measured against it during "
                    "training.",
                ),
            ],
            outputs=[
                RESTORER.Output(
                    display_name="restorer",
                    tooltip="The trained restorer. Use it instead of the other one, with the same MODEL "
                    "and VAE.",
                ),
                io.Image.Output(
                    display_name="loss_plot",
                    tooltip="The loss, and the PSNR of the watched picture, over time.",
                ),
                io.String.Output(
                    display_name="summary",
                    tooltip="What the restorer was trained on, for how long, and how far it came.",
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, folder: str | None = None, **others) -> str:
        from ..aior_core.training.finetune import pictures_fingerprint

        return pictures_fingerprint(folder) if folder else ""

    @classmethod
    def execute(cls, model, vae, restorer, folder: str, damaged=None, clean=None, **options) -> io.NodeOutput:
        from ..aior_core.training.finetune import Settings, train_restorer

        kinds = tuple(kind.name for kind in DEGRADATIONS if options.pop(kind.name))
        settings = Settings(kinds=kinds, **options)
        trained, plot, summary = train_restorer(
            model, vae, restorer, folder, settings, damaged=damaged, clean=clean
        )
        return io.NodeOutput(trained, plot, summary, ui=text_on_node(summary))


class SaveRestorer(RestorationNode):
    """Wraps `save_restorer`."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AIOR_SaveRestorer",
            display_name="Save AIOR Restorer",
            category=CATEGORY,
            description="Saves a restorer in ComfyUI's output folder, as a file for Load AIOR Restorer.",
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
                restorer_input("The restorer to save, usually from Train AIOR Restorer."),
                io.String.Input(
                    "filename_prefix",
                    default="restorers/aior",
                    tooltip="Path below the output folder. Load AIOR Restorer lists files in restorers/. "
                    "Move files from other places to models/aior.",
                ),
            ],
            outputs=[],
        )

    @classmethod
    def execute(cls, restorer, filename_prefix: str) -> io.NodeOutput:
        return io.NodeOutput(ui=ui.PreviewText(f"Saved: {save_restorer(restorer, filename_prefix)}"))
