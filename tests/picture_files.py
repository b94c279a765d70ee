"""Picture files that readers get wrong, made in memory for the tests of the reader and of the command."""

from __future__ import annotations

import io
import struct
from fractions import Fraction

import numpy
from PIL import Image, ImageCms

SIZE = (64, 48)


def encode(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def scene(size: tuple[int, int] = SIZE, seed: int = 0) -> Image.Image:
    """A smooth picture with another colour in each corner, so that every turn of it is told apart."""
    width, height = size
    y, x = numpy.mgrid[:height, :width]
    channels = [
        60 + 140 * x / width,
        200 - 120 * y / height,
        90 + 100 * ((x / width - 0.5) ** 2 + (y / height) ** 2),
    ]
    noise = numpy.random.default_rng(seed).normal(0, 2, (height, width, 3))
    return Image.fromarray((numpy.stack(channels, -1) + noise).clip(0, 255).astype(numpy.uint8))


def oriented(orientation: int, format: str = "JPEG") -> bytes:
    """`scene` in a file whose EXIF block says `orientation`, with a camera, a date and a place."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x0132] = orientation, "Kamera", "2021:05:06 07:08:09"
    exif[0x8825] = {1: "N", 2: (52.0, 30.0, 0.0)}
    exif[0x8769] = {0x9003: "2021:05:06 07:08:09", 0xA002: SIZE[0]}
    return encode(scene(), format, exif=exif.tobytes(), quality=95)


def _curve(gamma: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)


def _profile(space: bytes, tags: list[tuple[bytes, bytes]]) -> bytes:
    at, table, body = 132 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, data in tags:
        table += name + struct.pack(">II", at, len(data))
        body, at = body + data, at + len(data)
    white = struct.pack(">3i", 63190, 65536, 54061)
    head = (
        struct.pack(">I4sI", at, bytes(4), 0x02400000)
        + b"mntr"
        + space
        + b"XYZ "
        + struct.pack(">6H", 2024, 1, 1, 0, 0, 0)
    )
    return (head + b"acsp" + bytes(28) + white).ljust(128, b"\0") + table + body


def _common() -> list[tuple[bytes, bytes]]:
    described = b"desc" + bytes(4) + struct.pack(">I", 5) + b"wide\0" + bytes(79)
    return [
        (b"desc", described + bytes(-len(described) % 4)),
        (b"cprt", b"text" + bytes(4) + b"none"),
        (b"wtpt", _xyz(0.9642, 1, 0.8249)),
    ]


def _xyz(*values: float) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(value * 65536) for value in values))


def rgb_profile(gamma: float = 2.2) -> bytes:
    """An ICC profile with Adobe RGB's primaries."""
    primaries = [
        (b"rXYZ", _xyz(0.6097, 0.3111, 0.0195)),
        (b"gXYZ", _xyz(0.2053, 0.6257, 0.0609)),
        (b"bXYZ", _xyz(0.1492, 0.0632, 0.7446)),
    ]
    return _profile(
        b"RGB ", [*_common(), *primaries, *((name, _curve(gamma)) for name in (b"rTRC", b"gTRC", b"bTRC"))]
    )


def grey_profile(gamma: float = 2.2) -> bytes:
    return _profile(b"GRAY", [*_common(), (b"kTRC", _curve(gamma))])


def shown(data: bytes) -> numpy.ndarray:
    """`H W 3` as a colour-managed viewer shows the file: Pillow, upright, by the profile, in sRGB."""
    from PIL import ImageOps

    image = Image.open(io.BytesIO(data))
    image.load()  # a TIFF is turned by that; asked before, its orientation would count twice
    image = ImageOps.exif_transpose(image)
    profile = image.info.get("icc_profile")
    if image.mode.startswith("I;16"):
        image = Image.fromarray((numpy.asarray(image) / 257).round().astype(numpy.uint8))
    if image.mode in ("1", "P", "LA", "RGBA", "PA"):
        image = image.convert("L" if image.mode in ("1", "LA") else "RGB")
    if profile:
        image = ImageCms.profileToProfile(
            image,
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            outputMode="RGB",
        )
    return numpy.asarray(image.convert("RGB"))


def deep_png(array: numpy.ndarray) -> bytes:
    """A 16-bit PNG of `H W 3` or `H W 4` uint16, by another way than the writer's: filter 0 and zlib."""
    import zlib

    height, width, channels = array.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", width, height, 16, 6 if channels == 4 else 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def deep_tiff(array: numpy.ndarray) -> bytes:
    """A 16-bit colour TIFF of `H W 3` uint16, written by PyAV."""
    import av

    context = av.CodecContext.create("tiff", "w")
    context.height, context.width = array.shape[:2]
    context.pix_fmt, context.time_base = "rgb48le", Fraction(1)
    frame = av.VideoFrame.from_ndarray(numpy.ascontiguousarray(array), format="rgb48le")
    return b"".join(bytes(packet) for part in (frame, None) for packet in context.encode(part))


def deep_apng(frames: list[numpy.ndarray]) -> bytes:
    """An animated 16-bit PNG of several `H W 3` uint16, written by PyAV."""
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="apng") as container:
        stream = container.add_stream("apng", rate=1)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "rgb48be"
        for array in frames:
            frame = av.VideoFrame.from_ndarray(numpy.ascontiguousarray(array), format="rgb48le")
            container.mux(stream.encode(frame.reformat(format="rgb48be")))
        container.mux(stream.encode())
    return buffer.getvalue()


def jpeg_with_thumbnail(whole: bytes) -> bytes:
    """A JPEG with a whole small one within its first segment."""
    thumbnail = b"Exif\0\0" + encode(scene((32, 24)), "JPEG")
    return whole[:2] + b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail + whole[2:]
