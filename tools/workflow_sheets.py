"""Thumbnails that are sheets: what a workflow shows besides its result, or the frames of a video."""

from __future__ import annotations

import io
import re
from fractions import Fraction

import numpy
from PIL import Image, ImageDraw, ImageFont

from aior_core.report.palette import BACKGROUND, INK
from scripts.client import ComfyClient, Result

WIDTH, GAP, BAR = 640, 4, 22
FRAMES, SIZE, RATE, SIGMA, PAN = 12, (320, 240), 12, 25, 4


def noisy_video(photo: Image.Image, count: int) -> tuple[bytes, list[Image.Image]]:
    """An MP4 with sound that pans over `photo`, each frame noisy; and its frames before compression."""
    import av

    generator, (width, height) = numpy.random.default_rng(0), SIZE
    base = numpy.asarray(photo.resize((width + PAN * count, height + PAN * count)), numpy.float32)
    frames = []
    for number in range(count):
        top = left = PAN * number
        clean = base[top : top + height, left : left + width]
        frames.append(
            (clean + SIGMA * generator.standard_normal(clean.shape)).round().clip(0, 255).astype(numpy.uint8)
        )
    tone = 0.2 * numpy.sin(2 * numpy.pi * 440 * numpy.arange(44100 * count // RATE) / 44100)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        video, sound = (
            container.add_stream("h264", rate=RATE),
            container.add_stream("aac", rate=44100, layout="mono"),
        )
        video.width, video.height, video.pix_fmt, video.options = width, height, "yuv420p", {"crf": "12"}
        for frame in (*(av.VideoFrame.from_ndarray(frame, format="rgb24") for frame in frames), None):
            container.mux(video.encode(frame))
        for start in range(0, len(tone), 1024):
            piece = numpy.ascontiguousarray(tone[None, start : start + 1024], numpy.float32)
            frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 44100, start, Fraction(1, 44100)
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    return buffer.getvalue(), [Image.fromarray(frame) for frame in frames]


def video_frames(data: bytes) -> list[Image.Image]:
    """The frames of a video file."""
    import av

    with av.open(io.BytesIO(data)) as container:
        return [frame.to_image() for frame in container.decode(video=0)]


def _pictures(client: ComfyClient, result: Result) -> dict[str, list[Image.Image]]:
    """The pictures of each output node by its id, in order of ids, which is that of the table."""
    return {
        node: [Image.open(io.BytesIO(client.view(image))).convert("RGB") for image in output["images"]]
        for node, output in sorted(result.outputs.items(), key=lambda item: int(item[0]))
        if "images" in output
    }


def _labelled(picture: Image.Image, text: str, width: int) -> Image.Image:
    """`picture` scaled to `width`, with a line of text below."""
    height = round(width * picture.height / picture.width)
    sheet = Image.new("RGB", (width, height + BAR), BACKGROUND)
    sheet.paste(picture.resize((width, height), Image.Resampling.LANCZOS))
    ImageDraw.Draw(sheet).text(
        (width // 2, height + BAR // 2), text, fill=INK, font=ImageFont.load_default(13), anchor="mm"
    )
    return sheet


def _grid(pictures: list[Image.Image], columns: int) -> Image.Image:
    """Pictures of one size in rows."""
    width, height = pictures[0].size
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * (width + GAP) - GAP, rows * (height + GAP) - GAP), BACKGROUND)
    for number, picture in enumerate(pictures):
        sheet.paste(picture, (number % columns * (width + GAP), number // columns * (height + GAP)))
    return sheet


def _what_is_wrong(client: ComfyClient, result: Result, before: list[Image.Image]) -> Image.Image:
    """The photograph and the chart, with the heat maps below."""
    # Imported here because it needs torch, and only this sheet uses it.
    from aior_core.degradations import DEGRADATIONS

    (chart,), maps, _masks = _pictures(client, result).values()
    half = (WIDTH - GAP) // 2
    height = round(half * chart.height / chart.width)
    photo = before[0].resize(
        (round(height * before[0].width / before[0].height), height), Image.Resampling.LANCZOS
    )
    left = Image.new("RGB", (half, height), BACKGROUND)
    left.paste(photo, ((half - photo.width) // 2, 0))
    upper = _grid([left, chart.resize((half, height), Image.Resampling.LANCZOS)], 2)
    columns = 4
    side = (WIDTH + GAP) // columns - GAP
    lower = _grid(
        [_labelled(picture, kind.label, side) for picture, kind in zip(maps, DEGRADATIONS)], columns
    )
    sheet = Image.new("RGB", (WIDTH, upper.height + GAP + lower.height), BACKGROUND)
    sheet.paste(upper)
    sheet.paste(lower, (0, upper.height + GAP))
    return sheet


def _damage_and_measure(client: ComfyClient, result: Result, before: list[Image.Image]) -> Image.Image:
    """The damaged and the restored picture with their PSNR, and their error maps below."""
    scores = [
        float(re.search(r"\| 1 +\| +([\d.]+)", text)[1]) for text in result.items("text") if "PSNR" in text
    ]
    (restored,), (errors,), (left,), (both,) = _pictures(client, result).values()
    damaged = both.crop((0, 0, restored.width, restored.height))
    half = (WIDTH - GAP) // 2
    texts = (
        f"damaged: {scores[0]:.1f} dB",
        f"restored: {scores[-1]:.1f} dB",
        "its errors",
        "what is left of them",
    )
    return _grid(
        [_labelled(picture, text, half) for picture, text in zip((damaged, restored, errors, left), texts)], 2
    )


def _compare_samplers(client: ComfyClient, result: Result, before: list[Image.Image]) -> Image.Image:
    """The sheet that the workflow saves."""
    ((sheet,),) = _pictures(client, result).values()
    return sheet.resize((WIDTH, round(WIDTH * sheet.height / sheet.width)), Image.Resampling.LANCZOS)


def _restore_video(client: ComfyClient, result: Result, before: list[Image.Image]) -> Image.Image:
    """Four damaged frames, and the same frames restored below."""
    (saved,) = result.items("images")
    after = video_frames(client.view(saved))
    chosen = [round(number * (len(before) - 1) / 3) for number in range(4)]
    side = (WIDTH + GAP) // 4 - GAP
    return _grid(
        [
            frames[number].resize((side, round(side * SIZE[1] / SIZE[0])), Image.Resampling.LANCZOS)
            for frames in (before, after)
            for number in chosen
        ],
        4,
    )


SHEETS = {
    "what_is_wrong": _what_is_wrong,
    "damage_and_measure": _damage_and_measure,
    "compare_samplers": _compare_samplers,
    "restore_video": _restore_video,
}
