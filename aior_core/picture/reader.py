"""Reads picture files as a colour-managed viewer shows them.

Orientation, colour profile, transparency, grey and 16 bits are respected. Pillow decodes every file. It
reduces colour files of 16 bits to 8 bits, so PyAV decodes those again, and its result is used where it agrees
with Pillow's. A file that cannot be read right raises `UnreadablePicture` with a sentence for people.
"""

from __future__ import annotations

import io
import re
import threading
from dataclasses import dataclass, field, replace

import numpy as np
from PIL import Image, ImageFile, TiffImagePlugin, UnidentifiedImageError

from .metadata import Metadata, Tag, orientation_of, read_metadata, tiff_tag
from .profiles import is_far_from_srgb, is_transparent, to_srgb

FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "BMP", "DIB", "TIFF", "GIF", "AVIF", "PPM", "JPEG2000")
"""The formats that are read, by Pillow's names. Others are not photographs, or start programs (EPS)."""

OTHER_FORMATS = (
    (rb"....ftyp(?:heic|heix|heim|heis|hevc|hevx|mif1|msf1)", "HEIC or HEIF"),
    (rb"....ftypavi[fs]", "AVIF"),
    (rb"(?:\xff\x0a|\0\0\0\x0cJXL )", "JPEG XL"),
    (rb"8BPS", "Photoshop (PSD)"),
    (rb"%PDF", "PDF"),
    (rb"%!PS", "PostScript"),
    (rb"gimp xcf", "GIMP (XCF)"),
    (rb"\x76\x2f\x31\x01", "OpenEXR"),
    (rb"#\?R", "Radiance HDR"),
    (rb"(?:FUJIFILM|FOVb|....ftypcrx|IIRO|IIU\0)", "raw camera data"),
    (rb"\s*<(?:\?xml|svg)", "SVG or XML"),
    (rb"(?i)\s*<(?:!doctype html|html)", "a web page"),
    (rb"....ftyp|\x1aE\xdf\xa3|RIFF....AVI ", "a video"),
    (rb"PK\x03\x04", "a ZIP archive"),
)
"""Patterns of the first bytes of files that are not read, and the names that messages give them."""

PNG_SIGNATURE, JPEG_SIGNATURE = b"\x89PNG", b"\xff\xd8\xff"
MAX_PIXELS = 500_000_000
"""Of all frames of one file. What a network makes of more does not fit into memory."""

_REDUCED_PAGE = 1  # the bit of a TIFF's NewSubfileType that marks a smaller copy of another page
_WHITE_IS_ZERO = 0  # a TIFF's PhotometricInterpretation
_PNG_BIT_DEPTH = slice(24, 25)  # its place in a PNG file
_CUT_OFF = re.compile(r"truncated|not enough|broken data")  # in Pillow's messages
_truncated_lock = threading.Lock()


class UnreadablePicture(ValueError):
    """A file that cannot be read right. The message says why and what to do."""


