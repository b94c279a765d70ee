"""Draws docs/icon.png (400x400) and docs/banner.png (1680x720, 21:9): a landscape, damaged on the left side
only.

    .host/venv/bin/python -m tools.make_brand

Needs Pillow and numpy. Draws at three times the size and reduces the result. Every call draws the same
pictures.
"""

from __future__ import annotations

from pathlib import Path

import numpy
from PIL import Image, ImageDraw, ImageFilter, ImageFont

DOCS = Path(__file__).resolve().parents[1] / "docs"
FINER = 3
ICON, BANNER = (400, 400), (1680, 720)
SKY = ((30, 62, 118), (104, 96, 150), (232, 138, 118), (255, 206, 140))
SUN = (255, 240, 204)
HILLS = ((0.62, (96, 92, 138)), (0.74, (58, 68, 112)), (0.87, (26, 38, 70)))
PAPER = (255, 255, 255)
NAME, LINE = "AIOR", "all-in-one image restoration for ComfyUI"


def scene(width: int, height: int, sun: float) -> Image.Image:
    """A landscape: a sun above three hills. `sun` is its place from left (0) to right (1)."""
    stops = numpy.linspace(0, 0.72 * height, len(SKY))
    sky = numpy.stack([numpy.interp(numpy.arange(height), stops, channel) for channel in zip(*SKY)], axis=1)
    picture = Image.fromarray(numpy.broadcast_to(sky[:, None], (height, width, 3)).astype(numpy.uint8))
    draw = ImageDraw.Draw(picture)
    radius = height * 0.16
    x, y = width * sun, height * 0.44
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=SUN)
    across = numpy.linspace(0, width / height * 2.6, 400)
    for index, (level, color) in enumerate(HILLS):
        ridge = (
            level
            + 0.055 * numpy.sin(across * (1.5 + 0.45 * index) + 1.9 * index)
            + 0.03 * numpy.sin(across * 3.7 + 1.3 * index)
        )
        points = list(zip(numpy.linspace(0, width, 400), ridge * height))
        draw.polygon([*points, (width, height), (0, height)], fill=color)
    return picture


def damaged(picture: Image.Image, unit: float) -> Image.Image:
    """The picture with haze, blur, rain and noise. `unit` is the side of a grain of noise in pixels."""
    draws = numpy.random.default_rng(7)
    pixels = numpy.asarray(picture.filter(ImageFilter.GaussianBlur(2.2 * unit)), numpy.float64)
    pixels = 0.62 * pixels + 0.38 * numpy.array([168, 172, 178])
    height, width = pixels.shape[:2]
    rain = Image.new("L", (width, height))
    draw = ImageDraw.Draw(rain)
    for x, y, long in draws.uniform(
        (-0.1, -0.1, 0.5), (1.1, 1, 1), (int(width * height / (38 * unit) ** 2 * 2.2), 3)
    ):
        x, y, long = x * width, y * height, long * 30 * unit
        draw.line((x, y, x + 0.25 * long, y + long), fill=150, width=max(1, round(0.9 * unit)))
    pixels = pixels + (235 - pixels) * (numpy.asarray(rain, numpy.float64) / 255)[..., None]
    side = round(unit)
    small = (height // side + 1, width // side + 1, 3)
    grain = draws.normal(0, 17, small[:2])[..., None] + draws.normal(0, 7, small)
    grain = numpy.repeat(numpy.repeat(grain, side, 0), side, 1)[:height, :width]
    pixels = pixels + grain
    return Image.fromarray(pixels.clip(0, 255).astype(numpy.uint8))


def halves(size: tuple[int, int], border: float, sun: float, unit: float) -> Image.Image:
    """The landscape, damaged left of a slanting line at `border` of the width. It has FINER times `size`."""
    width, height = size[0] * FINER, size[1] * FINER
    whole = scene(width, height, sun)
    slant, x = 0.09 * height, border * width
    mask = Image.new("L", whole.size)
    ImageDraw.Draw(mask).polygon([(0, 0), (x + slant, 0), (x - slant, height), (0, height)], fill=255)
    picture = Image.composite(damaged(whole, unit * FINER), whole, mask)
    ImageDraw.Draw(picture).line((x + slant, 0, x - slant, height), fill=PAPER, width=round(0.012 * height))
    return picture


def icon() -> Image.Image:
    """The icon: a square with round corners."""
    picture = halves(ICON, 0.5, 0.5, 2.0)
    corners = Image.new("L", picture.size)
    ImageDraw.Draw(corners).rounded_rectangle(
        (0, 0, picture.width - 1, picture.height - 1), radius=0.18 * picture.width, fill=255
    )
    picture.putalpha(corners)
    return picture.resize(ICON, Image.Resampling.LANCZOS)


def banner() -> Image.Image:
    """The banner: 21:9, with the name on the undamaged half."""
    picture = halves(BANNER, 0.4, 0.4, 2.4)
    draw = ImageDraw.Draw(picture)
    width, height = picture.size
    draw.text(
        (0.545 * width, 0.27 * height),
        NAME,
        fill=PAPER,
        font=ImageFont.load_default(0.24 * height),
        anchor="lm",
    )
    draw.text(
        (0.55 * width, 0.45 * height),
        LINE,
        fill=PAPER,
        font=ImageFont.load_default(0.052 * height),
        anchor="lm",
    )
    return picture.resize(BANNER, Image.Resampling.LANCZOS)


def main() -> None:
    DOCS.mkdir(exist_ok=True)
    for name, picture in (("icon", icon()), ("banner", banner())):
        path = DOCS / f"{name}.png"
        picture.save(path, optimize=True)
        print(
            f"{path.relative_to(DOCS.parent)}: {picture.width}x{picture.height}, "
            f"{path.stat().st_size / 1024:.0f} KiB"
        )


if __name__ == "__main__":
    main()
