"""The prior in words and pictures, for people."""

from __future__ import annotations

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

from ..degradations import KINDS
from ..picture import crop_back, from_unit
from .inputs import require_kind
from .prior import Prior, require_estimate

NODE = "Degradation Report"
PRESENT = 0.5
PLOT_WIDTH, ROW, LABEL, FONT = 640, 36, 170, 18
BACKGROUND, BAR, LEFT, FAINT, INK = (24, 26, 30), (82, 160, 232), (222, 160, 74), (66, 74, 86), (232, 234, 238)


def report_text(prior: Prior) -> str:
    """One paragraph per picture: what is wrong, worst first, with severity and certainty in per cent; and what is to be left in."""
    require_kind(NODE, "prior", prior, Prior, "Encode Degradation Prior")
    if not prior.estimated:
        return "No estimate: this restorer has no degradation head."
    paragraphs = []
    for index in range(len(prior.severities)):
        severities, probabilities = prior.severities[index].tolist(), prior.probabilities[index].tolist()
        order = sorted(range(len(KINDS)), key=lambda k: -severities[k] * probabilities[k])
        found = [k for k in order if probabilities[k] >= PRESENT]
        names = ", ".join(_label(KINDS[k]) for k in found) or "nothing"
        size = f"{prior.geometry.width}x{prior.geometry.height}"
        lines = [f"Picture {index + 1} ({size}): {names} found."]
        if left := _left_in(prior.steered[index].tolist()):
            lines.append(f"  To be left in: {left}.")
        lines += [f"  {_label(KINDS[k]):<15} severity {severities[k]:4.0%}   certainty {probabilities[k]:4.0%}" for k in order]
        paragraphs.append("\n".join(lines))
    return "\n\n".join(paragraphs)


def report_plot(prior: Prior) -> Tensor:
    """A bar chart per picture -> IMAGE `B H W 3`, 0..1: severity as the bar, certainty as its brightness, in amber what stays. Raises ValueError without an estimate."""
    require_estimate(prior, NODE)
    rows = zip(prior.severities.tolist(), prior.probabilities.tolist(), prior.steered.tolist())
    return torch.cat([_chart(*row) for row in rows])


def report_maps(prior: Prior) -> tuple[Tensor, Tensor]:
    """Where it is: heat maps over the picture, IMAGE `B*K H W 3`, and MASK `B*K H W`, 0..1, in the size that came in.

    All kinds of the first picture come first. Raises ValueError without an estimate.
    """
    require_estimate(prior, NODE)
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


def _left_in(weights: list[float]) -> str:
    """The kinds that are not removed in full, in words: "noise, blur (60%)"; empty if there are none."""
    return ", ".join(_label(kind) + (f" ({1 - weight:.0%})" if weight else "") for kind, weight in zip(KINDS, weights) if weight < 1)


def _chart(severities: list[float], probabilities: list[float], weights: list[float]) -> Tensor:
    font = ImageFont.load_default(FONT)
    canvas = Image.new("RGB", (PLOT_WIDTH, ROW * (len(severities) + 1)), BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    legend = "bright: certain" if min(weights) == 1 else "bright: certain, amber: to be left in"
    draw.text((16, ROW // 2), f"estimated severity ({legend})", fill=INK, font=font, anchor="lm")
    full = PLOT_WIDTH - LABEL - 90
    for row, (kind, severity, certainty, weight) in enumerate(zip(KINDS, severities, probabilities, weights), start=1):
        top, middle = row * ROW, row * ROW + ROW // 2
        removed, left = (tuple(round(dark + certainty * (bright - dark)) for dark, bright in zip(FAINT, color)) for color in (BAR, LEFT))
        end, border = LABEL + round(full * severity), LABEL + round(full * severity * weight)
        draw.text((16, middle), _label(kind), fill=INK, font=font, anchor="lm")
        draw.rectangle((LABEL, top + 7, LABEL + full, top + ROW - 7), outline=FAINT)
        if weight < 1:
            draw.rectangle((LABEL, top + 7, end, top + ROW - 7), fill=left)
        if weight > 0:
            draw.rectangle((LABEL, top + 7, border, top + ROW - 7), fill=removed)
        draw.text((LABEL + full + 12, middle), f"{severity:.0%}", fill=INK, font=font, anchor="lm")
    pixels = torch.frombuffer(bytearray(canvas.tobytes()), dtype=torch.uint8)
    return pixels.reshape(1, canvas.height, canvas.width, 3).float() / 255
