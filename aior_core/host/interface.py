"""What several nodes show alike: the pack's own socket types, and the words people search restoration by."""

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
