"""Memory of a stage on ComfyUI's devices: which tile fits, and smaller tiles when memory runs out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

import comfy.model_management as management
import torch

from ..pipeline.memory_need import OUT_OF_MEMORY, SMALLEST_TILE, Need, gib, return_freed

T = TypeVar("T")

LEAST = 64
"""Pixels of the smallest tile that can be asked for. Smaller tiles would be nearly all halo."""
SHARE = 0.8
"""The share of the free memory that an automatically chosen tile may take: other programs need some, and
estimates are rough."""


def available(device: torch.device) -> float:
    """Bytes that a stage may take on `device`: what is free, and what ComfyUI's models hold there, because it
    moves them away on demand."""
    # The host still lists models that are gone, until it loads the next one.
    loaded = [entry.model for entry in management.current_loaded_models if entry.device == device]
    held = sum(model.loaded_size() for model in loaded if model is not None)
    return management.get_free_memory(device) + (0 if management.is_device_cpu(device) else held)


def choose_tile(tile: int, need: Need, device: torch.device, stage: str) -> int:
    """The side in pixels of a stage's tiles: `tile`, or the largest that fits for 0. `need.whole` covers the
    whole picture.

    stage: its name in the log. Raises RuntimeError with the numbers, before anything runs, if that tile or
    even the smallest does not fit.
    """
    memory = available(device)
    if tile <= 0:
        chosen = need.fitting_tile(SHARE * memory)
        if chosen is None:
            raise RuntimeError(
                need.describe(SMALLEST_TILE, memory, device)
                + " Close other programs, or make the picture smaller."
            )
        if chosen < need.whole:
            logging.info(
                f"AIOR, {stage}: tiles of {chosen} pixels; the whole picture would take "
                f"{gib(need.bytes(need.whole))}, {gib(memory)} are free."
            )
        return chosen
    chosen = min(max(tile, LEAST), need.whole)
    if need.bytes(chosen) > memory:
        fits = need.fitting_tile(SHARE * memory)
        advice = (
            f"Set tile to {fits}, or to 0 to have it chosen."
            if fits and fits < chosen
            else "Close other programs, or make the picture smaller."
        )
        raise RuntimeError(f"{need.describe(chosen, memory, device)} {advice}")
    return chosen


def give_back_freed(device: torch.device, pixels: int) -> None:
    """`return_freed` for a stage on `device` that works on a picture of `pixels`."""
    if management.is_device_cpu(device):
        return_freed(pixels)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that memory ran out, on an accelerator or on the CPU."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    # Where there is no CUDA the host's own OOM_EXCEPTION is every exception.
    gpu = management.OOM_EXCEPTION is not Exception and isinstance(error, management.OOM_EXCEPTION)
    return gpu or (isinstance(error, RuntimeError) and OUT_OF_MEMORY.search(str(error)) is not None)


def with_smaller_tiles(run: Callable[[int], T], tile: int, stage: str) -> T:
    """`run(tile)`; whenever memory runs out, again with half the tile. stage: its name in the log.

    Raises RuntimeError if even the smallest tile is too large.
    """
    while True:
        try:
            return run(tile)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if tile <= SMALLEST_TILE:
                raise RuntimeError(
                    f"out of memory even with tiles of {tile} pixels. Close other programs, or make the "
                    "picture smaller."
                ) from error
        # Outside of the handler: until here the error's traceback holds the tensors that did not fit.
        management.soft_empty_cache()
        smaller = max(SMALLEST_TILE, tile // 2 // 64 * 64)
        logging.warning(f"AIOR, {stage}: out of memory with tiles of {tile} pixels; going on with {smaller}.")
        tile = smaller
