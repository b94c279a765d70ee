"""How much memory a stage takes, which tile fits, and what errors say when memory runs out."""

from __future__ import annotations

import ctypes
import functools
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass

import torch

TILES = (4096, 3072, 2048, 1536, 1024, 768, 512, 384, 256, 128)
"""Sides in pixels of the tiles that are chosen automatically, largest first."""
SMALLEST_TILE = TILES[-1]
GIB = 2**30

OUT_OF_MEMORY = re.compile(
    "|".join(
        (
            # MPS, and CUDA, HIP, XPU and NPU where the error has no class of its own.
            r"out of memory",
            # MPS, for a single tensor above Metal's largest buffer.
            r"Invalid buffer size: \d",
            # The processor, on Linux and macOS and on Windows.
            r"DefaultCPUAllocator: (can't allocate|not enough) memory",
            # DirectML.
            r"not enough GPU video memory",
            # cuBLAS, cuDNN and their like, for their workspaces.
            r"STATUS_(ALLOC_FAILED|INTERNAL_ERROR_\w+_ALLOCATION_FAILED)",
            # SYCL and Level Zero.
            r"ERROR_OUT_OF_(DEVICE_MEMORY|HOST_MEMORY|RESOURCES)",
        )
    ),
    re.IGNORECASE,
)
"""Matches what PyTorch's back ends say in a plain RuntimeError when memory runs out."""


@dataclass(frozen=True)
class Need:
    """Memory of a stage on a picture of `height` by `width` pixels.

    per_pixel: bytes for each pixel that a tile sees. halo: pixels on every side that a tile sees beyond its
    own. held: bytes that do not depend on the tile.
    """

    height: int
    width: int
    per_pixel: float
    halo: int = 0
    held: float = 0.0

    @property
    def whole(self) -> int:
        """The side of the tile that covers the whole picture."""
        return max(self.height, self.width)

    def bytes(self, tile: int) -> float:
        """Memory of the stage with tiles of `tile` pixels a side."""
        seen = tile + 2 * self.halo
        return self.held + self.per_pixel * min(self.height, seen) * min(self.width, seen)

    def fitting_tile(self, memory: float) -> int | None:
        """The largest tile with which the stage takes at most `memory` bytes, the whole picture first; None
        if none fits."""
        tiles = (self.whole, *(tile for tile in TILES if tile < self.whole))
        return next((tile for tile in tiles if self.bytes(tile) <= memory), None)

    def describe(self, tile: int, memory: float, device: torch.device) -> str:
        """A sentence for people: what tiles of `tile` pixels would take, and the `memory` bytes that are free
        on `device`."""
        what = f"{self.width}x{self.height} pixels" + (f" in tiles of {tile}" if tile < self.whole else "")
        return (
            f"{what} would take about {gib(self.bytes(tile))} of memory; {gib(memory)} are free on {device}."
        )


def gib(count: float) -> str:
    """Bytes as text in GiB."""
    return f"{count / GIB:.1f} GiB"


@functools.cache
def _malloc_trim() -> Callable[[int], int] | None:
    return getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None


def return_freed(pixels: int) -> None:
    """With glibc, return freed CPU memory that the C library keeps to the system, for pictures of a megapixel
    and more.

    Below a megapixel the kept memory makes a stage faster. Tensors below 32 MiB lie in glibc's heap, which is
    full of holes after the coarse levels of a large tile: 300 to 540 MiB at 24 megapixels, when the finest
    level needs the most.
    """
    trim = _malloc_trim()
    if trim is not None and pixels >= 2**20:
        trim(0)
