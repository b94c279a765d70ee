"""Blur by a kernel: Gaussian, defocus disc, motion along a curved path."""

import math

import torch
import torch.nn.functional as F

from .fields import splat, stream

DIRECT_SIDE = 63
"""Kernels of more pixels a side are applied by Fourier transforms. Severity 1 has 21."""


def apply_blur(picture: torch.Tensor, params: dict, seed: int) -> torch.Tensor:
    """Blur ``picture`` (``B C H W``, 0..1); the spread of all shapes is that of a Gaussian of ``params["sigma"]``."""
    sigma = params["sigma"]
    if params["shape"] == "gaussian":
        return gaussian_blur(picture, sigma)
    if params["shape"] == "disc":
        return _convolve(picture, _disc_kernel(2.0 * sigma))  # a disc of radius r has the variance r^2 / 4 per axis
    return _convolve(picture, _path_kernel(5.0 * sigma, params["angle"], params["bend"], seed))


def gaussian_blur(picture: torch.Tensor, sigma: float) -> torch.Tensor:
    """Separable Gaussian blur of ``B C H W`` with replicated borders; sigma 0 is the identity."""
    if sigma <= 0.0:
        return picture
    radius = max(1, math.ceil(3.0 * sigma))
    taps = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, dtype=torch.float32) / sigma) ** 2)
    taps = (taps / taps.sum()).to(picture)
    flat = picture.flatten(0, 1)[:, None]
    flat = F.conv2d(F.pad(flat, (radius, radius, 0, 0), mode="replicate"), taps[None, None, None, :])
    flat = F.conv2d(F.pad(flat, (0, 0, radius, radius), mode="replicate"), taps[None, None, :, None])
    return flat[:, 0].view(picture.shape)


def _convolve(picture: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """Correlate every channel with an odd square ``kernel`` of sum 1, borders replicated."""
    radius = kernel.shape[0] // 2
    flat = picture.flatten(0, 1)[:, None]
    if kernel.shape[0] <= DIRECT_SIDE:
        flat = F.pad(flat, (radius,) * 4, mode="replicate")
        return F.conv2d(flat, kernel.to(picture)[None, None])[:, 0].view(picture.shape)
    # Direct convolution by the largest kernel that limits allow takes half an hour for 24 megapixels.
    kernel = kernel.to(picture)[None, None]
    planes = [_correlate_by_fft(F.pad(plane, (radius,) * 4, mode="replicate"), kernel) for plane in flat.split(1)]
    return torch.cat(planes)[:, 0].view(picture.shape)


def _correlate_by_fft(padded: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """What ``F.conv2d`` gives for ``1 1 H W`` and ``1 1 k k``, but for rounding errors of 1e-6."""
    height, width = padded.shape[-2:]
    sides = [_fast_length(side) for side in (height, width)]
    spectrum = torch.fft.rfft2(padded, s=sides) * torch.fft.rfft2(kernel, s=sides).conj()
    side = kernel.shape[-1]
    return torch.fft.irfft2(spectrum, s=sides)[..., : height - side + 1, : width - side + 1]


def _fast_length(length: int) -> int:
    """The smallest product of 2, 3 and 5 that is at least ``length``: Fourier transforms of it are fast."""
    while True:
        rest = length
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return length
        length += 1


def _disc_kernel(radius: float) -> torch.Tensor:
    """Disc with an edge one pixel soft, so that it grows continuously with ``radius``."""
    reach = max(1, math.ceil(radius + 0.5))
    axis = torch.arange(-reach, reach + 1, dtype=torch.float32)
    distance = (axis[:, None] ** 2 + axis[None, :] ** 2).sqrt()
    kernel = (radius + 0.5 - distance).clamp(0.0, 1.0)
    return kernel / kernel.sum()


def _path_kernel(length: float, angle: float, bend: float, seed: int) -> torch.Tensor:
    """Path of a shaken camera: starts in the direction ``angle`` and turns smoothly at random, more for larger ``bend``."""
    count = max(8, math.ceil(length * 3.0))
    turns = torch.randn(4, generator=stream(seed)) * bend * 1.2
    turning = F.interpolate(turns[None, None], size=count, mode="linear", align_corners=True)[0, 0]
    heading = math.radians(angle) + turning.cumsum(0) / count * 2.0
    x = (heading.cos() * (length / count)).cumsum(0)
    y = (heading.sin() * (length / count)).cumsum(0)
    x, y = x - x.mean(), y - y.mean()
    reach = max(1, math.ceil(max(x.abs().max().item(), y.abs().max().item())) + 1)
    size = 2 * reach + 1
    kernel = splat(size, size, x + reach, y + reach, torch.ones(count))
    return kernel / kernel.sum()
