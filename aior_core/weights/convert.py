"""A published checkpoint as files of ours."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from .detect import config_from, describe
from .load import load_checkpoint
from .save import save_weights
from .unildiff import is_published, split_published


def convert(path: Path, folder: Path, *, half: bool = True) -> list[Path]:
    """Write `STEM_restorer.safetensors` and, if the checkpoint has a UNet, `STEM_unet.safetensors` into `folder`; returns their paths.

    The restorer's keys and shapes are checked first. half: as fp16, which those codes run in; otherwise each tensor keeps its dtype.
    Raises ValueError for a file that is no such checkpoint, or not a whole one, or with weights that fp16 cannot hold.
    """
    state_dict, _ = load_checkpoint(path)
    if not is_published(state_dict):
        raise ValueError(
            f"{path.name} is no UniLDiff or FaithDiff checkpoint: nothing in it is named as their restorer is."
        )
    published = split_published(state_dict)
    config = config_from(published.restorer)
    dtype = torch.float16 if half else None
    parts = {"restorer": published.restorer, "unet": published.unet}
    notes = {
        "restorer": {
            **describe(config),
            "training": f"converted from {path.name}, a {published.variant} checkpoint",
        },
        "unet": {},
    }
    made = []
    for name, tensors in parts.items():
        if tensors:
            made += save_weights(
                folder / f"{path.stem}_{name}", tensors, notes[name], dtype=dtype, max_bytes=sys.maxsize
            )
    return made
