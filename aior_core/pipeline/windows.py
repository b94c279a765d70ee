"""Overlapping windows over a latent, for a denoiser that is too costly on the whole of it (joint tiled diffusion)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

ALIGNED = 8
"""Windows begin at multiples of this many latent pixels, so that a ControlNet's coarse residuals can be cut with them."""


def starts(length: int, window: int, overlap: int) -> list[int]:
    """Starts of windows of `window` over `length`, evenly spread, at least `overlap` shared by neighbours; all but the last aligned.

    The last one ends where the length does.
    """
    if window >= length:
        return [0]
    count = 1 - (-(length - window) // max(1, window - overlap - ALIGNED + 1))
    inner = (round(i * (length - window) / (count - 1) / ALIGNED) * ALIGNED for i in range(count - 1))
    return [*inner, length - window]


def window_weight(window: int, overlap: int, *, first: bool, last: bool) -> Tensor:
    """Weights of one window, `window`: raised cosine over `overlap` pixels, symmetric, flat at the picture's own borders."""
    position = torch.arange(window, dtype=torch.float32) + 0.5
    ramp = torch.sin((position / overlap).clamp(max=1.0) * (torch.pi / 2)).square()
    weight = torch.ones(window)
    if not first:
        weight = weight * ramp
    if not last:
        weight = weight * ramp.flip(0)
    return weight


@dataclass(frozen=True)
class Window:
    """Rows and columns of the latent that one window sees, and its blending weights, `h w`."""

    rows: slice
    columns: slice
    weight: Tensor

    def cut(self, x: Tensor, height: int, width: int) -> Tensor:
        """The window's part of `x`, which lies over a latent of `height` by `width` at any scale: a prior, or a ControlNet's residual."""
        (top, bottom), (left, right) = (
            _scaled(self.rows, x.shape[-2], height),
            _scaled(self.columns, x.shape[-1], width),
        )
        return x[..., top:bottom, left:right]


def _scaled(span: slice, length: int, whole: int) -> tuple[int, int]:
    """`span` of `whole` on a grid of `length`; coarser grids have a size of their own for a window, which counts."""
    if length == whole:
        return span.start, span.stop
    cell = round(whole / length)
    size = -(-(span.stop - span.start) // cell)
    start = min(round(span.start / cell), length - size)
    return start, start + size


def windows_of(height: int, width: int, window: int, overlap: int) -> list[Window]:
    """The windows that cover a latent; all are of one size."""
    tops, lefts = starts(height, window, overlap), starts(width, window, overlap)
    tall, wide = min(window, height), min(window, width)
    made = []
    for i, top in enumerate(tops):
        vertical = window_weight(tall, overlap, first=i == 0, last=i == len(tops) - 1)
        for j, left in enumerate(lefts):
            horizontal = window_weight(wide, overlap, first=j == 0, last=j == len(lefts) - 1)
            made.append(
                Window(slice(top, top + tall), slice(left, left + wide), torch.outer(vertical, horizontal))
            )
    return made
