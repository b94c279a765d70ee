"""Writes restored pictures as their sources were.

Transparency, grey, bits per channel, colour profile, resolution and metadata are the source's.
"""

from __future__ import annotations

import io
import itertools
import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from PIL import ExifTags, Image, PngImagePlugin
from PIL import TiffImagePlugin as Tiff

from .metadata import Tag
from .reader import PictureFile, to_bits

FORMATS = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "tiff": "TIFF"}
"""The formats that are written, and Pillow's names of them."""
DEEP_FORMATS = ("png", "tiff")
"""The formats that hold 16 bits per channel."""
LARGEST_SIDE = {"jpg": 65535, "webp": 16383}
"""In pixels. PNG and TIFF files hold any side that fits into memory."""
PLACEHOLDER = "0" * 64
"""Stands in the place of a result's key, which `aior.py restore` writes into the finished file."""

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_PNG_HEAD = len(b"\x89PNG\r\n\x1a\n") + 25  # the signature and the chunk IHDR
_MAX_SEGMENT = 65_500  # bytes that a JPEG file's segment holds for EXIF or XMP
_STRIP_BYTES = 2**20  # of a TIFF file, before compression
_DEFLATE, _HORIZONTAL_DIFFERENCES, _CHUNKY, _INCH, _UNASSOCIATED_ALPHA = 8, 2, 1, 2, 2  # values of TIFF tags
_BYTE, _LONG, _UNDEFINED = 1, 4, 7  # types of TIFF tags


@dataclass(frozen=True)
class WriteOptions:
    """How a result is written.

    Attributes:
        format: a key of FORMATS.
        quality: 1 to 100, of jpg and webp.
        bits: 8 or 16 per channel; None takes the source's. Formats that hold 8 bits get 8.
        metadata: whether EXIF, XMP and texts are kept. Colour profile and resolution always are.
    """

    format: str = "png"
    quality: int = 95
    bits: int | None = None
    metadata: bool = True


def check_writable(source: PictureFile, format: str) -> None:
    """Raise ValueError if `format` cannot hold the source, so that no work is lost."""
    if format == "jpg" and source.alpha is not None:
        raise ValueError(
            "this picture has transparency, which JPEG cannot hold: take --format png, webp or tiff"
        )
    largest = LARGEST_SIDE.get(format)
    side = max(source.pixels.shape[1:3])
    if largest and side > largest:
        raise ValueError(
            f"this picture is {side} pixels long, and {format} holds {largest}: take --format png or tiff"
        )


def write_picture(
    image: np.ndarray,
    source: PictureFile,
    frame: int,
    options: WriteOptions,
    *,
    workflow: dict | None = None,
    prompt: dict | None = None,
    grey: bool = False,
) -> bytes:
    """Encode a result as a picture file.

    Args:
        image: the result, `H W C`, float, 0..1, of 1, 3 or 4 channels. Values are rounded to the nearest
            level.
        source: the file that the result was made from. The size of its frames may differ from the result's.
        frame: index of the source's frame; an index beyond the last frame stands for the last.
        options: how to write it.
        workflow, prompt: the graph in ComfyUI's two formats, which ComfyUI reads back from a picture.
        grey: whether a grey source gives a grey file.

    Raises:
        ValueError: the result holds NaN or infinite values, or has transparency that the format cannot hold.
    """
    if not np.isfinite(image).all():
        raise ValueError("the result has values that are not numbers (NaN or infinite)")
    frame = min(frame, len(source.pixels) - 1)
    bits = (options.bits or source.bits) if options.format in DEEP_FORMATS else 8
    result = _levels(image, source, frame, bits, grey)
    is_grey = source.grey and bool((result[..., :1] == result[..., 1:3]).all())
    if is_grey:
        result = result[..., 0] if result.shape[-1] == 3 else result[..., [0, 3]]
    icc = source.metadata.icc
    if icc and icc[16:20] != (b"GRAY" if is_grey else b"RGB "):
        icc = b""
    texts = {
        name: json.dumps(value)
        for name, value in (("prompt", prompt), ("workflow", workflow))
        if value is not None
    }
    encode = {"png": _png, "jpg": _jpg, "webp": _webp, "tiff": _tiff}[options.format]
    return encode(result, source, icc, texts if options.metadata else {}, options)


def _levels(image: np.ndarray, source: PictureFile, frame: int, bits: int, grey: bool) -> np.ndarray:
    """Round a result `H W C` in 0..1 to levels of `bits` bits, `H W 3`, or `H W 4` with transparency."""
    colours = np.repeat(image, 3, -1) if image.shape[-1] == 1 else image[..., :3]
    if grey and source.grey:
        colours = (colours @ _LUMA)[..., None].repeat(3, -1)
    result = _rounded(colours, bits)
    alpha = _alpha(image, source, frame, bits)
    if alpha is None:
        return result
    if source.alpha is not None and alpha.shape == source.alpha.shape[1:]:
        # The colours of invisible pixels go back as they came.
        hidden = source.alpha[frame] == 0
        result[hidden] = to_bits(source.pixels[frame][hidden], source.bits, bits)
    return np.concatenate([result, alpha[..., None]], -1)


