"""What a picture file says about its picture: EXIF, XMP, colour profile, resolution and texts."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Any

from PIL import ExifTags, Image, TiffImagePlugin

Tag = ExifTags.Base
KEPT_TAGS = {
    Tag.ProcessingSoftware,
    Tag.ImageDescription,
    Tag.Make,
    Tag.Model,
    Tag.Software,
    Tag.DateTime,
    Tag.Artist,
    Tag.HostComputer,
    Tag.Rating,
    Tag.RatingPercent,
    Tag.Copyright,
    Tag.XPTitle,
    Tag.XPComment,
    Tag.XPAuthor,
    Tag.XPKeywords,
    Tag.XPSubject,
}
"""EXIF tags that describe the picture. All others describe the file and are dropped."""

_SIZE_TAGS = {Tag.ExifImageWidth, Tag.ExifImageHeight, Tag.ExifInteroperabilityOffset}
"""Tags of the EXIF directory that a new file does not share: the size in pixels, and a pointer."""
_OWN_TEXTS = {"prompt", "workflow", "aior_key", "XML:com.adobe.xmp"}
"""PNG texts that the writer writes anew."""
_MAX_TEXT = 65536
_DAMAGED_EXIF = (OSError, ValueError, SyntaxError, TypeError, KeyError, AttributeError, struct.error)
"""What Pillow raises for a damaged EXIF block."""


@dataclass(frozen=True)
class Metadata:
    """What a file says about its picture.

    Orientation and thumbnail are left out, because the pixels are turned upright when they are read.

    Attributes:
        exif: an EXIF block, empty if there is none.
        xmp: an XMP packet, empty if there is none.
        icc: an ICC profile, empty if there is none.
        dpi: horizontal and vertical resolution in dots per inch, or None.
        texts: keys and values of a PNG file's texts.
    """

    exif: bytes = b""
    xmp: bytes = b""
    icc: bytes = b""
    dpi: tuple[float, float] | None = None
    texts: tuple[tuple[str, str], ...] = ()


def tiff_tag(image: Image.Image, tag: int, default: Any = None) -> Any:
    """The value of a tag in the current page of a TIFF file; `default` if there is no such tag or TIFF."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return default
    return image.tag_v2.get(tag, default)


def read_metadata(image: Image.Image) -> tuple[Metadata, list[str]]:
    """The metadata of an opened picture, and sentences about what of it could not be kept."""
    info, remarks, exif = image.info, [], b""
    try:
        exif = _kept_exif(image.getexif())
    except _DAMAGED_EXIF as error:
        remarks.append(f"its EXIF data is damaged and is not kept ({error})")
    xmp = info.get("xmp") or info.get("XML:com.adobe.xmp") or b""
    if image.format == "TIFF":
        xmp = tiff_tag(image, TiffImagePlugin.XMP, b"")
    xmp = xmp.encode() if isinstance(xmp, str) else bytes(xmp)
    # XMP repeats the orientation. The pixels are upright, so it becomes 1.
    xmp = re.sub(rb"""(tiff:Orientation(?:=["']|>))[2-8]""", rb"\g<1>1", xmp)
    texts = getattr(image, "text", {}) if image.format == "PNG" else {}
    kept = tuple(
        (str(key), str(text))
        for key, text in texts.items()
        if key not in _OWN_TEXTS and len(text) < _MAX_TEXT
    )
    return Metadata(exif, xmp, info.get("icc_profile") or b"", _resolution(info.get("dpi")), kept), remarks


def _resolution(dpi: Any) -> tuple[float, float] | None:
    """Pillow's value for dots per inch if it makes sense, else None."""
    if isinstance(dpi, tuple) and len(dpi) == 2 and all(0 < value < 1e5 for value in dpi):
        return float(dpi[0]), float(dpi[1])
    return None


def _kept_exif(exif: Image.Exif) -> bytes:
    """The EXIF block without what describes the old file: orientation, size, thumbnail, layout of a TIFF."""
    kept = Image.Exif()
    for tag in KEPT_TAGS & set(exif):
        kept[tag] = exif[tag]
    for directory in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        entries = {tag: value for tag, value in exif.get_ifd(directory).items() if tag not in _SIZE_TAGS}
        if entries:
            kept[directory] = entries
    return kept.tobytes() if len(kept) else b""


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 (upright) if there is none or it makes no sense."""
    try:
        value = image.getexif().get(Tag.Orientation, 1)
    except _DAMAGED_EXIF:
        return 1  # `read_metadata` reports the damage.
    return value if value in range(1, 9) else 1
