"""Peak signal-to-noise ratio.

The formula is written here because `kornia.metrics.psnr` returns one number for a whole batch (from the mean
of all squared errors, where papers average the PSNR of the pictures) and infinity for equal pictures.
"""

from __future__ import annotations

from torch import Tensor, log10

from .protocol import prepare

MAX_DB = 100.0
"""The score of equal pictures. A finite number keeps the mean over a test set finite."""


def psnr(picture: Tensor, reference: Tensor, *, border: int = 0, channel: str = "rgb") -> Tensor:
    """PSNR of each picture in dB, `B`, float64 on the CPU, at most `MAX_DB`.

    PSNR = -10 log10(MSE), where MSE is the mean over all pixels and channels on the 0..1 scale, so the peak
    is 1.

    Args:
        picture: `B 3 H W`, -1..1.
        reference: `B 3 H W` or `1 3 H W`, -1..1.
        border, channel: see `protocol.prepare`.

    Raises:
        ValueError: as `protocol.prepare`.
    """
    picture, reference = prepare(picture, reference, border=border, channel=channel)
    mse = (picture - reference).square().mean((1, 2, 3))
    return -10.0 * log10(mse.clamp_min(10.0 ** (-MAX_DB / 10.0)))