def _rounded(values: np.ndarray, bits: int) -> np.ndarray:
    """Round values in 0..1 (clipped) to levels of `bits` bits, uint8 or uint16."""
    return np.rint(np.clip(values, 0, 1) * (2**bits - 1)).astype(np.uint16 if bits == 16 else np.uint8)


def _alpha(image: np.ndarray, source: PictureFile, frame: int, bits: int) -> np.ndarray | None:
    """The transparency of the result in levels of `bits` bits, `H W`, or None.

    It is the source's, resampled if the result has another size. If the source has none, it is the result's
    own.
    """
    height, width = image.shape[:2]
    if source.alpha is None:
        return None if image.shape[-1] < 4 else _rounded(image[..., 3], bits)
    alpha = to_bits(source.alpha[frame], source.bits, bits)
    if alpha.shape == (height, width):
        return alpha
    scaled = Image.fromarray(alpha.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC)
    return np.rint(np.clip(np.asarray(scaled), 0, 2**bits - 1)).astype(alpha.dtype)


def _exif(source: PictureFile, texts: dict[str, str], options: WriteOptions, *, key: bool) -> Image.Exif:
    """The source's EXIF block.

    With `key` it also holds the place of the key, and `texts` in tags that photographs do not use: ComfyUI
    reads "workflow:..." and "prompt:..." from any tag.
    """
    exif = Image.Exif()
    if options.metadata and source.metadata.exif:
        exif.load(source.metadata.exif)
        for directory in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
            if directory in exif:
                exif[directory] = dict(exif.get_ifd(directory))
    if key:
        exif[Tag.ProcessingSoftware] = f"AIOR aior_key={PLACEHOLDER}"
        for tag, name in ((Tag.DocumentName, "workflow"), (Tag.PageName, "prompt")):
            if name in texts:
                exif[tag] = f"{name}:{texts[name]}"
    return exif


def _save_fields(source: PictureFile, icc: bytes) -> dict:
    """What Pillow's `save` takes for every format."""
    fields: dict = {"icc_profile": icc} if icc else {}
    if source.metadata.dpi:
        fields["dpi"] = source.metadata.dpi
    return fields


def _saved(result: np.ndarray, format: str, fields: dict) -> bytes:
    """Encode levels with Pillow."""
    buffer = io.BytesIO()
    Image.fromarray(result).save(buffer, format, **fields)
    return buffer.getvalue()


def _png(
    result: np.ndarray, source: PictureFile, icc: bytes, texts: dict[str, str], options: WriteOptions
) -> bytes:
    info = PngImagePlugin.PngInfo()
    if options.metadata:
        for key, text in source.metadata.texts:
            info.add_itxt(key, text)
        if source.metadata.xmp:
            info.add_itxt("XML:com.adobe.xmp", source.metadata.xmp.decode("utf-8", "replace"))
    for name, text in texts.items():
        info.add_text(name, text)
    fields = _save_fields(source, icc) | {"pnginfo": info, "compress_level": 4}
    exif = _exif(source, {}, options, key=False)
    if len(exif):
        fields["exif"] = exif.tobytes()
    if result.dtype == np.uint8 or result.ndim == 2:
        return _saved(result, "PNG", fields)
    # Pillow does not write colours of 16 bits. PyAV does, but without metadata: these chunks come from a file
    # of one pixel that Pillow writes.
    if result.shape[-1] == 2:
        result = result[..., [0, 0, 0, 1]]
    small = _saved(np.zeros((1, 1, result.shape[-1]), np.uint8), "PNG", fields)
    metadata = b"".join(chunk for name, chunk in _chunks(small) if name not in (b"IHDR", b"IDAT", b"IEND"))
    deep = _png_16(result)
    pixels = b"".join(chunk for name, chunk in _chunks(deep) if name in (b"IDAT", b"IEND"))
    return deep[:_PNG_HEAD] + metadata + pixels


def _png_16(result: np.ndarray) -> bytes:
    """A PNG file of `H W 3` or `H W 4` uint16, without metadata."""
    # PyAV is imported for the few files that need it.
    import av

    context = av.CodecContext.create("png", "w")
    context.height, context.width = result.shape[:2]
    stored, given = ("rgba64be", "rgba64le") if result.shape[-1] == 4 else ("rgb48be", "rgb48le")
    context.pix_fmt, context.time_base = stored, Fraction(1)
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(result), format=given).reformat(format=stored)
    return b"".join(bytes(packet) for part in (frame, None) for packet in context.encode(part))


def _chunks(png: bytes) -> list[tuple[bytes, bytes]]:
    """Name and bytes (length, name, data and checksum) of every chunk of a PNG file."""
    found, position = [], 8
    while position < len(png):
        size = struct.unpack(">I", png[position : position + 4])[0] + 12
        found.append((png[position + 4 : position + 8], png[position : position + size]))
        position += size
    return found


