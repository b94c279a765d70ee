"""What Look Inside found, in words and pictures, for people."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional as F

from ..models.config import DAEMConfig
from ..pipeline.diagnostics import Inside
from ..pipeline.prior import FACTOR, Prior
from .drawing import BLUE, DIM, FAINT, INK, PANEL, SMALLEST, as_image, as_sheet, canvas, fitting, font

REGION = 4
"""Latent pixels a side of the regions that are shown: 32 pixels of the picture."""
COLORS = (
    (0, 114, 178),
    (230, 159, 0),
    (0, 158, 115),
    (204, 121, 167),
    (86, 180, 233),
    (213, 94, 0),
    (240, 228, 66),
    (220, 220, 220),
)
"""Okabe and Ito's, which can be told apart without seeing all colours."""
CHART = (640, 360)
MAP, GAP, LINE = 384, 16, 26
NO_DAEM = "This restorer has no DAEM, so no experts either."


def shares_of(votes: Tensor) -> Tensor:
    """The router's logits place by place, `B E h w` -> by regions of `REGION` places a side, what each speaks for, summing to 1 over the experts."""
    return F.avg_pool2d(votes, REGION, ceil_mode=True).softmax(dim=1)


def expert_names(config: DAEMConfig) -> list[str]:
    """What tells the experts apart: the side of their filter, and how far it is spread, as "3x3" or "3x3 over 9x9"."""
    spread = [
        (kernel, dilation * (kernel - 1) + 1) for kernel, dilation in zip(config.kernels, config.dilations)
    ]
    return [
        f"{kernel}x{kernel}" + (f" over {reach}x{reach}" if reach > kernel else "")
        for kernel, reach in spread
    ]


def level_name(level: int) -> str:
    """ "full size", "1/2 size", "1/4 size"..."""
    return f"1/{2**level} size" if level else "full size"


def inside_text(inside: Inside, prior: Prior, config: DAEMConfig | None) -> str:
    """One paragraph per picture: what DAFF adds at every step, and at every level the expert chosen and the regions that speak for each."""
    paragraphs = []
    for index, influence in enumerate(inside.influence):
        lines = [f"Picture {index + 1} ({prior.geometry.width}x{prior.geometry.height})"]
        lines.append(
            "  DAFF adds, of the size of the denoiser's first feature, step by step: "
            + ", ".join(f"{share:.0%}" for share in influence)
        )
        if not inside.levels:
            lines.append(f"  {NO_DAEM}")
        for level in reversed(range(len(inside.levels))):
            names = expert_names(config)
            weights, regions = (
                inside.levels[level].weights[index].tolist(),
                regions_for(inside.levels[level].votes[index : index + 1]),
            )
            chosen = " and ".join(
                f"{names[e]} (weight {weights[e]:.1%})" for e in best(weights, config.top_k)
            )
            said = ", ".join(f"{name} {part:.0%}" for name, part in zip(names, regions) if part >= 0.005)
            lines.append(f"  Experts at {level_name(level)}: {chosen}; regions speak for: {said}")
        paragraphs.append("\n".join(lines))
    return "\n\n".join(paragraphs)


def best(weights: Sequence[float], count: int) -> list[int]:
    """The places of the `count` largest, largest first."""
    return sorted(range(len(weights)), key=lambda e: -weights[e])[:count]


def regions_for(votes: Tensor) -> list[float]:
    """Of one picture's votes, `1 E h w`, the part of the regions that speak for each expert first; they sum to 1."""
    first = shares_of(votes)[0].argmax(dim=0)
    return (torch.bincount(first.flatten(), minlength=votes.shape[1]) / first.numel()).tolist()


def influence_chart(influence: Sequence[Sequence[float]]) -> Tensor:
    """DAFF's influence, a bar per step and a chart per picture -> IMAGE `B H W 3`, 0..1. All have one scale."""
    highest = max((share for shares in influence for share in shares), default=0.0)
    # A tenth of room above the highest bar for its number, up to full tens of per cent.
    top = max(0.1, math.ceil(11 * highest) / 10)
    return torch.cat([_bars(shares, top) for shares in influence])


