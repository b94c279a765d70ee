"""Colour profiles: which pictures keep theirs, and which are converted to sRGB."""

from __future__ import annotations

import functools
import io

import numpy as np
from PIL import Image, ImageCms

_FAR_FROM_SRGB = 40.0
"""In levels of 255. A linear profile is 60 levels from sRGB, gamma 1.8 is 17 levels."""
_PROFILE_ERRORS = (ImageCms.PyCMSError, OSError, ValueError)
"""What Pillow raises for a damaged profile, or for one of another kind of picture."""


def is_transparent(image: Image.Image) -> bool:
    """Whether a picture has an alpha channel, a transparent palette entry or a transparent colour."""
    return image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info


@functools.lru_cache(maxsize=16)
def is_far_from_srgb(icc: bytes, grey: bool) -> bool:
    """Whether a picture looks far too dark or too bright if its ICC profile is ignored.

    Adobe RGB, Display P3, ProPhoto and the like are near sRGB. Their pictures keep their values and their
    profile, so that nothing of their gamut or of their 16 bits is lost. A profile that is damaged or of
    another kind of picture is ignored, as viewers ignore it.
    """
    mode, space = ("L", b"GRAY") if grey else ("RGB", b"RGB ")
    if not icc or icc[16:20] != space:
        return False
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    try:
        shown = _through_profile(ramp.convert(mode), icc)
    except _PROFILE_ERRORS:
        return False
    differences = np.asarray(shown.convert("L"), np.float32) - np.arange(256)
    return float(np.abs(differences).max()) > _FAR_FROM_SRGB


def _through_profile(image: Image.Image, icc: bytes) -> Image.Image:
    """Convert to sRGB from the profile `icc`, or from CIELAB if it is empty."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(icc)) if icc else ImageCms.createProfile("LAB")
    mode = "RGBA" if image.mode == "RGBA" else "RGB"
    converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode=mode)
    assert converted is not None  # None is returned only by a conversion in place.
    return converted


def to_srgb(image: Image.Image, icc: bytes) -> Image.Image:
    """Convert a picture to sRGB, RGB or RGBA.

    The profile `icc` is used if it is not empty and fits the picture. CIELAB pictures need none.
    """
    if image.mode == "P":
        image = image.convert("RGBA" if is_transparent(image) else "RGB")
    alpha = image.getchannel("A") if image.mode in ("LA", "RGBA") else None
    colours = image.convert({"LA": "L", "RGBA": "RGB", "1": "L"}.get(image.mode, image.mode))
    if colours.mode == "LAB":
        result = _through_profile(colours, b"")
    else:
        result = _by_profile(colours, icc)
    if alpha is not None:
        result.putalpha(alpha)
    return result


def _by_profile(colours: Image.Image, icc: bytes) -> Image.Image:
    """Convert to sRGB from the profile `icc`; without one that can be used, by Pillow's plain conversion."""
    if icc:
        try:
            return _through_profile(colours, icc)
        except _PROFILE_ERRORS:
            pass  # Viewers ignore such a profile too.
    return colours.convert("RGB")
