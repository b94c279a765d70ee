"""Blur kernels of the second-order chains."""

from __future__ import annotations

import math

import torch

FORMS = ("gaussian", "generalized", "plateau", "sinc")


def kernel_of(form: str, sigma: float, ratio: float, angle: float, beta: float) -> torch.Tensor:
    """An odd square kernel of sum 1 (Wang et al., Real-ESRGAN, ICCVW 2021, section 3.1).

    sigma: along the longer axis, in pixels; ratio: across over along, in 0..1; angle: of the longer axis,
    degrees. With q the squared distance in units of sigma: "gaussian" is exp(-q / 2), "generalized"
    exp(-q^beta / 2), "plateau" 1 / (1 + q^beta). "sinc" is the ideal circular low-pass filter that rings as
    sharpening and JPEG do; its cutoff is pi / sigma, in radians per pixel, and from 1 pixel down it lets
    everything pass."""
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
    """Impulse response of a circular low-pass filter, cut off after 10 pixels: `cutoff J1(cutoff r) / (2 pi
    r)`."""
    axis = torch.arange(-10, 11, dtype=torch.float64)
    radius = (axis[:, None].square() + axis[None].square()).sqrt()
    kernel = cutoff * torch.special.bessel_j1(cutoff * radius) / (2.0 * math.pi * radius.clamp_min(1e-9))
    kernel[10, 10] = cutoff**2 / (4.0 * math.pi)
    return (kernel / kernel.sum()).float()
