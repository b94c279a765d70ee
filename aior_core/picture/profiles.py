"""Colour profiles: which pictures keep theirs, and which are converted to sRGB."""

from __future__ import annotations

import functools
import io

import numpy as np
from PIL import Image, ImageCms

_FAR_FROM_SRGB = 40.0  # levels of 255: a linear profile is 60 off, gamma 1.8 is 17 off


def is_transparent(image: Image.Image) -> bool:
    return image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info


@functools.lru_cache(maxsize=16)
def is_far_from_srgb(icc: bytes, grey: bool) -> bool:
    """Whether tones in the profile `icc` are so far from sRGB's that a picture would be taken for too dark or too bright.

    Adobe RGB, Display P3, ProPhoto and the like are near: their pictures keep their numbers and their profile. Then
    nothing of their gamut or of their 16 bits is lost. A profile that cannot be read is ignored, as viewers do.
    """
    mode, space = ("L", b"GRAY") if grey else ("RGB", b"RGB ")
    if not icc or icc[16:20] != space:
        return False
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    try:
        shown = _through_profile(ramp if grey else ramp.convert("RGB"), icc)
    except (ImageCms.PyCMSError, OSError, ValueError):
        return False
    return float(np.abs(np.asarray(shown.convert("L"), np.float32) - np.arange(256)).max()) > _FAR_FROM_SRGB


def _through_profile(image: Image.Image, icc: bytes) -> Image.Image:
    source = ImageCms.ImageCmsProfile(io.BytesIO(icc)) if icc else ImageCms.createProfile("LAB")
    mode = "RGBA" if image.mode == "RGBA" else "RGB"
    return ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode=mode)


def to_srgb(image: Image.Image, icc: bytes) -> Image.Image:
    """The picture in sRGB, by its profile where it has one that fits."""
    if image.mode == "P":
        image = image.convert("RGBA" if is_transparent(image) else "RGB")
    alpha = image.getchannel("A") if image.mode in ("LA", "RGBA") else None
    colours = image.convert({"LA": "L", "RGBA": "RGB", "1": "L"}.get(image.mode, image.mode))
    if colours.mode == "LAB" or icc:
        try:
            result = _through_profile(colours, b"" if colours.mode == "LAB" else icc)
        except (ImageCms.PyCMSError, OSError, ValueError):
            if colours.mode == "LAB":
                raise
            result = colours.convert("RGB")  # a damaged profile, or one of another kind of picture
    else:
        result = colours.convert("RGB")
    if alpha is not None:
        result.putalpha(alpha)
    return result
