"""The suffixes of the picture files that the pack reads.

This module needs the standard library only, so that scripts can import it under a Python without PyTorch.
"""

from __future__ import annotations

PICTURE_SUFFIXES = frozenset({
    ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".bmp", ".dib", ".tif", ".tiff",
    ".gif", ".avif", ".jp2", ".ppm", ".pgm", ".pbm", ".pnm",
})  # fmt: skip
"""Lower case, with the dot."""
