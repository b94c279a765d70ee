"""What papers measure on: which pixels (the border is cropped) and which values (RGB, or MATLAB's luma)."""

from __future__ import annotations

import torch
from torch import Tensor

CHANNELS = ("rgb", "y")
"""What scores are measured on: all three channels, or luma alone."""


def as_8bit(picture: Tensor) -> Tensor:
    """Round a picture to the 256 levels that a PNG file holds.

    Takes `B C H W`, -1..1. Returns the same shape, clamped to -1..1, float32.
    """
    return picture.float().add(1.0).mul(127.5).clamp(0.0, 255.0).round().div(127.5).sub(1.0)


def to_luma(rgb: Tensor) -> Tensor:
    """The Y channel of ITU-R BT.601 YCbCr as MATLAB's `rgb2ycbcr` and BasicSR define it.

    Takes `B 3 H W`, 0..1. Returns `B 1 H W`, 16/255..235/255. kornia's `rgb_to_ycbcr` is the full-range
    variant of JPEG (0..1), which gives other scores.
    """
    weights = torch.tensor([65.481, 128.553, 24.966], dtype=rgb.dtype, device=rgb.device).view(1, 3, 1, 1)
    return ((rgb * weights).sum(1, keepdim=True) + 16.0) / 255.0


def prepare(
    picture: Tensor, reference: Tensor, *, border: int = 0, channel: str = "rgb"
) -> tuple[Tensor, Tensor]:
    """Bring pictures and references to what is measured: `B C H W`, on the 0..1 scale, float64, on the CPU.

    Values outside the range stay as they are, so that noise that was not clipped keeps its textbook PSNR.

    Args:
        picture: `B 3 H W`, -1..1.
        reference: `B 3 H W` or `1 3 H W` (one reference for all pictures), -1..1.
        border: number of pixels to crop from every side. Super-resolution papers use the scale factor.
        channel: "rgb" (C = 3) or "y" (C = 1).

    Raises:
        ValueError: the shapes do not match, the border leaves nothing, or the channel is unknown.
    """
    if channel not in CHANNELS:
        raise ValueError(f"metrics: unknown channel {channel!r}; expected one of {', '.join(CHANNELS)}.")
    for name, side in (("picture", picture), ("reference", reference)):
        if side.ndim != 4 or side.shape[1] != 3:
            raise ValueError(
                f"metrics: the {name} has the shape {tuple(side.shape)}; expected B 3 H W in -1..1."
            )
    if picture.shape[2:] != reference.shape[2:]:
        raise ValueError(
            f"metrics: the picture is {picture.shape[3]}x{picture.shape[2]} pixels, the reference "
            f"{reference.shape[3]}x{reference.shape[2]} (width x height); expected two of one size. "
            "Crop or resize one of them first."
        )
    if reference.shape[0] not in (1, picture.shape[0]):
        raise ValueError(
            f"metrics: {reference.shape[0]} references for {picture.shape[0]} pictures; expected as many, "
            "or one for all."
        )
    height, width = picture.shape[-2:]
    if border < 0 or 2 * border >= min(height, width):
        raise ValueError(
            f"metrics: a border of {border} pixels leaves nothing of a picture of {width}x{height} pixels. "
            "Choose a smaller border."
        )

    def measured(side: Tensor) -> Tensor:
        # float64 makes a mean of squares over a million pixels exact to 1e-6 dB. MPS has no float64, so the
        # tensor moves to the CPU first.
        values = (side.detach().cpu().double() + 1.0) / 2.0
        values = values[..., border : height - border, border : width - border]
        return to_luma(values) if channel == "y" else values

    return measured(picture), measured(reference.expand_as(picture))
