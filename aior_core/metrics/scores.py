"""All scores of a batch of pictures at once."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .perceptual import perceptual
from .psnr import psnr
from .ssim import ssim

NOT_MEASURED = -1.0
"""Stands for the mean of a score that was not measured. No real score takes this value."""


@dataclass(frozen=True)
class Scores:
    """The scores of a batch of pictures and the protocol they were measured by.

    Attributes:
        psnr: dB, one value per picture, at most 100.
        ssim: -1..1, one value per picture.
        perceptual: learned distance, 0 or more, one value per picture; None if it was not measured.
        border: number of pixels that were cropped from every side.
        channel: "rgb" or "y" (see `protocol.prepare`).
    """

    psnr: tuple[float, ...]
    ssim: tuple[float, ...]
    perceptual: tuple[float, ...] | None
    border: int
    channel: str

    def mean(self, name: str) -> float:
        """Mean over the pictures of the score `name` ("psnr", "ssim" or "perceptual").

        Returns `NOT_MEASURED` (-1) for a score that was not measured.
        """
        values = getattr(self, name)
        return NOT_MEASURED if values is None else sum(values) / len(values)


def measure(
    picture: Tensor, reference: Tensor, *, border: int = 0, channel: str = "rgb", learned: bool = False
) -> Scores:
    """Measure pictures against their references.

    Args:
        picture: `B 3 H W`, -1..1.
        reference: `B 3 H W` or `1 3 H W` (one reference for all pictures), -1..1.
        border: number of pixels to crop from every side.
        channel: "rgb" or "y". The learned distance is always measured on RGB.
        learned: also measure the learned distance, which needs an optional package.

    Raises:
        ValueError: the shapes do not match, too few pixels are left, or the channel is unknown.
        RuntimeError: `learned` is set and the optional package is missing.
    """
    return Scores(
        psnr=tuple(psnr(picture, reference, border=border, channel=channel).tolist()),
        ssim=tuple(ssim(picture, reference, border=border, channel=channel).tolist()),
        perceptual=tuple(perceptual(picture, reference, border=border).tolist()) if learned else None,
        border=border,
        channel=channel,
    )