@dataclass(frozen=True)
class PictureFile:
    """A decoded picture file.

    Attributes:
        pixels: `N H W 3`, uint8 or uint16, one for each of N frames or pages.
        alpha: `N H W` of the same dtype; None without transparency.
        grey: whether the file has no colour.
        bits: 8 or 16, the bits per channel of `pixels` and `alpha`.
        metadata: what else the file says about its picture.
        remarks: sentences about what was not taken over from the file.
        cut_off: whether the file ends before its picture does. What is missing is black or grey.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None
    grey: bool
    bits: int
    metadata: Metadata = field(default_factory=Metadata)
    remarks: tuple[str, ...] = ()
    cut_off: bool = False

    def in_8_bits(self) -> PictureFile:
        """The same picture with 8 bits per channel, rounded."""
        alpha = None if self.alpha is None else to_bits(self.alpha, self.bits, 8)
        return replace(self, pixels=to_bits(self.pixels, self.bits, 8), alpha=alpha, bits=8)

    def to_image(self) -> np.ndarray:
        """The colours as a ComfyUI IMAGE, `N H W 3`, float32, 0..1.

        The colours of invisible pixels are arbitrary, mostly black, and a network would see an edge around
        them. So they are replaced by those of the visible pixels nearby.
        """
        colours = self.pixels.astype(np.float32) / (2**self.bits - 1)
        if self.alpha is None or self.alpha.all():
            return colours
        return np.stack([fill_invisible(frame, alpha > 0) for frame, alpha in zip(colours, self.alpha)])

    def to_mask(self) -> np.ndarray | None:
        """The transparency as a ComfyUI MASK, `N H W`, float32, or None if there is none.

        0 is opaque, 1 is transparent.
        """
        if self.alpha is None:
            return None
        return 1 - self.alpha.astype(np.float32) / (2**self.bits - 1)


def to_bits(values: np.ndarray, source: int, target: int) -> np.ndarray:
    """Convert levels of `source` bits to levels of `target` bits (8 or 16 each), rounded."""
    if source == target:
        return values
    # 65535 / 255 = 257
    return values.astype(np.uint16) * 257 if target == 16 else np.rint(values / 257.0).astype(np.uint8)


def read_picture(data: bytes) -> PictureFile:
    """Decode the bytes of a picture file.

    All frames or pages are read that have the size of the first one. A file that is cut off is read as far as
    it goes.

    Raises:
        UnreadablePicture: the file is not a picture, is damaged, is too large, or its white level is unknown.
    """
    try:
        return _read(data)
    except UnreadablePicture:
        raise
    except UnidentifiedImageError:
        raise UnreadablePicture(_unknown(data)) from None
    except Image.DecompressionBombError as error:
        raise UnreadablePicture(f"the picture is too large to be read safely: {error}") from None
    except MemoryError:
        raise UnreadablePicture("the picture does not fit into memory") from None
    except Exception as error:
        # For damaged files Pillow's plugins raise nearly any class: SyntaxError, struct.error,
        # ZeroDivisionError ...
        reason = str(error) or type(error).__name__
        raise UnreadablePicture(f"the file is damaged, or of a variant that is not read: {reason}") from error


def _unknown(data: bytes) -> str:
    """A sentence about a file that Pillow does not know."""
    head = data[:64]
    kind = next((name for pattern, name in OTHER_FORMATS if re.match(pattern, head, re.DOTALL)), None)
    if kind is None:
        return "this is no picture, or it is damaged from its first bytes on"
    return f"this is {kind}, whatever its name says, and is not read here. Save it as PNG, TIFF or JPEG first"


def _read(data: bytes) -> PictureFile:
    """Decode a file; one that is cut off is decoded as far as it goes."""
    try:
        return _decode(data)
    except OSError as error:
        if isinstance(error, UnidentifiedImageError) or not _CUT_OFF.search(str(error)):
            raise
    # The flag is Pillow's and holds for the whole process.
    with _truncated_lock:
        ImageFile.LOAD_TRUNCATED_IMAGES = True
        try:
            picture = replace(_decode(data), cut_off=True)
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = False
    if data.startswith((PNG_SIGNATURE, JPEG_SIGNATURE)):
        # The command line finds cut PNG and JPEG files itself and says so before it starts to work.
        return picture
    remark = "the file is damaged or cut off; what is missing is restored from nothing"
    return replace(picture, remarks=(*picture.remarks, remark))


def _decode(data: bytes) -> PictureFile:
    """Decode all frames, or all pages of the first one's size."""
    Image.init()
    with Image.open(io.BytesIO(data), formats=[name for name in FORMATS if name in Image.OPEN]) as image:
        # Further pictures of an MPO file are other views of the first, or its gain map.
        count = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
        if count * image.width * image.height > MAX_PIXELS:
            raise UnreadablePicture(
                f"{count} frames of {image.width}x{image.height} pixels are more than fit into memory: "
                "split the file first"
            )
        frames: list[PictureFile] = []
        for number in range(count):
            if count > 1:
                image.seek(number)
            if number and tiff_tag(image, Tag.NewSubfileType, 0) & _REDUCED_PAGE:
                continue
            is_deep = _has_16_bits(data, image)
            deep = _deep_pixels(data, image) if is_deep and count == 1 else None
            frames.append(_frame(image, is_deep, deep))
    return _joined(frames)


