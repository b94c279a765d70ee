"""Lossy coding on tensors: JPEG with any tables and subsampling, and a coder that fails as WebP does."""

import math

import torch
import torch.nn.functional as F

from ..jpeg import from_ycc, quantise, to_ycc

# Chroma samples are averages over this many rows and columns.
SUBSAMPLINGS = {"4:4:4": (1, 1), "4:2:2": (1, 2), "4:4:0": (2, 1), "4:2:0": (2, 2)}


def code_jpeg(
    picture: torch.Tensor, luma, chroma, subsampling: str, shift=(0, 0), smooth: bool = True
) -> torch.Tensor:
    """Return `picture` (`B 3 H W`, 0..1) after baseline JPEG, in steps of 1/255.

    `luma` and `chroma` are 64 quantisation steps in raster order. `shift` says how many rows and columns of
    the grid of blocks lie above and left of the picture, as in a file that was cropped after coding. `smooth`
    decodes subsampled chroma by the triangle filter of libjpeg, otherwise by repetition. Raises ValueError
    for tables or a subsampling that JPEG does not have.
    """
    if len(luma) != 64 or len(chroma) != 64 or min(*luma, *chroma) < 1:
        raise ValueError("camera: JPEG tables need 64 steps from 1 on for luma and for chroma")
    if subsampling not in SUBSAMPLINGS:
        raise ValueError(
            f"camera: unknown subsampling {subsampling!r}; expected one of {', '.join(SUBSAMPLINGS)}"
        )
    tall, wide = SUBSAMPLINGS[subsampling]
    padded, crop = _on_grid(picture, shift, 8 * tall, 8 * wide)
    planes = to_ycc((padded.clamp(0.0, 1.0) * 255.0).round()).round()
    small = planes[:, 1:]
    if (tall, wide) != (1, 1):
        small = F.avg_pool2d(small, (tall, wide)).round()
    bright = (quantise(planes[:, :1] - 128.0, luma, 8) + 128.0).round().clamp(0.0, 255.0)
    color = quantise(small, chroma, 8).round().clamp(-128.0, 127.0)
    if (tall, wide) != (1, 1):
        color = _enlarge(color, tall, wide, smooth)
    return crop(from_ycc(torch.cat((bright, color), 1)).round().clamp(0.0, 255.0) / 255.0)


def code_webp(picture: torch.Tensor, quality: float, shift=(0, 0)) -> torch.Tensor:
    """Return `picture` (`B 3 H W`, 0..1) after coding that fails as lossy WebP (VP8) does, in steps of 1/255.

    It resembles the format and is not the format. Blocks of 4 pixels are predicted smoothly from coarser
    ones, the residual goes through a 4x4 DCT with a wide dead zone, chroma is 4:2:0, and edges between blocks
    are smoothed. So detail is smeared and does not ring. `quality` is 0..100 and loses about as much as that
    of WebP does.
    """
    step = _webp_step(quality)
    padded, crop = _on_grid(picture, shift, 16, 16)
    planes = to_ycc((padded.clamp(0.0, 1.0) * 255.0).round())
    small = F.avg_pool2d(planes[:, 1:], 2)
    bright = _predictive(planes[:, :1], step)
    color = _enlarge(_predictive(small, step * 1.1), 2, 2, True)
    return crop(from_ycc(torch.cat((bright, color), 1)).round().clamp(0.0, 255.0) / 255.0)


# Logarithm of the transform's step at qualities of libwebp, fitted on photographs so that equally much is
# lost.
_WEBP_STEPS = (
    (0.0, 3.95),
    (5.0, 3.82),
    (20.0, 3.53),
    (40.0, 3.1),
    (60.0, 2.85),
    (80.0, 2.4),
    (95.0, 1.2),
    (100.0, 0.5),
)


def _webp_step(quality: float) -> float:
    if quality < 0.0:
        raise ValueError(f"camera: WebP quality is {quality}; expected a number in 0..100")
    for (low, start), (high, end) in zip(_WEBP_STEPS, _WEBP_STEPS[1:]):
        if quality <= high:
            return math.exp(start + (end - start) * (quality - low) / (high - low))
    raise ValueError(f"camera: WebP quality is {quality}; expected a number in 0..100")


def _predictive(planes: torch.Tensor, step: float) -> torch.Tensor:
    coarse = F.avg_pool2d(planes, 8)
    coarse = (coarse / (step * 0.35)).round() * (step * 0.35)
    predicted = F.interpolate(coarse, size=planes.shape[-2:], mode="bilinear", align_corners=False)
    left = quantise(planes - predicted, [step * 0.9] + [step] * 15, 4, dead=0.36)
    return _deblock(predicted + left, step)


def _deblock(planes: torch.Tensor, step: float) -> torch.Tensor:
    """Move the two pixels at each edge of 4x4 blocks together.

    This happens where they differ by less than the error of the coder.
    """
    for axis in (-1, -2):
        side = planes.shape[axis]
        edge = torch.arange(4, side, 4, device=planes.device)
        inner, outer = (planes.index_select(axis, edge + offset) for offset in (-1, 0))
        before, after = (planes.index_select(axis, edge + offset) for offset in (-2, 1))
        jump = outer - inner
        soft = ((1.6 * step - jump.abs() - 0.5 * (after - before - jump).abs()) / step).clamp(0.0, 1.0)
        move = (0.375 * jump - 0.125 * (after - before)) * soft
        planes = planes.index_copy(axis, edge - 1, inner + move).index_copy(axis, edge, outer - move)
    return planes


def _on_grid(picture: torch.Tensor, shift, tall: int, wide: int):
    """Return the picture on a grid of whole blocks, and a function that crops it again.

    `shift` rows and columns are added before the picture, and what is missing to a whole block after it.
    """
    height, width = picture.shape[-2:]
    top, left = int(shift[0]) % tall, int(shift[1]) % wide
    padded = F.pad(picture, (left, -(left + width) % wide, top, -(top + height) % tall), mode="replicate")
    return padded, lambda coded: coded[..., top : top + height, left : left + width]


def _enlarge(planes: torch.Tensor, tall: int, wide: int, smooth: bool) -> torch.Tensor:
    size = (planes.shape[-2] * tall, planes.shape[-1] * wide)
    if smooth:
        return F.interpolate(planes, size=size, mode="bilinear", align_corners=False).round()
    return F.interpolate(planes, size=size, mode="nearest")
