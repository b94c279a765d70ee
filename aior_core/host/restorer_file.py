"""A restorer as a file that Load AIOR Restorer reads back, bit for bit."""

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
    """Flat state dict with `prior.`, `daff.` and perhaps `daem.`, on the CPU: in fp16 where that loses nothing, else as it is.

    Weights come from fp16 files, but where they run in bf16 they were rounded, and the smallest of those are no fp16 numbers.
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
    # In doubles: numbers of 8 bits cannot be compared.
    return half if tensor.is_floating_point() and torch.equal(half.double(), tensor.double()) else tensor


def write_restorer(restorer: Restorer, stem: Path) -> Path:
    """Write `stem.safetensors`, with what it was built from, its base file and its training in the metadata; returns its path."""
    metadata = {**describe(restorer.config), "base": restorer.source, NOTE: restorer.note}
    # Shards are for what travels in a repository; a person keeps one file.
    return save_weights(stem, restorer_weights(restorer), metadata, dtype=None, max_bytes=sys.maxsize)[0]


def save_restorer(restorer: Restorer, prefix: str) -> Path:
    """Write a restorer below ComfyUI's output folder as its save nodes do, numbered, so that nothing is overwritten; returns its path.

    Raises ValueError for a prefix that leads out of it.
    """
    require_restorer(restorer)
    path = write_restorer(restorer, saving_place(prefix))
    # The browser does not show what a node of a pack says.
    logging.info(f"AIOR, restorer saved: {path}")
    return path