def _joined(frames: list[PictureFile]) -> PictureFile:
    """Join files of one frame each. Frames of another size than the first are left out, with a remark."""
    first = frames[0]
    if len(frames) == 1:
        return first
    same = [frame for frame in frames if frame.pixels.shape == first.pixels.shape]
    remarks = [remark for frame in same for remark in frame.remarks]
    if len(same) < len(frames):
        height, width = first.pixels.shape[1:3]
        remarks.append(
            f"{len(frames) - len(same)} of {len(frames)} pages have another size than the first "
            f"({width}x{height}) and are left out: save them as files of their own"
        )
    bits = min(frame.bits for frame in same)
    same = [frame.in_8_bits() if bits == 8 else frame for frame in same]
    alpha = None
    if any(frame.alpha is not None for frame in same):
        opaque = np.full(first.pixels.shape[:3], 2**bits - 1, same[0].pixels.dtype)
        alpha = np.concatenate([opaque if frame.alpha is None else frame.alpha for frame in same])
    return PictureFile(
        pixels=np.concatenate([frame.pixels for frame in same]),
        alpha=alpha,
        grey=all(frame.grey for frame in same),
        bits=bits,
        metadata=first.metadata,
        remarks=tuple(dict.fromkeys(remarks)),
    )


def _frame(image: Image.Image, is_deep: bool, deep: np.ndarray | None) -> PictureFile:
    """Decode the current frame, upright, in sRGB or in the profile that it keeps.

    `is_deep` is what `_has_16_bits` returned, `deep` what `_deep_pixels` returned.
    """
    if deep is not None and image.format == "TIFF":
        deep = upright(deep, orientation_of(image))
    # Pillow turns TIFF files, and no others, while it loads them and then forgets their orientation. So the
    # orientation of the picture is asked for after loading.
    image.load()
    metadata, remarks = read_metadata(image)
    orientation = orientation_of(image)
    mode = image.mode
    if mode in ("I", "F") or mode.startswith("I;16"):
        values, alpha = _single_channel(image)
        pixels, grey = np.repeat(values[..., None], 3, -1), True
    else:
        grey = mode in ("1", "L", "LA", "La")
        if mode in ("CMYK", "LAB", "YCbCr", "HSV") or is_far_from_srgb(metadata.icc, grey):
            # Pillow converts 8 bits only.
            image, deep = to_srgb(image, metadata.icc), None
            metadata = replace(metadata, icc=b"")
        array = np.asarray(image.convert("RGBA" if is_transparent(image) else "RGB"))
        if deep is not None and _agree(array, deep):
            array = deep
        elif is_deep:
            remarks.append("only 8 of its 16 bits could be read")
        pixels, alpha = array[..., :3], array[..., 3] if array.shape[-1] == 4 else None
    if metadata.icc and metadata.icc[16:20] != (b"GRAY" if grey else b"RGB "):
        # The profile is of another kind of picture, and no viewer can use it.
        metadata = replace(metadata, icc=b"")
    return PictureFile(
        pixels=upright(pixels, orientation)[None],
        alpha=None if alpha is None else upright(alpha, orientation)[None],
        grey=grey,
        bits=16 if pixels.dtype == np.uint16 else 8,
        metadata=metadata,
        remarks=tuple(remarks),
    )


def _agree(array: np.ndarray, deep: np.ndarray) -> bool:
    """Whether 16-bit pixels have the shape and, but for one level, the upper 8 bits of 8-bit pixels."""
    return array.shape == deep.shape and np.abs(array.astype(np.int32) - (deep >> 8)).max() <= 1


