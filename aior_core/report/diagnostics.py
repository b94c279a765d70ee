"""What Look Inside measured, as text and as pictures.

Look Inside restores pictures and measures on the way how much DAFF adds at every step and which of DAEM's
experts the router favours at every place. The numbers are in `pipeline/diagnostics.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional as F

from ..models.config import DAEMConfig
from ..pipeline.diagnostics import Inside
from ..pipeline.prior import Prior
from .drawing import MIN_FONT_SIZE, as_image, as_sheet, canvas, fitting_font, font
from .palette import BLUE, CATEGORIES, GRID, INK, MUTED, PANEL

REGION = 4
"""Side in latent pixels of the regions that are shown: 32 pixels of the picture."""
CHART_SIZE = (640, 360)
MAP_SIDE, GAP, LINE_HEIGHT, SHEET_HEAD = 384, 16, 26, 80
"""Pixels of the sheet of experts: a map's longer side, the space around it, a line of text, the title."""
NO_DAEM = "This restorer has no DAEM, so no experts either."


def region_shares(votes: Tensor) -> Tensor:
    """Each expert's share of each region.

    Takes logits `B E h w`. Returns `B E h/REGION w/REGION` (rounded up), 0..1, which sum to 1 over the
    experts.
    """
    return F.avg_pool2d(votes, REGION, ceil_mode=True).softmax(dim=1)


def winning_shares(votes: Tensor) -> list[float]:
    """For each expert, the fraction of the regions in which its share is the largest.

    Takes the logits of one picture, `1 E h w`. Returns E numbers that sum to 1.
    """
    winner = region_shares(votes)[0].argmax(dim=0)
    return (torch.bincount(winner.flatten(), minlength=votes.shape[1]) / winner.numel()).tolist()


def top_experts(weights: Sequence[float], count: int) -> list[int]:
    """The indices of the `count` largest weights, largest first."""
    return sorted(range(len(weights)), key=lambda expert: -weights[expert])[:count]


def expert_names(config: DAEMConfig) -> list[str]:
    """The experts by the size of their filter: "3x3", or "3x3 over 9x9" for one that is dilated."""
    names = []
    for kernel, dilation in zip(config.kernels, config.dilations):
        covered = dilation * (kernel - 1) + 1
        names.append(f"{kernel}x{kernel}" + (f" over {covered}x{covered}" if covered > kernel else ""))
    return names


def level_name(level: int) -> str:
    """The size of a level's features relative to the picture: "full size", "1/2 size", "1/4 size" ..."""
    return f"1/{2**level} size" if level else "full size"


def inside_text(inside: Inside, prior: Prior, config: DAEMConfig | None) -> str:
    """One paragraph per picture: DAFF's influence at every step, and the experts of every level.

    `config` is DAEM's, None without DAEM.
    """
    paragraphs = []
    for index, influence in enumerate(inside.influence):
        lines = [f"Picture {index + 1} ({prior.geometry.width}x{prior.geometry.height})"]
        lines.append(
            "  DAFF adds, of the size of the denoiser's first feature, step by step: "
            + ", ".join(f"{share:.0%}" for share in influence)
        )
        if config is None or not inside.levels:
            lines.append(f"  {NO_DAEM}")
        else:
            for level in reversed(range(len(inside.levels))):
                lines.append(
                    f"  Experts at {level_name(level)}: {_routing_text(inside, level, index, config)}"
                )
        paragraphs.append("\n".join(lines))
    return "\n\n".join(paragraphs)


def _routing_text(inside: Inside, level: int, index: int, config: DAEMConfig) -> str:
    """The chosen experts with their weights, and the fraction of regions that each expert wins."""
    names, routing = expert_names(config), inside.levels[level]
    weights, shares = routing.weights[index].tolist(), winning_shares(routing.votes[index : index + 1])
    chosen = " and ".join(f"{names[e]} (weight {weights[e]:.1%})" for e in top_experts(weights, config.top_k))
    winners = ", ".join(f"{name} {share:.0%}" for name, share in zip(names, shares) if share >= 0.005)
    return f"{chosen}; regions speak for: {winners}"


def influence_chart(influence: Sequence[Sequence[float]]) -> Tensor:
    """DAFF's influence as a bar chart per picture with a bar per step, IMAGE `B H W 3`, 0..1.

    All charts have the same vertical scale.
    """
    highest = max((share for shares in influence for share in shares), default=0.0)
    # A tenth of the highest bar is room for the number above it. The scale ends at full tens of per cent.
    top = max(0.1, math.ceil(11 * highest) / 10)
    return torch.cat([_bar_chart(shares, top) for shares in influence])


