"""How much memory a stage takes, the largest tile that fits, and going on with a smaller one when memory runs out."""

from __future__ import annotations

import ctypes
import functools
import logging
import sys
from collections.abc import Callable
from typing import TypeVar

import comfy.model_management as management
import torch

from ..pipeline.memory_need import OUT_OF_MEMORY, SMALLEST_TILE, Need

T = TypeVar("T")

LEAST = 64
"""Tiles that are asked for are at least this large: smaller ones would be nearly all halo."""
SHARE = 0.8
"""Of the free memory, what a tile that is chosen here may take: other programs want some, and estimates are rough."""
GIB = 2**30


def available(device: torch.device) -> float:
    """Bytes that a stage may take on `device`: what is free, and what the host's models hold there, which it moves away on demand."""
    # The host still lists models that are gone, until it loads the next one.
    loaded = [entry.model for entry in management.current_loaded_models if entry.device == device]
    held = sum(model.loaded_size() for model in loaded if model is not None)
    return management.get_free_memory(device) + (0 if management.is_device_cpu(device) else held)


def choose_tile(tile: int, need: Need, device: torch.device, stage: str) -> int:
    """Side in pixels of a stage's tiles: as asked for, or the largest that fits (0); `need.whole` is one.

    `stage` names the stage in the log.

    Raises RuntimeError with the numbers, before anything is run, if what was asked for does not fit, or nothing does.
    """
    memory = available(device)
    if tile <= 0:
        chosen = need.fitting_tile(SHARE * memory)
        if chosen is None:
            raise RuntimeError(
                _too_large(need, SMALLEST_TILE, memory, device)
                + " Close other programs, or make the picture smaller."
            )
        if chosen < need.whole:
            logging.info(
                f"AIOR, {stage}: tiles of {chosen} pixels; the whole picture would take {_gib(need.bytes(need.whole))}, {_gib(memory)} are free."
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
        raise RuntimeError(f"{_too_large(need, chosen, memory, device)} {advice}")
    return chosen


def _too_large(need: Need, tile: int, memory: float, device: torch.device) -> str:
    what = f"{need.width}x{need.height} pixels" + (f" in tiles of {tile}" if tile < need.whole else "")
    return f"{what} would take about {_gib(need.bytes(tile))} of memory; {_gib(memory)} are free on {device}."


def _gib(count: float) -> str:
    return f"{count / GIB:.1f} GiB"


@functools.cache
def _malloc_trim() -> Callable[[int], int] | None:
    return getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None


def give_back_freed(device: torch.device, pixels: int) -> None:
    """On a CPU, give back to the system what the C library keeps of freed memory, in a stage that works on a picture of so many pixels.

    Nothing happens for less than a megapixel, which is faster with what is kept, and where the C library is not glibc.

    Tensors of less than 32 MiB lie in its heap, which is full of holes after the coarse levels of a large tile: measured at 24 megapixels,
    300 to 540 MiB of them, just when the finest level takes the most.
    """
    trim = _malloc_trim()
    if trim is not None and pixels >= 2**20 and management.is_device_cpu(device):
        trim(0)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that memory ran out, on an accelerator or on the CPU."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    # Where there is no CUDA the host's own OOM_EXCEPTION is every exception.
    gpu = management.OOM_EXCEPTION is not Exception and isinstance(error, management.OOM_EXCEPTION)
    return gpu or (isinstance(error, RuntimeError) and OUT_OF_MEMORY.search(str(error)) is not None)


def with_smaller_tiles(run: Callable[[int], T], tile: int, stage: str) -> T:
    """`run(tile)`, again with half the tile as often as memory runs out. `stage` names the stage in the log.

    Raises RuntimeError where even the smallest tile is too large.
    """
    while True:
        try:
            return run(tile)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if tile <= SMALLEST_TILE:
                raise RuntimeError(
                    f"out of memory even with tiles of {tile} pixels. Close other programs, or make the picture smaller."
                ) from error
        # Outside of the handler: until here the error's traceback holds the tensors that did not fit.
        management.soft_empty_cache()
        smaller = max(SMALLEST_TILE, tile // 2 // 64 * 64)
        logging.warning(f"AIOR, {stage}: out of memory with tiles of {tile} pixels; going on with {smaller}.")
        tile = smaller
