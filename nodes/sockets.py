"""What several nodes show alike: the pack's own socket types, the words people search restoration by, tooltips, and texts on the node itself."""

from comfy_api.latest import io

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
CLIP = "For SDXL with positive or negative left open: the checkpoint's CLIP, which makes the empty text. Not used otherwise."
STRENGTH = "How much of DAFF is added: 1 is the method, 0 leaves the model as it was."
CFG = "How strongly positive is followed over negative. 1 for the compact model, twice as fast; about 5 for SDXL."
"""Tooltips of inputs that mean the same on every node that has them."""


def said(text: str) -> dict[str, list[str]]:
    """The `ui` of a node in the middle of a graph that says `text` in itself; `web/text.js` shows it, as it does the `text` of nodes at an end.

    Under a name of its own: of a run's `text` ComfyUI makes the run's preview, and the front end of an older one lists no runs at all then.
    """
    return {"aior_text": [text]}
