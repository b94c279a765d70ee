"""How training reads a picture file: as people see it, turned as the camera says, in 8 bits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}
EXIF_ORIENTATION, WIDTH, HEIGHT = 0x0112, 256, 257
SIDEWAYS = 5
"""The orientations from here on exchange width and height."""


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """A picture file. Raises ValueError that names it when it is none, here or while its pixels are read."""
    try:
        with Image.open(path) as picture:
            yield picture
    # Pillow raises SyntaxError for some broken PNG files.
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(
            f"{path} is not a picture that can be read: {error}. Replace it, or take it out of the folder."
        ) from error


def size(path: Path) -> tuple[int, int]:
    """Width and height as shown, turned as the camera says. Raises ValueError as `opened` does."""
    with opened(path) as picture:
        # Of a TIFF file some versions of Pillow give the size as shown; its own tags say the stored one.
        stored = (picture.tag_v2[WIDTH], picture.tag_v2[HEIGHT]) if picture.format == "TIFF" else picture.size
        turned = picture.getexif().get(EXIF_ORIENTATION, 1) >= SIDEWAYS
        return stored[::-1] if turned else stored


def decode(path: Path) -> Tensor:
    """The pixels `3 H W`, uint8, as shown; alpha is dropped, 16 bits are rounded to 8.

    Raises ValueError as `opened` does, and for floating-point pictures, whose white is not known.
    """
    with opened(path) as picture:
        # Pillow turns a TIFF file while it reads the pixels. Asked before that, it would be turned twice.
        picture.load()
        picture = ImageOps.exif_transpose(picture)
        if picture.mode == "F":
            raise ValueError(
                f"{path} holds floating-point numbers, whose white is not known. "
                "Save it with 8 or 16 bits a channel."
            )
        if picture.mode.startswith("I"):
            # Pillow itself cuts 16 bits off at 255, and the picture comes out white.
            values = np.asarray(picture).astype(np.int64)
            grey = ((values.clip(0, 65535) + 128) // 257).astype(np.uint8)
            array = np.repeat(grey[..., None], 3, axis=2)
        else:
            array = np.array(picture.convert("RGB"))
    return torch.from_numpy(array).permute(2, 0, 1).contiguous()
