"""Blur kernels of the second-order chains."""

from __future__ import annotations

import math

import torch

FORMS = ("gaussian", "generalized", "plateau", "sinc")


def kernel_of(form: str, sigma: float, ratio: float, angle: float, beta: float) -> torch.Tensor:
    """Return an odd square kernel of sum 1 (Wang et al., Real-ESRGAN, ICCVW 2021, section 3.1).

        sigma: along the longer axis, in pixels.
        ratio: sigma across over sigma along, in 0..1.
        angle: of the longer axis, in degrees.

    With q the squared distance in units of sigma, "gaussian" is exp(-q / 2), "generalized" is exp(-q^beta /
    2), and "plateau" is 1 / (1 + q^beta). "sinc" is the ideal circular low-pass filter, which rings as
    sharpening and JPEG do. Its cutoff is pi / sigma in radians per pixel, and up to a sigma of 1 pixel it
    passes everything.
    """
    if sigma < 0.05 or form == "sinc" and sigma <= 1.0:
        return torch.ones(1, 1)
    if form == "sinc":
        return _jinc(math.pi / sigma)
    wide = 6.0 if form == "plateau" or beta < 1.0 else 3.0
    reach = min(24, max(1, math.ceil(wide * sigma)))
    axis = torch.arange(-reach, reach + 1, dtype=torch.float64)
    lean = math.radians(angle)
    along = axis[None] * math.cos(lean) + axis[:, None] * math.sin(lean)
    across = axis[:, None] * math.cos(lean) - axis[None] * math.sin(lean)
    q = (along / sigma).square() + (across / max(sigma * ratio, 0.05)).square()
    if form == "plateau":
        kernel = 1.0 / (1.0 + q**beta)
    else:
        kernel = torch.exp(-0.5 * q ** (beta if form == "generalized" else 1.0))
    return (kernel / kernel.sum()).float()


def _jinc(cutoff: float) -> torch.Tensor:
    """Return the impulse response of a circular low-pass filter, `cutoff J1(cutoff r) / (2 pi r)`.

    It is cut off after 10 pixels.
    """
    axis = torch.arange(-10, 11, dtype=torch.float64)
    radius = (axis[:, None].square() + axis[None].square()).sqrt()
    kernel = cutoff * torch.special.bessel_j1(cutoff * radius) / (2.0 * math.pi * radius.clamp_min(1e-9))
    kernel[10, 10] = cutoff**2 / (4.0 * math.pi)
    return (kernel / kernel.sum()).float()
