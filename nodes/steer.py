"""Steering: what to remove from a picture, and what to leave in."""

from comfy_api.latest import io

from ..aior_core.degradations import DEGRADATIONS
from ..aior_core.pipeline.steer import steer_prior
from .named_errors import in_its_name
from .sockets import PRIOR


class SteerPrior(io.ComfyNode):
    """Wraps `steer_prior`."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AIOR_SteerPrior",
            display_name="Steer Degradations",
            category="image/restoration",
            description="Chooses what to remove from the picture and what to leave in: rain may go and film grain stay.",
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
                PRIOR.Input(
                    "prior",
                    tooltip="From Encode Degradation Prior, or from another Steer Degradations: weights multiply.",
                ),
                *(
                    io.Float.Input(
                        each.name,
                        default=1.0,
                        min=0.0,
                        max=1.0,
                        step=0.05,
                        display_mode=io.NumberDisplay.slider,
                        tooltip=f"{each.steered}: 1 removes it, 0 leaves it in. The model has learnt 0 and 1 best.",
                    )
                    for each in DEGRADATIONS
                ),
            ],
            outputs=[
                PRIOR.Output(
                    display_name="prior",
                    tooltip="The same picture, steered. Connect it to the sampler or Apply DAFF and to DAEM Decode, both.",
                )
            ],
        )

    @classmethod
    @in_its_name
    def execute(cls, prior, **weights: float) -> io.NodeOutput:
        return io.NodeOutput(steer_prior(prior, weights))
