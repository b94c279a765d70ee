"""Blur by a kernel: Gaussian, defocus disc, motion along a curved path."""

import math

import torch
import torch.nn.functional as F

from .fields import splat, stream


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
    flat = F.pad(picture.flatten(0, 1)[:, None], (radius,) * 4, mode="replicate")
    return F.conv2d(flat, kernel.to(picture)[None, None])[:, 0].view(picture.shape)


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
