"""Structural similarity."""

from __future__ import annotations

from torch import Tensor

from .protocol import prepare

WINDOW = 11
"""Side of the Gaussian window in pixels. kornia's sigma is 1.5, as in the paper."""


def ssim(picture: Tensor, reference: Tensor, *, border: int = 0, channel: str = "rgb") -> Tensor:
    """SSIM of each picture, `B`, float64 on the CPU, -1..1; 1 for equal pictures.

    The window is Gaussian, 11x11 pixels, sigma 1.5. Only positions where the whole window lies inside the
    picture count. The result is the mean over positions and channels. Source: Wang et al., "Image Quality
    Assessment: From Error Visibility to Structural Similarity", 2004, as MATLAB and BasicSR compute it.

    Args:
        picture: `B 3 H W`, -1..1.
        reference: `B 3 H W` or `1 3 H W`, -1..1.
        border, channel: see `protocol.prepare`.

    Raises:
        ValueError: as `protocol.prepare`, or fewer than 11 pixels are left on a side.
    """
    # Imported here because it takes 0.2 s, which ComfyUI's start should not pay.
    from kornia.metrics import ssim as ssim_map

    picture, reference = prepare(picture, reference, border=border, channel=channel)
    if min(picture.shape[-2:]) < WINDOW:
        height, width = picture.shape[-2:]
        raise ValueError(
            f"ssim: {width}x{height} pixels are left after the border is cropped; at least {WINDOW}x{WINDOW} "
            "are needed. Use a larger picture or a smaller border."
        )
    # kornia adds eps to the denominator. The paper does not.
    return ssim_map(picture, reference, WINDOW, max_val=1.0, eps=0.0, padding="valid").mean((1, 2, 3))