def _bars(shares: Sequence[float], top: float) -> Tensor:
    width, height = CHART
    left, right, floor, ceiling = 72, width - 16, height - 56, 84
    sheet, draw = canvas(width, height)
    draw.text((16, 26), "DAFF's influence, step by step", fill=INK, font=font(24), anchor="lm")
    draw.text(
        (16, 54),
        "size of what it adds, of the size of the denoiser's first feature",
        fill=DIM,
        font=font(15),
        anchor="lm",
    )
    draw.rectangle((left, ceiling, right, floor), fill=PANEL)
    for share in (0.0, 0.5, 1.0):
        y = floor - (floor - ceiling) * share
        draw.line((left, y, right, y), fill=FAINT)
        draw.text((left - 8, y), f"{share * top:.0%}", fill=DIM, font=font(15), anchor="rm")
    pitch = (right - left) / max(1, len(shares))
    label = fitting("100%", pitch - 6, 17)
    every = -(-len(shares) * 30 // (right - left))
    for index, share in enumerate(shares):
        start, middle = left + pitch * index, left + pitch * (index + 0.5)
        y = floor - (floor - ceiling) * share / top
        draw.rectangle((start + 0.12 * pitch, y, start + 0.88 * pitch, floor), fill=BLUE)
        if label:
            draw.text((middle, y - 4), f"{share:.0%}", fill=INK, font=label, anchor="mb")
        if index % every == 0:
            draw.text((middle, floor + 14), f"{index + 1}", fill=DIM, font=font(15), anchor="mm")
    draw.text((left, height - 20), "step, from all noise to none", fill=DIM, font=font(15), anchor="lm")
    return as_image(sheet)


def expert_sheet(inside: Inside, prior: Prior, config: DAEMConfig | None) -> Tensor:
    """Which expert each region speaks for, a sheet of DAEM's levels per picture, deepest first -> IMAGE `B H W 3`, 0..1.

    Below each map: every expert's colour, its weight for the whole picture (the chosen bright), and the part of the regions that speak
    for it first. Without DAEM the sheet says so.
    """
    return torch.cat([_sheet(inside, prior, config, index) for index in range(len(inside.influence))])


def _sheet(inside: Inside, prior: Prior, config: DAEMConfig | None, index: int) -> Tensor:
    picture = prior.unpadded[index].clamp(0, 1)
    scale = MAP / max(picture.shape[:2])
    size = tuple(max(1, round(scale * side)) for side in picture.shape[1::-1])
    columns = 2 if len(inside.levels) > 1 else 1
    rows = -(-max(1, len(inside.levels)) // columns)
    panel = 2 * LINE + size[1] + LINE * (len(config.kernels) if config else 0) + GAP
    sheet, draw = canvas(GAP + columns * (MAP + GAP), 80 + rows * panel)
    said = (
        "Chosen for the whole picture, by the mean of its regions. The stronger the colour, the surer the region."
        if inside.levels
        else NO_DAEM
    )
    for text, middle, ink, size_of_text in (
        ("DAEM's experts: what each region speaks for", 26, INK, 24),
        (said, 54, DIM, 15),
    ):
        draw.text(
            (GAP, middle),
            text,
            fill=ink,
            font=fitting(text, sheet.width - 2 * GAP, size_of_text) or font(SMALLEST),
            anchor="lm",
        )
    for place, level in enumerate(reversed(range(len(inside.levels)))):
        left, top = GAP + place % columns * (MAP + GAP), 80 + place // columns * panel
        votes, weights = (
            inside.levels[level].votes[index : index + 1],
            inside.levels[level].weights[index].tolist(),
        )
        draw.text((left, top + LINE / 2), level_name(level), fill=INK, font=font(18), anchor="lm")
        sheet.paste(_map(picture, votes).resize(size, Image.Resampling.LANCZOS), (left, top + LINE))
        _legend(
            draw,
            left,
            top + LINE + size[1] + 6,
            expert_names(config),
            weights,
            regions_for(votes),
            best(weights, config.top_k),
        )
    return as_image(sheet)


def _legend(
    draw: ImageDraw.ImageDraw,
    left: int,
    top: int,
    names: list[str],
    weights: list[float],
    regions: list[float],
    chosen: list[int],
) -> None:
    """A line per expert: its colour and name, its weight, the part of the regions that speak for it, and whether it was chosen."""
    draw.text((left + 210, top + LINE / 2), "weight", fill=DIM, font=font(14), anchor="rm")
    draw.text((left + 300, top + LINE / 2), "regions", fill=DIM, font=font(14), anchor="rm")
    for expert, (name, weight, part) in enumerate(zip(names, weights, regions)):
        middle, ink = top + LINE * (expert + 1.5), INK if expert in chosen else DIM
        draw.rectangle((left, middle - 8, left + 16, middle + 8), fill=COLORS[expert % len(COLORS)])
        draw.text((left + 26, middle), name, fill=ink, font=font(16), anchor="lm")
        draw.text((left + 210, middle), f"{weight:.1%}", fill=ink, font=font(16), anchor="rm")
        draw.text((left + 300, middle), f"{part:.0%}", fill=ink, font=font(16), anchor="rm")
        if expert in chosen:
            draw.text((left + 312, middle), "chosen", fill=ink, font=font(16), anchor="lm")


def _map(picture: Tensor, votes: Tensor) -> Image.Image:
    """The colour of the expert that each region speaks for first, over the grey picture: the stronger, the further its share is from an even one."""
    shares = shares_of(votes)[0]
    share, first = shares.max(dim=0)
    even = 1 / len(shares)
    strength = 0.35 + 0.4 * (share - even) / max(1 - even, even)
    colors = torch.tensor(COLORS)[first % len(COLORS)] / 255
    tint, cover = (
        x.repeat_interleave(REGION * FACTOR, 0).repeat_interleave(REGION * FACTOR, 1)
        for x in (colors, strength[..., None])
    )
    tint, cover = (x[: picture.shape[0], : picture.shape[1]] for x in (tint, cover))
    return as_sheet((1 - cover) * picture.cpu().float().mean(dim=-1, keepdim=True) + cover * tint)
