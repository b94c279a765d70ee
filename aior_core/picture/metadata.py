"""What a picture file says about its picture: EXIF, XMP, profile, resolution and texts, fit to go into another file."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from PIL import ExifTags, Image

KEPT_TAGS = {11, 270, 271, 272, 305, 306, 315, 316, 18246, 18249, 33432, 40091, 40092, 40093, 40094, 40095}
"""EXIF tags of the picture itself: description, camera, date, author, rating, copyright. Others describe the file."""

_OLD_SIZE = {40962, 40963, 40965}  # pixel width and height, and a pointer
_XMP = 700  # a TIFF's tag
_OWN_TEXTS = {"prompt", "workflow", "aior_key", "XML:com.adobe.xmp"}
_DAMAGED = (OSError, ValueError, SyntaxError, TypeError, KeyError, AttributeError, struct.error)
"""What Pillow raises where an EXIF block is damaged."""


@dataclass(frozen=True)
class Metadata:
    """What a file says about its picture. Orientation and thumbnail are gone: the pixels are turned already."""

    exif: bytes = b""
    xmp: bytes = b""
    icc: bytes = b""
    dpi: tuple[float, float] | None = None
    texts: tuple[tuple[str, str], ...] = ()


def read_metadata(image: Image.Image) -> tuple[Metadata, list[str]]:
    """What the file says about its picture, and what of that could not be kept."""
    info, remarks, exif = image.info, [], b""
    try:
        exif = _kept_exif(image.getexif())
    except _DAMAGED as error:
        remarks.append(f"its EXIF data is damaged and is not kept ({error})")
    xmp = info.get("xmp") or info.get("XML:com.adobe.xmp") or b""
    if image.format == "TIFF":
        xmp = image.tag_v2.get(_XMP, b"")
    xmp = xmp.encode() if isinstance(xmp, str) else bytes(xmp)
    xmp = re.sub(rb"""(tiff:Orientation(?:=["']|>))[2-8]""", rb"\g<1>1", xmp)
    texts = getattr(image, "text", {}) if image.format == "PNG" else {}
    kept = tuple(
        (str(key), str(text)) for key, text in texts.items() if key not in _OWN_TEXTS and len(text) < 65536
    )
    dpi = info.get("dpi")
    dpi = (
        tuple(map(float, dpi))
        if isinstance(dpi, tuple) and len(dpi) == 2 and all(0 < value < 1e5 for value in dpi)
        else None
    )
    return Metadata(exif, xmp, info.get("icc_profile") or b"", dpi, kept), remarks


def _kept_exif(exif: Image.Exif) -> bytes:
    """The EXIF block without what described the old file: orientation, size, thumbnail, how a TIFF lays its pixels out."""
    kept = Image.Exif()
    for tag in KEPT_TAGS & set(exif):
        kept[tag] = exif[tag]
    for tag in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        entries = {name: value for name, value in exif.get_ifd(tag).items() if name not in _OLD_SIZE}
        if entries:
            kept[tag] = entries
    return kept.tobytes() if len(kept) else b""


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation 1 to 8; 1 where there is none or it makes no sense."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except _DAMAGED:
        return 1  # `read_metadata` says that the EXIF data is damaged
    return value if value in range(1, 9) else 1
