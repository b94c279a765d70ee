"""What all charts and heat maps share: fonts that fit, the heat scale, Pillow to IMAGE and back."""

from __future__ import annotations

import functools

import numpy
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .palette import BACKGROUND, HEAT, INK, MUTED

MIN_FONT_SIZE = 9
"""Height in pixels of the smallest letters that people can read."""


@functools.lru_cache(maxsize=32)
def font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's built-in font at a height of `size` pixels.

    Raises RuntimeError if Pillow was built without FreeType and has bitmap fonts only.
    """
    found = ImageFont.load_default(size)
    if not isinstance(found, ImageFont.FreeTypeFont):
        raise RuntimeError(
            "Pillow has no FreeType, which draws text of any size: reinstall it with pip install pillow."
        )
    return found


def fitting_font(text: str, width: float, largest: int) -> ImageFont.FreeTypeFont | None:
    """The largest font, up to `largest` pixels high, in which `text` is at most `width` pixels wide.

    None if the letters would be smaller than `MIN_FONT_SIZE`.
    """
    size = min(largest, int(largest * width / max(1.0, font(largest).getlength(text))))
    return font(size) if size >= MIN_FONT_SIZE else None


def pen(sheet: Image.Image) -> ImageDraw.ImageDraw:
    """The object that draws on a Pillow picture."""
    return ImageDraw.Draw(sheet)


def canvas(width: int, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """A new dark sheet of `width` by `height` pixels, and the pen for it."""
    sheet = Image.new("RGB", (width, height), BACKGROUND)
    return sheet, pen(sheet)


def as_image(sheet: Image.Image) -> Tensor:
    """Convert a Pillow picture to an IMAGE `1 H W 3`, 0..1, float32."""
    return torch.from_numpy(numpy.asarray(sheet.convert("RGB")).copy())[None].float() / 255


def as_sheet(image: Tensor) -> Image.Image:
    """Convert one picture `H W 3`, 0..1 (values outside are clamped), to a Pillow picture."""
    return Image.fromarray((image.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy())


def heat_colors(heat: Tensor) -> Tensor:
    """Colours of the heat scale for values `...` in 0..1 (clamped). Returns `... 3`, 0..1, float32."""
    stops = torch.tensor(HEAT, dtype=torch.float32, device=heat.device)
    position = heat.float().clamp(0, 1) * (len(HEAT) - 1)
    below = position.floor().long().clamp(max=len(HEAT) - 2)
    return torch.lerp(stops[below], stops[below + 1], (position - below)[..., None])


def overlay_heat(picture: Tensor, heat: Tensor) -> Tensor:
    """Blend a heat map over a picture.

    Takes `picture` `... H W 3` and `heat` `... H W`, both 0..1. Returns `... H W 3`, 0..1, float32. Where the
    heat is 0, the picture shows in grey at 70 % of its brightness.
    """
    grey = 0.7 * picture.float().mean(dim=-1, keepdim=True)
    opacity = 0.85 * heat.float().clamp(0, 1)[..., None].sqrt()
    return grey * (1 - opacity) + heat_colors(heat) * opacity


def color_scale(width: int, height: int) -> Image.Image:
    """The heat scale from 0 at the left to 1 at the right."""
    return as_sheet(heat_colors(torch.linspace(0, 1, width).expand(height, width)))


def with_label(image: Tensor, name: str, value: str, *, muted: bool = False) -> Tensor:
    """Replace the top of a picture by a bar with `name` at the left and the heat scale and `value` at the
    right.

    What does not fit is left out: first the scale, then the whole bar.

    Args:
        image: `H W 3`, 0..1.
        name, value: the texts.
        muted: write in grey and leave the scale out.

    Returns:
        `H W 3`, 0..1; `image` itself where the bar does not fit.
    """
    height, width = image.shape[:2]
    size = max(11, min(26, min(height, width) // 16))
    padding = size // 2
    letters = fitting_font(f"{name}  {value}", width - 2 * padding, size)
    bar_height = size + size // 2 + 2
    if letters is None or 3 * bar_height > height:
        return image
    bar, draw = canvas(width, bar_height)
    ink = MUTED if muted else INK
    draw.text((padding, bar_height / 2), name, fill=ink, font=letters, anchor="lm")
    draw.text((width - padding, bar_height / 2), value, fill=ink, font=letters, anchor="rm")
    scale_width, scale_height = 4 * size, max(3, size // 2)
    left = width - 2 * padding - round(letters.getlength(value)) - scale_width
    if not muted and left > 2 * padding + letters.getlength(name):
        bar.paste(color_scale(scale_width, scale_height), (left, (bar_height - scale_height) // 2))
    return torch.cat([as_image(bar)[0].to(image), image[bar_height:]])