def _single_channel(image: Image.Image) -> tuple[np.ndarray, np.ndarray | None]:
    """Decode a picture with one channel of more than 8 bits.

    Returns:
        Values and alpha (or None), `H W`, uint16.

    Raises:
        UnreadablePicture: the file does not say which value is white, or a value is not a number.
    """
    values = np.asarray(image)
    if image.mode == "F":
        if not np.isfinite(values).all():
            raise UnreadablePicture("the picture has values that are not numbers (NaN or infinite)")
        if values.min() < 0 or values.max() > 1:
            raise UnreadablePicture(
                f"its values run from {values.min():g} to {values.max():g}, and nothing says which of them "
                "is white (expected 0 to 1). Save it with 8 or 16 bits first"
            )
        return np.rint(values * 65535).astype(np.uint16), None
    if image.mode == "I" and (image.format == "TIFF" or values.min() < 0 or values.max() > 65535):
        raise UnreadablePicture(
            "its values are whole numbers of 32 bits, and nothing says which of them is white. "
            "Save it with 8 or 16 bits first"
        )
    values = values.astype(np.uint16)
    if tiff_tag(image, TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == _WHITE_IS_ZERO:
        values = 65535 - values  # Pillow inverts pictures of 8 bits only.
    transparent = image.info.get("transparency")
    if not isinstance(transparent, int):
        return values, None
    return values, np.where(values == transparent, 0, 65535).astype(np.uint16)


def _has_16_bits(data: bytes, image: Image.Image) -> bool:
    """Whether the current frame of a PNG or TIFF file has 16 bits per channel."""
    if image.format == "PNG":
        return data[_PNG_BIT_DEPTH] == b"\x10"
    return set(tiff_tag(image, TiffImagePlugin.BITSPERSAMPLE, (8,))) == {16}


def _deep_pixels(data: bytes, image: Image.Image) -> np.ndarray | None:
    """Decode a 16-bit colour PNG or TIFF file with PyAV, as stored.

    Returns `H W 3`, or `H W 4` with transparency, uint16; None for other pictures and where PyAV cannot read
    the file.
    """
    if image.mode not in ("RGB", "RGBA", "LA"):
        return None
    # PyAV is imported for the few files that need it.
    import av

    layout = "rgb48le" if image.mode == "RGB" and not is_transparent(image) else "rgba64le"
    try:
        with av.open(io.BytesIO(data), "r") as container:
            return next(container.decode(video=0)).to_ndarray(format=layout)
    except (av.FFmpegError, StopIteration, ValueError):
        return None  # `_frame` adds a remark.


def upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """Rotate and mirror `H W ...` as the EXIF orientation (1 to 8) asks. The result is contiguous."""
    if orientation in (5, 6, 7, 8):
        array = np.swapaxes(array, 0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return np.ascontiguousarray(array)


def fill_invisible(colours: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Replace invisible pixels by the mean of the visible pixels around them.

    The picture is halved again and again. Each level holds the mean of the visible pixels of the level
    before, and a pixel without any takes its colour from the next level. If no pixel is visible, nothing is
    replaced.

    Args:
        colours: `H W 3`, float.
        visible: `H W`, bool.

    Returns:
        `H W 3`, float32; `colours` itself if there is nothing to replace.
    """
    if visible.all() or not visible.any():
        return colours
    height, width = visible.shape
    pad = ((0, height % 2), (0, width % 2))
    weight = np.pad(visible.astype(np.float32), pad)
    total = np.pad(colours * visible[..., None], (*pad, (0, 0)))
    rows, columns = weight.shape[0] // 2, weight.shape[1] // 2
    weight = weight.reshape(rows, 2, columns, 2).sum((1, 3))
    total = total.reshape(rows, 2, columns, 2, 3).sum((1, 3)) / np.maximum(weight, 1)[..., None]
    coarse = fill_invisible(total, weight > 0)
    filled = coarse.repeat(2, 0).repeat(2, 1)[:height, :width]
    return np.where(visible[..., None], colours, filled).astype(np.float32)
