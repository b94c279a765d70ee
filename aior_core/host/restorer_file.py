"""Writes a restorer to a file that Load AIOR Restorer reads back bit for bit."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import torch
from torch import Tensor

from ..weights import describe, save_weights
from .folders import saving_place
from .restorer import NOTE, Restorer, require_restorer


def restorer_weights(restorer: Restorer) -> dict[str, Tensor]:
    """The restorer's flat state dict, with `prior.`, `daff.` and perhaps `daem.`, on the CPU.

    A tensor is fp16 where that loses nothing, and otherwise keeps its dtype. Weights come from fp16 files,
    but rounding to bf16, where they run in it, gives values below the range of fp16.
    """
    networks = restorer.networks().items()
    return {
        f"{name}.{key}": _smallest(value)
        for name, network in networks
        for key, value in network.state_dict().items()
    }


def _smallest(tensor: Tensor) -> Tensor:
    tensor = tensor.detach().to("cpu")
    half = tensor.to(torch.float16)
    # Compared in fp64, because PyTorch cannot compare 8-bit floats.
    return half if tensor.is_floating_point() and torch.equal(half.double(), tensor.double()) else tensor


def write_restorer(restorer: Restorer, stem: Path) -> Path:
    """Write `stem.safetensors`, with the config, the base file and the training in its metadata. Returns the
    path.
    """
    metadata = {**describe(restorer.config), "base": restorer.source, NOTE: restorer.note}
    # Shards are for repositories. Users keep a single file.
    return save_weights(stem, restorer_weights(restorer), metadata, dtype=None, max_bytes=sys.maxsize)[0]


def save_restorer(restorer: Restorer, prefix: str) -> Path:
    """Write a restorer below ComfyUI's output folder, numbered as its save nodes do, so that nothing is
    overwritten.

    Returns the path. Raises ValueError for a prefix that leads out of the folder.
    """
    require_restorer(restorer)
    path = write_restorer(restorer, saving_place(prefix))
    # ComfyUI's front end does not show the text of this node, so the log names the file.
    logging.info(f"AIOR, restorer saved: {path}")
    return path
