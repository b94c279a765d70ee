"""Reads picture files as a colour-managed viewer shows them: orientation, profile, transparency, grey, 16 bits.

Pillow decodes every file. PyAV decodes the 16-bit colour files that Pillow reduces to 8 bits; its result is used
only where it agrees with Pillow's. What cannot be read right raises `UnreadablePicture` with a sentence for people.
"""

from __future__ import annotations

import io
import re
import threading
from dataclasses import dataclass, field, replace

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from .metadata import Metadata, orientation_of, read_metadata
from .profiles import is_far_from_srgb, is_transparent, to_srgb

FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "BMP", "DIB", "TIFF", "GIF", "AVIF", "PPM", "JPEG2000")
"""Pillow's names of the formats that are read. Others (EPS, PDF ...) start programs or are no photographs."""

FOREIGN = (
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
"""First bytes of files that people take for pictures, and what they are."""

TOLD_WHEN_CUT_OFF = (b"\x89PNG", b"\xff\xd8\xff")
"""First bytes of PNG and JPEG files: of those the command itself says, before the work, that they are cut off."""

MOST_PIXELS = 500_000_000
"""Pixels of all frames of one file: what a network makes of more would not fit into memory."""

_NEW_SUBFILE_TYPE, _BITS_PER_SAMPLE, _PHOTOMETRIC = 254, 258, 262  # TIFF tags
_REDUCED_PAGE = 1  # bit 0 of a TIFF's NewSubfileType: a smaller copy of another page
_DEEP = "16 bits"  # a note of ours in `Image.info`
_truncated_lock = threading.Lock()


class UnreadablePicture(ValueError):
    """A file that cannot be read right. The message says why and what to do."""


@dataclass(frozen=True)
class PictureFile:
    """A decoded file.

    `pixels`: `N H W 3`, uint8 or uint16, one for each frame or page. `alpha`: `N H W` of the same type, None without
    transparency. `grey`: the file has no colour. `bits`: 8 or 16. `remarks`: sentences about what was not taken over. `cut_off`: the
    file ends before its picture does, and what is missing is black or grey.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None
    grey: bool
    bits: int
    metadata: Metadata = field(default_factory=Metadata)
    remarks: tuple[str, ...] = ()
    cut_off: bool = False

    def in_8_bits(self) -> PictureFile:
        """The same with 8 bits a channel, rounded."""
        alpha = None if self.alpha is None else to_bits(self.alpha, self.bits, 8)
        return replace(self, pixels=to_bits(self.pixels, self.bits, 8), alpha=alpha, bits=8)

    def unit(self) -> np.ndarray:
        """Colours as float32 `N H W 3` in 0..1, with invisible ones replaced by those around them.

        What lies under full transparency is arbitrary, mostly black. A network would see an edge there.
        """
        colours = self.pixels.astype(np.float32) / (2**self.bits - 1)
        if self.alpha is None or self.alpha.all():
            return colours
        return np.stack([fill_invisible(frame, alpha > 0) for frame, alpha in zip(colours, self.alpha)])


def to_bits(values: np.ndarray, source: int, target: int) -> np.ndarray:
    """Levels of `source` bits (8 or 16) as levels of `target` bits, rounded."""
    if source == target:
        return values
    return values.astype(np.uint16) * 257 if target == 16 else np.rint(values / 257.0).astype(np.uint8)


def read_picture(data: bytes) -> PictureFile:
    """Decode the bytes of a picture file. Raises UnreadablePicture."""
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
        # Of damaged files Pillow's plugins raise nearly any class: SyntaxError, RuntimeError, struct.error, ZeroDivisionError ...
        reason = str(error) or type(error).__name__
        raise UnreadablePicture(f"the file is damaged, or of a variant that is not read: {reason}") from error


def _unknown(data: bytes) -> str:
    head = data[:64]
    kind = next((name for pattern, name in FOREIGN if re.match(pattern, head, re.DOTALL)), None)
    if kind is None:
        return "this is no picture, or it is damaged from its first bytes on"
    return f"this is {kind}, whatever its name says, and is not read here. Save it as PNG, TIFF or JPEG first"


def _read(data: bytes) -> PictureFile:
    try:
        return _decode(data)
    except OSError as error:
        if isinstance(error, UnidentifiedImageError) or not re.search(
            r"truncated|not enough|broken data", str(error)
        ):
            raise
    # What is there of a file that is cut off is a picture all the same. The flag is Pillow's and holds for the whole process.
    with _truncated_lock:
        ImageFile.LOAD_TRUNCATED_IMAGES = True
        try:
            picture = _decode(data)
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = False
    picture = replace(picture, cut_off=True)
    if data.startswith(TOLD_WHEN_CUT_OFF):
        return picture
    return replace(
        picture,
        remarks=(
            *picture.remarks,
            "the file is damaged or cut off; what is missing is restored from nothing",
        ),
    )


def _decode(data: bytes) -> PictureFile:
    """All frames or pages of the first one's size."""
    Image.init()
    with Image.open(io.BytesIO(data), formats=[name for name in FORMATS if name in Image.OPEN]) as image:
        # An MPO's further pictures are other views or gain maps of the first.
        count = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
        if count * image.width * image.height > MOST_PIXELS:
            raise UnreadablePicture(
                f"{count} frames of {image.width}x{image.height} pixels are more than fit into memory: split the file first"
            )
        deep = _deep_pixels(data, image) if count == 1 else None
        frames: list[PictureFile] = []
        for number in range(count):
            if count > 1:
                image.seek(number)
            if number and image.format == "TIFF" and image.tag_v2.get(_NEW_SUBFILE_TYPE, 0) & _REDUCED_PAGE:
                continue
            frames.append(_frame(image, deep))
    return _joined(frames)


def _joined(frames: list[PictureFile]) -> PictureFile:
    """One PictureFile of several that hold one frame each."""
    first = frames[0]
    if len(frames) == 1:
        return first
    same = [frame for frame in frames if frame.pixels.shape == first.pixels.shape]
    remarks = [remark for frame in same for remark in frame.remarks]
    if len(same) < len(frames):
        height, width = first.pixels.shape[1:3]
        remarks.append(
            f"{len(frames) - len(same)} of {len(frames)} pages have another size than the first ({width}x{height}) "
            "and are left out: save them as files of their own"
        )
    bits = min(frame.bits for frame in same)
    same = [frame.in_8_bits() if bits == 8 else frame for frame in same]
    alpha = None
    if any(frame.alpha is not None for frame in same):
        opaque = np.full(first.pixels.shape[:3], 2**bits - 1, same[0].pixels.dtype)
        alpha = np.concatenate([opaque if frame.alpha is None else frame.alpha for frame in same])
    pixels = np.concatenate([frame.pixels for frame in same])
    return PictureFile(
        pixels, alpha, all(frame.grey for frame in same), bits, first.metadata, tuple(dict.fromkeys(remarks))
    )


def _frame(image: Image.Image, deep: np.ndarray | None) -> PictureFile:
    """The current frame, upright, in sRGB or in the profile that it keeps. `deep`: what `_deep_pixels` gave."""
    if image.format == "TIFF" and deep is not None:
        deep = upright(deep, orientation_of(image))
    # Pillow turns a TIFF while it loads it, and no other format. Asked before that, the orientation would count twice.
    image.load()
    metadata, remarks = read_metadata(image)
    orientation = orientation_of(image)
    stored = image.mode
    if stored in ("I", "F") or stored.startswith("I;16"):
        values, alpha = _single_channel(image)
        pixels, grey = np.repeat(values[..., None], 3, -1), True
    else:
        grey = stored in ("1", "L", "LA", "La")
        if stored in ("CMYK", "LAB", "YCbCr", "HSV") or is_far_from_srgb(metadata.icc, grey):
            image, deep = to_srgb(image, metadata.icc), None
            metadata = replace(metadata, icc=b"")
        array = np.asarray(image.convert("RGBA" if is_transparent(image) else "RGB"))
        if (
            deep is not None
            and deep.shape == array.shape
            and np.abs(array.astype(np.int32) - (deep >> 8)).max() <= 1
        ):
            array = deep
        elif _says_16_bits(image):
            remarks.append("only 8 of its 16 bits could be read")
        pixels, alpha = array[..., :3], array[..., 3] if array.shape[-1] == 4 else None
    if metadata.icc and metadata.icc[16:20] != (b"GRAY" if grey else b"RGB "):
        metadata = replace(metadata, icc=b"")  # a profile of another kind of picture: no viewer can use it
    pixels = upright(pixels, orientation)[None]
    alpha = None if alpha is None else upright(alpha, orientation)[None]
    return PictureFile(pixels, alpha, grey, 16 if pixels.dtype == np.uint16 else 8, metadata, tuple(remarks))


def _single_channel(image: Image.Image) -> tuple[np.ndarray, np.ndarray | None]:
    """`H W` uint16 of a picture with one deep channel, and its alpha. Raises UnreadablePicture where its white is not known."""
    values = np.asarray(image)
    if image.mode == "F":
        if not np.isfinite(values).all():
            raise UnreadablePicture("the picture has values that are not numbers (NaN or infinite)")
        if values.min() < 0 or values.max() > 1:
            raise UnreadablePicture(
                f"its values run from {values.min():g} to {values.max():g}, and nothing says which of them is white "
                "(expected 0 to 1). Save it with 8 or 16 bits first"
            )
        return np.rint(values * 65535).astype(np.uint16), None
    if image.mode == "I" and (image.format == "TIFF" or values.min() < 0 or values.max() > 65535):
        raise UnreadablePicture(
            "its values are whole numbers of 32 bits, and nothing says which of them is white. Save it with 8 or 16 bits first"
        )
    values = values.astype(np.uint16)
    if image.format == "TIFF" and image.tag_v2.get(_PHOTOMETRIC) == 0:
        values = 65535 - values  # white is 0; Pillow turns that round for 8 bits only
    key = image.info.get("transparency")
    return values, np.where(values == key, 0, 65535).astype(np.uint16) if isinstance(key, int) else None


def _says_16_bits(image: Image.Image) -> bool:
    """Whether a colour file holds 16 bits a channel, of which Pillow gives the upper 8."""
    if image.format == "TIFF":
        return set(image.tag_v2.get(_BITS_PER_SAMPLE, (8,))) == {16}
    return image.format == "PNG" and bool(image.info.get(_DEEP))


def _deep_pixels(data: bytes, image: Image.Image) -> np.ndarray | None:
    """`H W 3` or `H W 4` uint16 of a 16-bit colour PNG or TIFF as stored; None for others or where PyAV cannot read it."""
    if image.format == "PNG" and data[24:25] == b"\x10":
        image.info[_DEEP] = True
    if not _says_16_bits(image) or image.mode not in ("RGB", "RGBA", "LA"):
        return None
    import av

    try:
        with av.open(io.BytesIO(data)) as container:
            frame = next(container.decode(video=0))
            return frame.to_ndarray(
                format="rgb48le" if image.mode == "RGB" and not is_transparent(image) else "rgba64le"
            )
    except (av.FFmpegError, StopIteration, ValueError):
        return None  # `_frame` says so


def upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """`H W ...` turned and mirrored as the EXIF orientation (1 to 8) asks."""
    if orientation in (5, 6, 7, 8):
        array = np.swapaxes(array, 0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return np.ascontiguousarray(array)


def fill_invisible(colours: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """`H W 3` float with the pixels that are not `visible` (`H W` bool) replaced by means of visible ones around them.

    The means come from a pyramid: each level halves the one before, and what is empty is filled from the next.
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
