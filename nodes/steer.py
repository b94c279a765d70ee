"""Steering: which degradations to remove from a picture, and which to keep."""

from comfy_api.latest import io

from ..aior_core.degradations import DEGRADATIONS
from ..aior_core.pipeline.steer import steer_prior
from .named_errors import RestorationNode
from .sockets import CATEGORY, PRIOR, prior_input


class SteerPrior(RestorationNode):
    """Wraps `steer_prior`."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AIOR_SteerPrior",
            display_name="Steer Degradations",
            category=CATEGORY,
            description="Chooses which degradations to remove from the picture and which to keep: "
            "rain can go while film grain stays.",
            search_aliases=[
                "AIOR",
                "selective restoration",
                "keep film grain",
                "keep noise",
                "keep fog",
                "restore",
                "degradation weights",
            ],
            inputs=[
                prior_input(
                    "From Encode Degradation Prior, or from another Steer Degradations: their weights "
                    "multiply."
                ),
                *(
                    io.Float.Input(
                        kind.name,
                        default=1.0,
                        min=0.0,
                        max=1.0,
                        step=0.05,
                        display_mode=io.NumberDisplay.slider,
                        tooltip=f"{kind.steered}: 1 removes it, 0 keeps it. The model handles 0 and 1 best.",
                    )
                    for kind in DEGRADATIONS
                ),
            ],
            outputs=[
                PRIOR.Output(
                    display_name="prior",
                    tooltip="The same picture with these weights. Connect it both to DAEM Decode "
                    "and to the sampler or Apply DAFF.",
                )
            ],
        )

    @classmethod
    def execute(cls, prior, **weights: float) -> io.NodeOutput:
        return io.NodeOutput(steer_prior(prior, weights))
