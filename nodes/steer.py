"""Steering: what to remove from a picture, and what to leave in."""

from comfy_api.latest import io

from ..aior_core.host.interface import PRIOR
from ..aior_core.host.node_name import in_its_name
from ..aior_core.host.steer import steer_prior

WEIGHTS = {
    "noise": "Noise and film grain",
    "blur": "Blur, of lens or motion",
    "low_resolution": "Low resolution",
    "rain": "Rain",
    "snow": "Snow",
    "haze": "Haze and fog",
    "low_light": "Low light",
    "jpeg": "JPEG blocks and rings",
}


class SteerPrior(io.ComfyNode):
    """Wraps `steer_prior`."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AIOR_SteerPrior",
            display_name="Steer Degradations",
            category="image/restoration",
            description="Chooses what to remove from the picture and what to leave in: rain may go and film grain stay.",
            search_aliases=["AIOR", "selective restoration", "keep film grain", "keep noise", "keep fog", "restore", "degradation weights"],
            inputs=[
                PRIOR.Input("prior", tooltip="From Encode Degradation Prior, or from another Steer Degradations: weights multiply."),
                *(
                    io.Float.Input(
                        kind,
                        default=1.0,
                        min=0.0,
                        max=1.0,
                        step=0.05,
                        display_mode=io.NumberDisplay.slider,
                        tooltip=f"{what}: 1 removes it, 0 leaves it in. The model has learnt 0 and 1 best.",
                    )
                    for kind, what in WEIGHTS.items()
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
