"""JPEG as baseline encoders do it: YCbCr, 8x8 DCT, the tables of ITU-T T.81 Annex K, libjpeg's quality scale.

The codec is our own. kornia's `jpeg_codec_differentiable` smooths the rounding so that it has a gradient: its
result differs by 9 of 255 on average, it knows 4:2:0 and its own tables only, and it takes twenty times as
long.
"""

import functools
import math

import torch
import torch.nn.functional as F

LUMA = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56,
    14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
CHROMA = (
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99,
    47, 66, 99, 99, 99, 99, 99, 99,
) + (99,) * 32  # fmt: skip


def compress_jpeg(picture: torch.Tensor, params: dict, seed: int) -> torch.Tensor:
    """Return `picture` (`B 3 H W`, 0..1) after JPEG of `params["quality"]` (1..100), in steps of 1/255.

    `params["subsampling"]` is "4:2:0" or "4:4:4". Nothing is random, so `seed` is unused.
    """
    height, width = picture.shape[-2:]
    halved = params["subsampling"] == "4:2:0"
    unit = 16 if halved else 8
    padded = F.pad(picture, (0, -width % unit, 0, -height % unit), mode="replicate")
    planes = to_ycc((padded.clamp(0.0, 1.0) * 255.0).round()).round()
    chroma = F.avg_pool2d(planes[:, 1:], 2).round() if halved else planes[:, 1:]
    luma = quantise(planes[:, :1] - 128.0, scaled_table(LUMA, params["quality"]), 8) + 128.0
    chroma = quantise(chroma, scaled_table(CHROMA, params["quality"]), 8).round()
    if halved:
        chroma = F.interpolate(chroma, scale_factor=2, mode="bilinear", align_corners=False).round()
    back = from_ycc(torch.cat((luma.round(), chroma), 1))
    return back[..., :height, :width].round().clamp(0.0, 255.0) / 255.0


def scaled_table(base: tuple, quality: int) -> tuple:
    """Return a quantisation table scaled as libjpeg's `jpeg_quality_scaling` does."""
    quality = min(100, max(1, int(quality)))
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    return tuple(min(255, max(1, (entry * scale + 50) // 100)) for entry in base)


def to_ycc(rgb: torch.Tensor) -> torch.Tensor:
    """Convert RGB (`B 3 H W`) to JFIF's Y, Cb, Cr on the same scale, with chroma around 0."""
    red, green, blue = rgb.split(1, 1)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    return torch.cat((luma, (blue - luma) / 1.772, (red - luma) / 1.402), 1)


def from_ycc(planes: torch.Tensor) -> torch.Tensor:
    """Convert Y, Cb, Cr (`B 3 H W`, chroma around 0) to RGB. The inverse of `to_ycc`."""
    luma, cb, cr = planes.split(1, 1)
    return torch.cat((luma + 1.402 * cr, luma - 0.344136 * cb - 0.714136 * cr, luma + 1.772 * cb), 1)


@functools.lru_cache(maxsize=16)
def _transform(side: int, device: torch.device) -> torch.Tensor:
    """Return the orthonormal DCT-II of a flattened block of `side` squared as one matrix.

    One matrix product per block is faster than two passes.
    """
    place = torch.arange(side, dtype=torch.float64)
    rows = torch.cos((2.0 * place[None] + 1.0) * place[:, None] * math.pi / (2.0 * side))
    rows = rows * math.sqrt(2.0 / side)
    rows[0] *= math.sqrt(0.5)
    return torch.kron(rows, rows).float().to(device)


def quantise(planes: torch.Tensor, steps, side: int, dead: float = 0.5) -> torch.Tensor:
    """Transform blocks of `side` by the DCT, round to multiples of `steps`, and transform back.

    planes: `B C H W`, whose sides `side` divides. steps: one step per coefficient, in raster order. dead:
    what a coefficient must exceed its lower multiple by to be rounded up is `1 - dead` steps.
    """
    batch, channels, height, width = planes.shape
    matrix = _transform(side, planes.device).to(planes.dtype)
    steps = torch.tensor(steps, dtype=planes.dtype, device=planes.device)
    blocks = (
        planes.reshape(batch, channels, height // side, side, width // side, side)
        .transpose(3, 4)
        .reshape(-1, side * side)
    )
    ratio = (blocks @ matrix.T) / steps
    levels = ratio.round() if dead == 0.5 else ratio.sign() * (ratio.abs() + dead).floor()
    blocks = ((levels * steps) @ matrix).view(batch, channels, height // side, width // side, side, side)
    return blocks.transpose(3, 4).reshape(planes.shape)
