"""Blur by a kernel: Gaussian, defocus disc, motion along a curved path; and the convolution that all blurs
use.

kornia blurs by Gaussians: its result is the same to the last bit as that of a separable convolution of our
own, and three times as fast. Convolution by a wide kernel stays our own. kornia has a Fourier transform for
it too (`fft_conv`), which transforms all planes at once and takes several times the memory of a large
picture.
"""

import math

import torch
import torch.nn.functional as F

from .fields import splat, stream

_DIRECT = 9
"""Kernels of up to this side are applied directly, and larger ones by Fourier transforms, which are faster.
"""


def apply_blur(picture: torch.Tensor, params: dict, seed: int) -> torch.Tensor:
    """Blur `picture` (`B C H W`, 0..1). Every shape spreads light as a Gaussian of `params["sigma"]` does."""
    sigma = params["sigma"]
    if params["shape"] == "gaussian":
        return gaussian_blur(picture, sigma)
    if params["shape"] == "disc":
        # A disc of radius r has the variance r^2 / 4 per axis.
        return convolve(picture, _disc_kernel(2.0 * sigma))
    # Correlation with the path: the camera moves along it, and the picture against it.
    return convolve(picture, _path_kernel(5.0 * sigma, params["angle"], params["bend"], seed).flip(0, 1))


def gaussian_blur(picture: torch.Tensor, sigma: float, border: str = "replicate") -> torch.Tensor:
    """Blur `B C H W` by a Gaussian that is cut off at three sigma; sigma 0 is the identity.

    border: "replicate" or "reflect". A picture that is too small to be reflected is replicated. kornia is
    imported by the first call, because the import takes a second.
    """
    if sigma <= 0.0:
        return picture
    from kornia.filters import gaussian_blur2d

    size = 2 * max(1, math.ceil(3.0 * sigma)) + 1
    if min(picture.shape[-2:]) <= size // 2:
        border = "replicate"
    return gaussian_blur2d(picture, (size, size), (sigma, sigma), border_type=border)


def convolve(picture: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """Convolve every channel of `picture` (`B C H W`) with an odd square `kernel`; borders are replicated."""
    side = kernel.shape[0]
    if side == 1:
        return picture * kernel.to(picture)
    reach = side // 2
    flat = F.pad(picture.flatten(0, 1)[:, None], (reach,) * 4, mode="replicate")
    if side <= _DIRECT:
        return F.conv2d(flat, kernel.flip(0, 1).to(picture)[None, None])[:, 0].view(picture.shape)
    from scipy.fft import next_fast_len

    rows, columns = (next_fast_len(length, real=True) for length in flat.shape[-2:])
    response = torch.fft.rfft2(kernel.to(picture), s=(rows, columns))
    out = torch.empty_like(flat[..., side - 1 :, side - 1 :])
    # Plane by plane: the transforms of a large picture would take several times its memory.
    for index in range(flat.shape[0]):
        spectrum = torch.fft.rfft2(flat[index, 0], s=(rows, columns)) * response
        plane = torch.fft.irfft2(spectrum, s=(rows, columns))
        out[index, 0] = plane[side - 1 : flat.shape[-2], side - 1 : flat.shape[-1]]
    return out[:, 0].view(picture.shape)


def _disc_kernel(radius: float) -> torch.Tensor:
    """Return a disc whose edge is one pixel soft, so that it grows continuously with `radius`."""
    reach = max(1, math.ceil(radius + 0.5))
    axis = torch.arange(-reach, reach + 1, dtype=torch.float32)
    distance = (axis[:, None] ** 2 + axis[None, :] ** 2).sqrt()
    kernel = (radius + 0.5 - distance).clamp(0.0, 1.0)
    return kernel / kernel.sum()


def _path_kernel(length: float, angle: float, bend: float, seed: int) -> torch.Tensor:
    """Return the path of a shaken camera.

    It starts in the direction `angle` and turns smoothly and at random, more for a larger `bend`.
    """
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
