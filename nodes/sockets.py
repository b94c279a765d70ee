"""What several nodes share: socket types, search words, inputs with tooltips, and text shown on a node."""

from __future__ import annotations

from comfy_api.latest import io

CATEGORY = "image/restoration"
RESTORER, PRIOR = io.Custom("AIOR_RESTORER"), io.Custom("AIOR_PRIOR")
SEARCHED = (
    "AIOR",
    "restore",
    "denoise",
    "derain",
    "desnow",
    "dehaze",
    "deblur",
    "low light",
    "jpeg artifacts",
    "enhance",
    "photo repair",
)
"""Words by which users search for restoration."""
FROM_ENCODER = "From Encode Degradation Prior."
LARGEST_SEED = 2**64 - 1
FIXED = io.ControlAfterGenerate.fixed


def model_input(remark: str = "") -> io.Model.Input:
    tooltip = "From Load AIOR Compact, or an SDXL checkpoint for an SDXL restorer."
    return io.Model.Input("model", tooltip=f"{tooltip} {remark}".rstrip())


def vae_input() -> io.Vae.Input:
    return io.Vae.Input("vae", tooltip="The VAE that matches the restorer.")


def restorer_input(tooltip: str = "The restorer that the prior was encoded with.") -> io.Input:
    return RESTORER.Input("restorer", tooltip=tooltip)


def prior_input(tooltip: str = FROM_ENCODER) -> io.Input:
    return PRIOR.Input("prior", tooltip=tooltip)


def conditioning_inputs() -> list[io.Conditioning.Input]:
    """The optional inputs positive and negative."""
    return [
        io.Conditioning.Input(
            "positive",
            optional=True,
            tooltip="What the picture should show. For the compact model, leave it unconnected: the model "
            "is then told which degradations were found. For SDXL, unconnected means an empty prompt, "
            "which clip encodes.",
        ),
        io.Conditioning.Input(
            "negative",
            optional=True,
            tooltip="What the picture should avoid. For the compact model, leave it unconnected. "
            "For SDXL, unconnected means an empty prompt, which clip encodes.",
        ),
    ]


def clip_input() -> io.Clip.Input:
    return io.Clip.Input(
        "clip",
        optional=True,
        tooltip="Only for SDXL, if positive or negative is not connected: "
        "the checkpoint's CLIP, which encodes the empty prompt.",
    )


def strength_input(
    tooltip: str = "Strength of DAFF. 1 is the method as trained, 0 leaves the model unchanged.",
) -> io.Float.Input:
    return io.Float.Input("strength", default=1.0, min=0.0, max=2.0, step=0.01, tooltip=tooltip)


def percent_input(name: str, default: float, tooltip: str) -> io.Float.Input:
    """A point in the sampling schedule, 0..1."""
    return io.Float.Input(name, default=default, min=0.0, max=1.0, step=0.001, advanced=True, tooltip=tooltip)


def seed_input(
    tooltip: str,
    *,
    most: int = LARGEST_SEED,
    control: bool | io.ControlAfterGenerate = FIXED,
    advanced: bool | None = None,
) -> io.Int.Input:
    """A seed, 0..most. `control`: what the browser does with it after a run."""
    return io.Int.Input(
        "seed",
        default=0,
        min=0,
        max=most,
        control_after_generate=control,
        advanced=advanced,
        tooltip=tooltip,
    )


def steps_input(tooltip: str) -> io.Int.Input:
    return io.Int.Input("steps", default=4, min=1, max=200, tooltip=tooltip)


def cfg_input(advanced: bool | None = None) -> io.Float.Input:
    return io.Float.Input(
        "cfg",
        default=1.0,
        min=0.0,
        max=30.0,
        step=0.1,
        advanced=advanced,
        tooltip="How strongly to follow positive over negative. "
        "1 for the compact model, which is twice as fast; about 5 for SDXL.",
    )


def tile_input(tooltip: str) -> io.Int.Input:
    """The size of tiles or windows in pixels; 0 lets the node choose."""
    return io.Int.Input("tile", default=0, min=0, max=8192, step=64, advanced=True, tooltip=tooltip)


def text_on_node(text: str) -> dict[str, list[str]]:
    """The `ui` result that makes `web/text.js` show `text` on a node in the middle of a graph.

    Output nodes use `ui.PreviewText`, whose key is `text`. This key differs, because ComfyUI takes any `text`
    for the preview of the whole run, and an older front end then lists no runs at all.
    """
    return {"aior_text": [text]}
