"""What several nodes show alike: the pack's own socket types, the words people search restoration by, and tooltips."""

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