def _bar_chart(shares: Sequence[float], top: float) -> Tensor:
    """One chart; `top` is the value at the upper end of the scale."""
    width, height = CHART_SIZE
    left, right, floor, ceiling = 72, width - 16, height - 56, 84
    sheet, draw = canvas(width, height)
    draw.text((16, 26), "DAFF's influence, step by step", fill=INK, font=font(24), anchor="lm")
    subtitle = "size of what it adds, of the size of the denoiser's first feature"
    draw.text((16, 54), subtitle, fill=MUTED, font=font(15), anchor="lm")
    draw.rectangle((left, ceiling, right, floor), fill=PANEL)
    for share in (0.0, 0.5, 1.0):
        y = floor - (floor - ceiling) * share
        draw.line((left, y, right, y), fill=GRID)
        draw.text((left - 8, y), f"{share * top:.0%}", fill=MUTED, font=font(15), anchor="rm")
    pitch = (right - left) / max(1, len(shares))
    bar_font = fitting_font("100%", pitch - 6, 17)
    # A step's number takes 30 pixels: of many steps only every n-th has one.
    label_every = -(-len(shares) * 30 // (right - left))
    for index, share in enumerate(shares):
        start, middle = left + pitch * index, left + pitch * (index + 0.5)
        y = floor - (floor - ceiling) * share / top
        draw.rectangle((start + 0.12 * pitch, y, start + 0.88 * pitch, floor), fill=BLUE)
        if bar_font:
            draw.text((middle, y - 4), f"{share:.0%}", fill=INK, font=bar_font, anchor="mb")
        if index % label_every == 0:
            draw.text((middle, floor + 14), f"{index + 1}", fill=MUTED, font=font(15), anchor="mm")
    draw.text((left, height - 20), "step, from all noise to none", fill=MUTED, font=font(15), anchor="lm")
    return as_image(sheet)


def expert_sheet(inside: Inside, prior: Prior, config: DAEMConfig | None) -> Tensor:
    """Which expert each region favours: a sheet per picture with a map per level of DAEM, IMAGE `B H W 3`,
    0..1.

    The deepest level comes first. Below each map stand every expert's colour, its weight for the whole
    picture (bright for the chosen experts), and the fraction of the regions that it wins. `config` is DAEM's,
    None without DAEM; the sheet then says so.
    """
    return torch.cat([_sheet(inside, prior, config, index) for index in range(len(inside.influence))])


def _sheet(inside: Inside, prior: Prior, config: DAEMConfig | None, index: int) -> Tensor:
    picture = prior.unpadded[index].clamp(0, 1)
    scale = MAP_SIDE / max(picture.shape[:2])
    height, width = (max(1, round(scale * side)) for side in picture.shape[:2])
    count = len(inside.levels)
    columns = 2 if count > 1 else 1
    legend_lines = len(config.kernels) if config else 0
    panel_height = 2 * LINE_HEIGHT + height + LINE_HEIGHT * legend_lines + GAP
    sheet, draw = canvas(
        GAP + columns * (MAP_SIDE + GAP), SHEET_HEAD + -(-max(1, count) // columns) * panel_height
    )
    subtitle = (
        "Chosen for the whole picture, by the mean of its regions. "
        "The stronger the colour, the surer the region."
        if count
        else NO_DAEM
    )
    for text, y, ink, size in (
        ("DAEM's experts: what each region speaks for", 26, INK, 24),
        (subtitle, 54, MUTED, 15),
    ):
        letters = fitting_font(text, sheet.width - 2 * GAP, size) or font(MIN_FONT_SIZE)
        draw.text((GAP, y), text, fill=ink, font=letters, anchor="lm")
    if config is None:
        return as_image(sheet)
    for place, level in enumerate(reversed(range(count))):
        left, top = GAP + place % columns * (MAP_SIDE + GAP), SHEET_HEAD + place // columns * panel_height
        routing = inside.levels[level]
        weights, votes = routing.weights[index].tolist(), routing.votes[index : index + 1]
        draw.text((left, top + LINE_HEIGHT / 2), level_name(level), fill=INK, font=font(18), anchor="lm")
        region = REGION * (prior.geometry.padded[0] // votes.shape[-2])
        expert_map = _map(picture, votes, region).resize((width, height), Image.Resampling.LANCZOS)
        sheet.paste(expert_map, (left, top + LINE_HEIGHT))
        _legend(draw, left, top + LINE_HEIGHT + height + 6, config, weights, winning_shares(votes))
    return as_image(sheet)


def _legend(
    draw: ImageDraw.ImageDraw,
    left: int,
    top: int,
    config: DAEMConfig,
    weights: list[float],
    shares: list[float],
) -> None:
    """A line per expert: colour, name, weight, fraction of regions that it wins, whether it was chosen."""
    chosen = top_experts(weights, config.top_k)
    draw.text((left + 210, top + LINE_HEIGHT / 2), "weight", fill=MUTED, font=font(14), anchor="rm")
    draw.text((left + 300, top + LINE_HEIGHT / 2), "regions", fill=MUTED, font=font(14), anchor="rm")
    for expert, (name, weight, share) in enumerate(zip(expert_names(config), weights, shares)):
        middle, ink = top + LINE_HEIGHT * (expert + 1.5), INK if expert in chosen else MUTED
        color = CATEGORIES[expert % len(CATEGORIES)]
        draw.rectangle((left, middle - 8, left + 16, middle + 8), fill=color)
        draw.text((left + 26, middle), name, fill=ink, font=font(16), anchor="lm")
        draw.text((left + 210, middle), f"{weight:.1%}", fill=ink, font=font(16), anchor="rm")
        draw.text((left + 300, middle), f"{share:.0%}", fill=ink, font=font(16), anchor="rm")
        if expert in chosen:
            draw.text((left + 312, middle), "chosen", fill=ink, font=font(16), anchor="lm")


def _map(picture: Tensor, votes: Tensor, region: int) -> Image.Image:
    """The picture in grey, tinted in each region with the colour of the expert that wins it.

    `picture` is `H W 3`, 0..1; `votes` are its logits `1 E h w`; `region` is a region's side in pixels. The
    tint is the stronger, the further the winner's share is above an even share.
    """
    shares = region_shares(votes)[0]
    share, winner = shares.max(dim=0)
    even = 1 / len(shares)
    strength = 0.35 + 0.4 * (share - even) / max(1 - even, even)
    height, width = picture.shape[:2]

    def enlarged(values: Tensor) -> Tensor:
        return values.repeat_interleave(region, 0).repeat_interleave(region, 1)[:height, :width]

    tint = enlarged(torch.tensor(CATEGORIES)[winner % len(CATEGORIES)] / 255)
    opacity = enlarged(strength[..., None])
    grey = picture.cpu().float().mean(dim=-1, keepdim=True)
    return as_sheet((1 - opacity) * grey + opacity * tint)
