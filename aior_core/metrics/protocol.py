"""What the papers measure on: which pixels (border cropped) and which values (RGB, or MATLAB's luma)."""

from __future__ import annotations

import torch

CHANNELS = ("rgb", "y")


def as_8bit(picture: torch.Tensor) -> torch.Tensor:
    """Clamp a `B C H W`, -1..1 picture and round it to the 256 values a saved PNG can hold."""
    return picture.float().add(1.0).mul(127.5).clamp(0.0, 255.0).round().div(127.5).sub(1.0)


def to_luma(rgb: torch.Tensor) -> torch.Tensor:
    """`B 3 H W` in 0..1 -> `B 1 H W`, Y of YCbCr in 16/255..235/255, as MATLAB's rgb2ycbcr and BasicSR have it."""
    weights = torch.tensor([65.481, 128.553, 24.966], dtype=rgb.dtype, device=rgb.device).view(1, 3, 1, 1)
    return ((rgb * weights).sum(1, keepdim=True) + 16.0) / 255.0


def prepare(
    picture: torch.Tensor, reference: torch.Tensor, *, border: int = 0, channel: str = "rgb"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Bring two `B 3 H W`, -1..1 pictures to what is measured: `B C H W`, 0..1 scale, float64.

    border: pixels cut off at every side (the scale, for super-resolution). channel: "rgb" (C = 3) or "y" (C = 1).
    Values outside -1..1 stay as they are, so that unclipped noise keeps its textbook PSNR. `reference` may be a batch of one.
    Raises ValueError if the sizes differ, the border leaves nothing, or the channel is unknown.
    """
    if channel not in CHANNELS:
        raise ValueError(f"metrics: unknown channel {channel!r}; expected one of {', '.join(CHANNELS)}.")
    for name, side in (("picture", picture), ("reference", reference)):
        if side.ndim != 4 or side.shape[1] != 3:
            raise ValueError(
                f"metrics: the {name} has the shape {tuple(side.shape)}; expected B 3 H W in -1..1."
            )
    if picture.shape[2:] != reference.shape[2:]:
        sizes = (f"{side.shape[3]}x{side.shape[2]}" for side in (picture, reference))
        raise ValueError(
            "metrics: the picture is {} pixels, the reference {} (width x height); expected two of one size. Crop or resize one of them first.".format(
                *sizes
            )
        )
    if reference.shape[0] not in (1, picture.shape[0]):
        raise ValueError(
            f"metrics: {reference.shape[0]} references for {picture.shape[0]} pictures; expected as many, or one for all."
        )
    height, width = picture.shape[-2:]
    if border < 0 or 2 * border >= min(height, width):
        raise ValueError(f"metrics: a border of {border} leaves nothing of a {height}x{width} picture.")
    prepared = []
    for side in (picture, reference.expand_as(picture)):
        # float64: a mean of squares over a million pixels is wanted to 1e-6 dB, and MPS, the one device without it, is left first.
        values = (side.detach().cpu().double() + 1.0) / 2.0
        values = values[..., border : height - border, border : width - border]
        prepared.append(to_luma(values) if channel == "y" else values)
    return prepared[0], prepared[1]
