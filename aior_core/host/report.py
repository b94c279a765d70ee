"""The prior in words and pictures, for people."""

from __future__ import annotations

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

from ..degradations import KINDS
from ..picture import crop_back, from_unit
from .prior import Prior

PRESENT = 0.5
PLOT_WIDTH, ROW, LABEL, FONT = 640, 36, 170, 18
BACKGROUND, BAR, FAINT, INK = (24, 26, 30), (82, 160, 232), (66, 74, 86), (232, 234, 238)


def report_text(prior: Prior) -> str:
    """One paragraph per picture: what is wrong, worst first, with severity and certainty in per cent."""
    paragraphs = []
    for index in range(len(prior.severities)):
        severities, probabilities = prior.severities[index].tolist(), prior.probabilities[index].tolist()
        order = sorted(range(len(KINDS)), key=lambda k: -severities[k] * probabilities[k])
        found = [k for k in order if probabilities[k] >= PRESENT]
        names = ", ".join(_label(KINDS[k]) for k in found) or "nothing"
        size = f"{prior.geometry.width}x{prior.geometry.height}"
        lines = [f"Picture {index + 1} ({size}): {names} found."]
        lines += [f"  {_label(KINDS[k]):<15} severity {severities[k]:4.0%}   certainty {probabilities[k]:4.0%}" for k in order]
        paragraphs.append("\n".join(lines))
    return "\n\n".join(paragraphs)


def report_plot(prior: Prior) -> Tensor:
    """A bar chart per picture -> IMAGE `B H W 3`, 0..1: severity as the bar, certainty as its brightness."""
    return torch.cat([_chart(s.tolist(), p.tolist()) for s, p in zip(prior.severities, prior.probabilities)])


def report_maps(prior: Prior) -> tuple[Tensor, Tensor]:
    """Where it is: heat maps over the picture, IMAGE `B*K H W 3`, and MASK `B*K H W`, 0..1, in the size that came in.

    All kinds of the first picture come first.
    """
    batch, kinds = prior.maps.shape[:2]
    masks = F.interpolate(prior.maps, size=prior.picture.shape[-2:], mode="bilinear", align_corners=False)
    masks = crop_back(masks, prior.geometry).clamp(0.0, 1.0)
    picture = from_unit(crop_back(prior.picture, prior.geometry))
    grey = picture.mean(dim=-1, keepdim=True)
    heat = masks.reshape(batch * kinds, *masks.shape[-2:])
    colors = torch.stack([(2 * heat).clamp(max=1), (2 * heat - 1).clamp(min=0), (1 - 2 * heat).clamp(min=0) * 0.6], dim=-1)
    maps = 0.35 * grey.repeat_interleave(kinds, dim=0) + 0.65 * colors
    return maps.float().cpu().contiguous(), heat.float().cpu().contiguous()


def _label(kind: str) -> str:
    return {"jpeg": "JPEG"}.get(kind, kind.replace("_", " "))


def _chart(severities: list[float], probabilities: list[float]) -> Tensor:
    font = ImageFont.load_default(FONT)
    canvas = Image.new("RGB", (PLOT_WIDTH, ROW * (len(severities) + 1)), BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    draw.text((16, ROW // 2), "estimated severity (bright: certain)", fill=INK, font=font, anchor="lm")
    full = PLOT_WIDTH - LABEL - 90
    for row, (kind, severity, certainty) in enumerate(zip(KINDS, severities, probabilities), start=1):
        top, middle = row * ROW, row * ROW + ROW // 2
        color = tuple(round(dark + certainty * (bright - dark)) for dark, bright in zip(FAINT, BAR))
        draw.text((16, middle), _label(kind), fill=INK, font=font, anchor="lm")
        draw.rectangle((LABEL, top + 7, LABEL + full, top + ROW - 7), outline=FAINT)
        draw.rectangle((LABEL, top + 7, LABEL + round(full * severity), top + ROW - 7), fill=color)
        draw.text((LABEL + full + 12, middle), f"{severity:.0%}", fill=INK, font=font, anchor="lm")
    pixels = torch.frombuffer(bytearray(canvas.tobytes()), dtype=torch.uint8)
    return pixels.reshape(1, canvas.height, canvas.width, 3).float() / 255