def _jpg(
    result: np.ndarray, source: PictureFile, icc: bytes, texts: dict[str, str], options: WriteOptions
) -> bytes:
    if result.ndim == 3 and result.shape[-1] in (2, 4):
        raise ValueError(
            "the result has transparency, which JPEG cannot hold: take --format png, webp or tiff"
        )
    fields = _save_fields(source, icc) | {
        "exif": next(block for block in _exif_blocks(source, texts, options) if len(block) <= _MAX_SEGMENT),
        "quality": options.quality,
        "subsampling": 0 if options.quality >= 90 else 2,
    }
    if options.metadata and source.metadata.xmp and len(source.metadata.xmp) < _MAX_SEGMENT:
        fields["xmp"] = source.metadata.xmp
    return _saved(result, "JPEG", fields)


def _exif_blocks(source: PictureFile, texts: dict[str, str], options: WriteOptions) -> Iterator[bytes]:
    """EXIF blocks that hold less and less: everything, no maker note, no texts, the key alone."""
    exif = _exif(source, texts, options, key=True)
    yield exif.tobytes()
    # Only the camera maker's own programs read the maker note.
    exif.get(ExifTags.IFD.Exif, {}).pop(Tag.MakerNote, None)
    yield exif.tobytes()
    yield _exif(source, {}, options, key=True).tobytes()
    yield _exif(source, {}, WriteOptions(metadata=False), key=True).tobytes()


def _webp(
    result: np.ndarray, source: PictureFile, icc: bytes, texts: dict[str, str], options: WriteOptions
) -> bytes:
    fields = _save_fields(source, icc) | {
        "exif": _exif(source, texts, options, key=True).tobytes(),
        "quality": options.quality,
        "exact": True,  # colours under full transparency are kept
    }
    if options.metadata and source.metadata.xmp:
        fields["xmp"] = source.metadata.xmp
    if result.ndim == 2 or result.shape[-1] == 2:
        # WebP has no grey, and a profile for grey does not fit RGB.
        result = result[..., None].repeat(3, -1) if result.ndim == 2 else result[..., [0, 0, 0, 1]]
        fields.pop("icc_profile", None)
    return _saved(result, "WEBP", fields)


def _tiff(
    result: np.ndarray, source: PictureFile, icc: bytes, texts: dict[str, str], options: WriteOptions
) -> bytes:
    """A TIFF file, compressed by deflate with differences along rows.

    Pillow writes the directory only. It does not write colours of 16 bits, and in a compressed file it does
    not write the directories inside the EXIF block.
    """
    result = result[..., None] if result.ndim == 2 else result
    if result.shape[-1] == 2 and result.dtype == np.uint16:
        # Few programs read grey of 16 bits with transparency.
        result, icc = result[..., [0, 0, 0, 1]], b""
    height, width, channels = result.shape
    dtype = result.dtype.newbyteorder("<")
    differences = result.astype(dtype)
    differences[:, 1:] -= result[:, :-1]
    rows = max(1, _STRIP_BYTES // (width * channels * dtype.itemsize))
    strips = [zlib.compress(differences[top : top + rows].tobytes(), 6) for top in range(0, height, rows)]
    directory = Tiff.ImageFileDirectory_v2()
    for tag, value in _exif(source, texts, options, key=True).items():
        directory[tag] = value
        if isinstance(value, dict):
            directory.tagtype[tag] = _LONG
    settings = {
        Tiff.IMAGEWIDTH: width,
        Tiff.IMAGELENGTH: height,
        Tiff.BITSPERSAMPLE: (dtype.itemsize * 8,) * channels,
        Tiff.COMPRESSION: _DEFLATE,
        Tiff.PHOTOMETRIC_INTERPRETATION: 2 if channels > 2 else 1,  # RGB, or grey with black at 0
        # Pillow adds the length of the directory, which the strips follow.
        Tiff.STRIPOFFSETS: tuple(itertools.accumulate((len(strip) for strip in strips[:-1]), initial=0)),
        Tiff.SAMPLESPERPIXEL: channels,
        Tiff.ROWSPERSTRIP: rows,
        Tiff.STRIPBYTECOUNTS: tuple(map(len, strips)),
        Tiff.PLANAR_CONFIGURATION: _CHUNKY,
        Tiff.PREDICTOR: _HORIZONTAL_DIFFERENCES,
    }
    if channels in (2, 4):
        settings[Tiff.EXTRASAMPLES] = _UNASSOCIATED_ALPHA
    if source.metadata.dpi:
        horizontal, vertical = source.metadata.dpi
        settings |= {Tiff.X_RESOLUTION: horizontal, Tiff.Y_RESOLUTION: vertical, Tiff.RESOLUTION_UNIT: _INCH}
    for tag, value in settings.items():
        directory[tag] = value
    directory.tagtype[Tiff.STRIPOFFSETS] = directory.tagtype[Tiff.STRIPBYTECOUNTS] = _LONG
    if options.metadata and source.metadata.xmp:
        directory.tagtype[Tiff.XMP] = _BYTE
        directory[Tiff.XMP] = source.metadata.xmp
    if icc:
        directory.tagtype[Tiff.ICCPROFILE] = _UNDEFINED
        directory[Tiff.ICCPROFILE] = icc
    buffer = io.BytesIO()
    directory.save(buffer)
    return buffer.getvalue() + b"".join(strips)
