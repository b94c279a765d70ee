"""What all charts and heat maps for people share: colours, fonts that fit, and the way from Pillow to IMAGE."""

from __future__ import annotations

import functools

import numpy
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

BACKGROUND, PANEL, FAINT, DIM, INK = (
    (24, 26, 30),
    (36, 39, 45),
    (66, 74, 86),
    (140, 146, 156),
    (236, 238, 242),
)
BLUE, AMBER = (82, 160, 232), (222, 160, 74)
SMALLEST = 9
"""Pixels of the smallest letters that can be read."""
_HEAT = ((0.24, 0.10, 0.45), (0.58, 0.16, 0.50), (0.88, 0.30, 0.28), (0.98, 0.62, 0.12), (1.0, 0.96, 0.52))
"""Violet, magenta, red, orange, yellow: darker to lighter, so that it can be read without seeing colours too."""


@functools.lru_cache(maxsize=32)
def font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own font, of `size` pixels."""
    return ImageFont.load_default(size)


def fitting(text: str, width: float, largest: int) -> ImageFont.FreeTypeFont | None:
    """The largest font, up to `largest` pixels, in which `text` is at most `width` wide; None if it cannot be read there."""
    size = min(largest, int(largest * width / max(1.0, font(largest).getlength(text))))
    return font(size) if size >= SMALLEST else None


def pen(sheet: Image.Image) -> ImageDraw.ImageDraw:
    """What draws on a Pillow picture."""
    return ImageDraw.Draw(sheet)


def canvas(width: int, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """A dark sheet and the pen for it."""
    sheet = Image.new("RGB", (width, height), BACKGROUND)
    return sheet, ImageDraw.Draw(sheet)


def as_image(sheet: Image.Image) -> Tensor:
    """A Pillow picture -> IMAGE `1 H W 3`, 0..1."""
    return torch.from_numpy(numpy.asarray(sheet.convert("RGB")).copy())[None].float() / 255


def as_sheet(image: Tensor) -> Image.Image:
    """One picture `H W 3`, 0..1 -> Pillow."""
    return Image.fromarray((image.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy())


def heat_colors(heat: Tensor) -> Tensor:
    """Any shape `...`, 0..1 -> its colours, `... 3`, 0..1."""
    stops = torch.tensor(_HEAT, dtype=torch.float32, device=heat.device)
    place = heat.float().clamp(0, 1) * (len(_HEAT) - 1)
    low = place.floor().long().clamp(max=len(_HEAT) - 2)
    return torch.lerp(stops[low], stops[low + 1], (place - low)[..., None])


def over(picture: Tensor, heat: Tensor) -> Tensor:
    """Heat `... H W`, 0..1, over pictures `... H W 3`, 0..1: where there is none the picture shows, dimmed and without colours."""
    grey = 0.7 * picture.float().mean(dim=-1, keepdim=True)
    share = 0.85 * heat.float().clamp(0, 1)[..., None].sqrt()
    return grey * (1 - share) + heat_colors(heat) * share


def gradient(width: int, height: int) -> Image.Image:
    """The scale of the heat colours, from left to right."""
    return as_sheet(heat_colors(torch.linspace(0, 1, width).expand(height, width)))


def labelled(image: Tensor, name: str, value: str, *, dim: bool = False) -> Tensor:
    """A picture `H W 3` with a bar across its top that names it: `name` to the left, `value` to the right with the scale of the colours.

    `dim` writes it in grey. What does not fit is left out: first the scale, then the whole label.
    """
    height, width = image.shape[:2]
    size = max(11, min(26, min(height, width) // 16))
    pad = size // 2
    letters = fitting(f"{name}  {value}", width - 2 * pad, size)
    bar = size + size // 2 + 2
    if letters is None or 3 * bar > height:
        return image
    strip, draw = canvas(width, bar)
    ink = DIM if dim else INK
    draw.text((pad, bar / 2), name, fill=ink, font=letters, anchor="lm")
    draw.text((width - pad, bar / 2), value, fill=ink, font=letters, anchor="rm")
    scale = (4 * size, max(3, size // 2))
    left = width - 2 * pad - round(letters.getlength(value)) - scale[0]
    if not dim and left > 2 * pad + letters.getlength(name):
        strip.paste(gradient(*scale), (left, (bar - scale[1]) // 2))
    return torch.cat([as_image(strip)[0].to(image), image[bar:]])
