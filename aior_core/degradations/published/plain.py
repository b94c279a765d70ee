"""The plain forms of tables in papers: Gaussian noise, bicubic reduction, baseline JPEG, Gaussian blur.

Severities are those of the kinds.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ..blur import gaussian_blur
from ..draw import Draw
from ..fields import stream
from ..jpeg import compress_jpeg
from .style import Style

SUBSAMPLINGS = ("4:2:0", "4:4:4")


def _noise(picture: torch.Tensor, params: dict, seed: int) -> torch.Tensor:
    """Add white Gaussian noise of `sigma` of 255. Clipped noise is rounded too, as in a file."""
    noise = torch.randn(picture.shape[1:], generator=stream(seed)).to(picture)
    noisy = picture + noise * (params["sigma"] / 255.0)
    return (noisy * 255.0).round().clamp(0.0, 255.0) / 255.0 if params["clip"] else noisy


def _resized(picture: torch.Tensor, size: tuple) -> torch.Tensor:
    """Resize as MATLAB's `imresize` does: bicubic with a = -0.5, widened where the picture is reduced."""
    return F.interpolate(picture, size=size, mode="bicubic", align_corners=False, antialias=True)


def _reduced(picture: torch.Tensor, params: dict, seed: int) -> torch.Tensor:
    """Reduce by `scale` and enlarge again, both bicubically.

    In between the picture has 8 bits, as the files of the sets have.
    """
    height, width = picture.shape[-2:]
    size = tuple(max(1, round(side / params["scale"])) for side in (height, width))
    if size == (height, width):
        return picture
    small = (_resized(picture.float(), size) * 255.0).round().clamp(0.0, 255.0) / 255.0
    return _resized(small, (height, width)).to(picture.dtype)


def _jpeg(picture: torch.Tensor, params: dict, seed: int) -> torch.Tensor:
    """Compress by the tables of the IJG at `quality`; 100 stands for no JPEG at all, as severity 0 does."""
    if params["quality"] >= 100:
        return picture
    return compress_jpeg(picture.float(), params, seed).to(picture.dtype)


def _draw_noise(clip: bool):
    return lambda draw, severity: {"sigma": round(60.0 * severity, 6), "clip": clip}


def _draw_jpeg(draw: Draw, severity: float) -> dict:
    chroma = draw.choice(SUBSAMPLINGS, (0.75, 0.25))
    return {"quality": round(100.0 - 90.0 * severity), "subsampling": chroma}


_SIGMA = {"sigma": (0.0, 1000.0)}

STYLES = {
    "gaussian": Style(
        "noise",
        "Zhang et al., DnCNN, TIP 2017, and every denoising table since: added, not clipped",
        _draw_noise(False),
        _noise,
        _SIGMA,
        {"clip": (False,)},
        (0.08, 0.92),
    ),
    "gaussian_clipped": Style(
        "noise",
        "The same noise as a file has it: clipped and rounded to 8 bits",
        _draw_noise(True),
        _noise,
        _SIGMA,
        {"clip": (True,)},
        (0.08, 0.92),
    ),
    "bicubic": Style(
        "low_resolution",
        "Timofte et al., NTIRE 2017 (DIV2K), and every super-resolution table: bicubic x2, x3, x4",
        lambda draw, severity: {"scale": round(1.0 + 3.0 * severity, 6)},
        _reduced,
        {"scale": (1.0, 64.0)},
        severities=(1.0 / 3.0, 1.0),
    ),
    "ijg_jpeg": Style(
        "jpeg",
        "Dong et al., ARCNN, ICCV 2015, and every JPEG table: IJG quality 10 to 40",
        _draw_jpeg,
        _jpeg,
        {"quality": (1, 100)},
        {"subsampling": SUBSAMPLINGS},
        (0.3, 1.0),
    ),
    "gaussian_blur": Style(
        "blur",
        "Gu et al., Blind Super-Resolution With Iterative Kernel Correction, CVPR 2019: isotropic Gaussian",
        lambda draw, severity: {"sigma": round(3.2 * severity, 6)},
        lambda picture, params, seed: gaussian_blur(picture, params["sigma"]),
        {"sigma": (0.0, 32.0)},
    ),
}
