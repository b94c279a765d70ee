"""How much memory a stage takes, and the largest tile that fits into what is free."""

from __future__ import annotations

import re
from dataclasses import dataclass

TILES = (4096, 3072, 2048, 1536, 1024, 768, 512, 384, 256, 128)
"""Sides in pixels of the tiles that are chosen automatically, largest first."""
SMALLEST_TILE = TILES[-1]

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

    per_pixel: bytes for each pixel that a tile sees. halo: pixels on every side that a tile sees beyond its own. held: bytes that do not
    depend on the tile.
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
        """The largest tile with which the stage takes at most `memory` bytes, the whole picture first; None if none fits."""
        tiles = (self.whole, *(tile for tile in TILES if tile < self.whole))
        return next((tile for tile in tiles if self.bytes(tile) <= memory), None)
