"""Writes restored pictures as their sources were: transparency, grey, bits, profile and metadata are the source's."""

from __future__ import annotations

import io
import itertools
import json
import struct
import zlib
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from PIL import Image, PngImagePlugin, TiffImagePlugin

from .reader import PictureFile, to_bits

FORMATS = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "tiff": "TIFF"}
DEEP_FORMATS = ("png", "tiff")
"""Formats that hold 16 bits a channel."""

LARGEST_SIDE = {"jpg": 65535, "webp": 16383}
PLACEHOLDER = "0" * 64
"""Stands in a file's key, until whoever names the file puts the key in its place."""

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_PROCESSING_SOFTWARE, _DOCUMENT_NAME, _PAGE_NAME, _MAKER_NOTE = 11, 269, 285, 37500  # EXIF tags
_EXIF_IFD, _GPS_IFD, _XMP, _ICC = 34665, 34853, 700, 34675
_BYTE, _LONG, _UNDEFINED = 1, 4, 7  # TIFF types
_MOST_EXIF = 65_500  # bytes that a JPEG's segment holds


@dataclass(frozen=True)
class WriteOptions:
    """`format`: a key of FORMATS. `quality`: 1 to 100, of jpg and webp. `bits`: 8, 16, or None for the source's.
    `metadata`: whether EXIF, XMP and texts are kept. Profile and resolution always are."""

    format: str = "png"
    quality: int = 95
    bits: int | None = None
    metadata: bool = True


def check_writable(source: PictureFile, format: str) -> None:
    """Raise ValueError where `format` cannot hold the source: before the work, not after it."""
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
    """The file of a result.

    `image`: `H W C` float, 0..1, rounded to the nearest level. `frame`: which of the source's it came from. `workflow` and
    `prompt` are what ComfyUI reads back from a picture. `grey`: a grey source gives a grey file. Raises ValueError.
    """
    if not np.isfinite(image).all():
        raise ValueError("the result has values that are not numbers (NaN or infinite)")
    frame = min(frame, len(source.pixels) - 1)
    bits = (options.bits or source.bits) if options.format in DEEP_FORMATS else 8
    levels, kind = 2**bits - 1, np.uint16 if bits == 16 else np.uint8
    colours = np.repeat(image, 3, -1) if image.shape[-1] == 1 else image[..., :3]
    if grey and source.grey:
        colours = (colours @ _LUMA)[..., None].repeat(3, -1)
    result = np.rint(np.clip(colours, 0, 1) * levels).astype(kind)
    alpha = _alpha(image, source, frame, bits)
    if alpha is not None and source.alpha is not None and alpha.shape == source.alpha.shape[1:]:
        # Colours that nobody sees go back as they came.
        hidden = source.alpha[frame] == 0
        result[hidden] = to_bits(source.pixels[frame][hidden], source.bits, bits)
    if alpha is not None:
        result = np.concatenate([result, alpha[..., None]], -1)
    is_grey = source.grey and bool((result[..., :1] == result[..., 1:3]).all())
    if is_grey:
        result = result[..., 0] if alpha is None else result[..., [0, 3]]
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


def _alpha(image: np.ndarray, source: PictureFile, frame: int, bits: int) -> np.ndarray | None:
    """`H W` transparency of the result: the source's, scaled where the result has another size."""
    height, width = image.shape[:2]
    if source.alpha is None:
        if image.shape[-1] < 4:
            return None
        return np.rint(np.clip(image[..., 3], 0, 1) * (2**bits - 1)).astype(
            np.uint16 if bits == 16 else np.uint8
        )
    alpha = to_bits(source.alpha[frame], source.bits, bits)
    if alpha.shape == (height, width):
        return alpha
    scaled = Image.fromarray(alpha.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC)
    return np.rint(np.clip(np.asarray(scaled), 0, 2**bits - 1)).astype(alpha.dtype)


def _exif(source: PictureFile, texts: dict[str, str], options: WriteOptions, *, key: bool) -> Image.Exif:
    """The source's EXIF block. With `key` it also holds the key and, under tags that photographs do not use, `texts`:
    ComfyUI reads "workflow:..." and "prompt:..." from any of them."""
    exif = Image.Exif()
    if options.metadata and source.metadata.exif:
        exif.load(source.metadata.exif)
        for tag in (_EXIF_IFD, _GPS_IFD):
            if tag in exif:
                exif[tag] = dict(exif.get_ifd(tag))
    if key:
        exif[_PROCESSING_SOFTWARE] = f"AIOR aior_key={PLACEHOLDER}"
        for tag, name in ((_DOCUMENT_NAME, "workflow"), (_PAGE_NAME, "prompt")):
            if name in texts:
                exif[tag] = f"{name}:{texts[name]}"
    return exif


