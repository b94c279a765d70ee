"""How training reads a picture file: as people see it, turned as the camera says, in 8 bits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ..picture.reader import UnreadablePicture, read_picture

EXIF_ORIENTATION, WIDTH, HEIGHT = 0x0112, 256, 257
SIDEWAYS = 5
"""From this EXIF orientation on, width and height are exchanged."""


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """Open a picture file. Raises ValueError that names the file when it is no picture, on opening or while
    its pixels are read."""
    try:
        with Image.open(path) as picture:
            yield picture
    # Pillow raises SyntaxError for some broken PNG files.
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(
            f"{path} is not a picture that can be read: {error}. Replace it, or take it out of the folder."
        ) from error


def size(path: Path) -> tuple[int, int]:
    """Width and height in pixels as shown, turned as the camera says. Raises ValueError as `opened` does."""
    with opened(path) as picture:
        # For a TIFF file some versions of Pillow give the size as shown; its own tags give the stored one.
        if picture.format == "TIFF":
            tags = picture.tag_v2  # type: ignore[attr-defined]
            width, height = tags[WIDTH], tags[HEIGHT]
        else:
            width, height = picture.size
        turned = picture.getexif().get(EXIF_ORIENTATION, 1) >= SIDEWAYS
        return (height, width) if turned else (width, height)


def decode(path: Path) -> Tensor:
    """The pixels `3 H W`, uint8, as shown (see `picture.reader`): alpha is dropped, 16 bits are rounded to 8,
    and of several pages the first one is taken.

    Raises ValueError that names the file when it is no picture or is cut off.
    """
    try:
        picture = read_picture(path.read_bytes())
        if picture.cut_off:
            raise UnreadablePicture("the file is cut off")
    except (OSError, UnreadablePicture) as error:
        raise ValueError(
            f"{path} cannot be read: {error}. Replace it, or take it out of the folder."
        ) from error
    return torch.from_numpy(picture.in_8_bits().pixels[0].copy()).permute(2, 0, 1).contiguous()