def _fields(source: PictureFile, icc: bytes) -> dict:
    """What Pillow's `save` takes for every format."""
    fields: dict = {"icc_profile": icc} if icc else {}
    if source.metadata.dpi:
        fields["dpi"] = source.metadata.dpi
    return fields


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
    fields = _fields(source, icc) | {"pnginfo": info, "compress_level": 4}
    exif = _exif(source, {}, options, key=False)
    if len(exif):
        fields["exif"] = exif.tobytes()
    if result.dtype == np.uint8 or result.ndim == 2:
        return _saved(result, "PNG", fields)
    # Pillow writes no colours of 16 bits: PyAV does, and the chunks that say the rest come from a file of one pixel.
    if result.shape[-1] == 2:
        result = result[..., [0, 0, 0, 1]]
    small = _saved(np.zeros((1, 1, result.shape[-1]), np.uint8), "PNG", fields)
    chunks = b"".join(chunk for name, chunk in _chunks(small) if name not in (b"IHDR", b"IDAT", b"IEND"))
    body = _png_16(result)
    head = len(b"\x89PNG\r\n\x1a\n") + 25  # the signature and IHDR
    return (
        body[:head] + chunks + b"".join(chunk for name, chunk in _chunks(body) if name in (b"IDAT", b"IEND"))
    )


def _png_16(result: np.ndarray) -> bytes:
    """A PNG of `H W 3` or `H W 4` uint16."""
    import av

    context = av.CodecContext.create("png", "w")
    context.height, context.width = result.shape[:2]
    stored, given = ("rgba64be", "rgba64le") if result.shape[-1] == 4 else ("rgb48be", "rgb48le")
    context.pix_fmt, context.time_base = stored, Fraction(1)
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(result), format=given).reformat(format=stored)
    return b"".join(bytes(packet) for part in (frame, None) for packet in context.encode(part))


def _chunks(png: bytes) -> list[tuple[bytes, bytes]]:
    """Name and bytes of every chunk of a PNG file."""
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
    exif = _exif(source, texts, options, key=True)
    block = exif.tobytes()
    if len(block) > _MOST_EXIF:
        # The camera maker's own notes first: what they say only their maker's programs read.
        exif.get(_EXIF_IFD, {}).pop(_MAKER_NOTE, None)
        block = exif.tobytes()
    if len(block) > _MOST_EXIF:
        block = _exif(source, {}, options, key=True).tobytes()
    if len(block) > _MOST_EXIF:
        block = _exif(source, {}, WriteOptions(metadata=False), key=True).tobytes()
    fields = _fields(source, icc) | {
        "exif": block,
        "quality": options.quality,
        "subsampling": 0 if options.quality >= 90 else 2,
    }
    if options.metadata and source.metadata.xmp and len(source.metadata.xmp) < _MOST_EXIF:
        fields["xmp"] = source.metadata.xmp
    return _saved(result, "JPEG", fields)


def _webp(
    result: np.ndarray, source: PictureFile, icc: bytes, texts: dict[str, str], options: WriteOptions
) -> bytes:
    fields = _fields(source, icc) | {
        "exif": _exif(source, texts, options, key=True).tobytes(),
        "quality": options.quality,
        "exact": True,
    }
    if options.metadata and source.metadata.xmp:
        fields["xmp"] = source.metadata.xmp
    if result.ndim == 2 or result.shape[-1] == 2:
        result = result[..., None].repeat(3, -1) if result.ndim == 2 else result[..., [0, 0, 0, 1]]
        fields.pop("icc_profile", None)  # WebP knows no grey
    return _saved(result, "WEBP", fields)


def _tiff(
    result: np.ndarray, source: PictureFile, icc: bytes, texts: dict[str, str], options: WriteOptions
) -> bytes:
    """A TIFF by deflate with differences along rows. Pillow writes the directory; it writes neither 16-bit colours nor,
    compressed, the EXIF block's own directories."""
    result = result[..., None] if result.ndim == 2 else result
    if result.shape[-1] == 2 and result.dtype == np.uint16:
        result, icc = result[..., [0, 0, 0, 1]], b""  # few programs read deep grey with transparency
    height, width, channels = result.shape
    kind = result.dtype.newbyteorder("<")
    differences = result.astype(kind)
    differences[:, 1:] -= result[:, :-1]
    rows = max(1, 2**20 // (width * channels * kind.itemsize))
    strips = [zlib.compress(differences[top : top + rows].tobytes(), 6) for top in range(0, height, rows)]
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, value in _exif(source, texts, options, key=True).items():
        directory[tag] = value
        if isinstance(value, dict):
            directory.tagtype[tag] = _LONG
    # Pillow adds the directory's own length to the strips' offsets.
    offsets = tuple(itertools.accumulate((len(strip) for strip in strips[:-1]), initial=0))
    settings = {
        256: width,
        257: height,
        258: (kind.itemsize * 8,) * channels,
        259: 8,
        262: 2 if channels > 2 else 1,
        273: offsets,
        277: channels,
        278: rows,
        279: tuple(map(len, strips)),
        284: 1,
        317: 2,
    }
    if channels in (2, 4):
        settings[338] = 2  # the last channel is transparency, not multiplied into the others
    if source.metadata.dpi:
        settings |= {282: source.metadata.dpi[0], 283: source.metadata.dpi[1], 296: 2}
    for tag, value in settings.items():
        directory[tag] = value
    directory.tagtype[273] = directory.tagtype[279] = _LONG
    if options.metadata and source.metadata.xmp:
        directory.tagtype[_XMP] = _BYTE
        directory[_XMP] = source.metadata.xmp
    if icc:
        directory.tagtype[_ICC] = _UNDEFINED
        directory[_ICC] = icc
    buffer = io.BytesIO()
    directory.save(buffer)
    return buffer.getvalue() + b"".join(strips)


def _saved(result: np.ndarray, format: str, fields: dict) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(result).save(buffer, format, **fields)
    return buffer.getvalue()
