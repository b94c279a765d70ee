"""JPEG as baseline encoders do it: YCbCr, 8x8 DCT, the tables of ITU-T T.81 Annex K, libjpeg's quality
scale."""

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
    """``picture`` (``B 3 H W``, 0..1) after JPEG of ``params["quality"]`` (1..100); 8-bit values. ``seed`` is
    unused."""
    height, width = picture.shape[-2:]
    halved = params["subsampling"] == "4:2:0"
    unit = 16 if halved else 8
    padded = F.pad(picture, (0, -width % unit, 0, -height % unit), mode="replicate")
    red, green, blue = (padded.clamp(0.0, 1.0) * 255.0).round().unbind(1)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    chroma = torch.stack(((blue - luma) / 1.772, (red - luma) / 1.402), 1)
    if halved:
        chroma = F.avg_pool2d(chroma.round(), 2)
    device = (
        picture.device.type
        if picture.device.index is None
        else f"{picture.device.type}:{picture.device.index}"
    )
    luma = _quantise(luma[:, None].round() - 128.0, scaled_table(LUMA, params["quality"]), device) + 128.0
    chroma = _quantise(chroma.round(), scaled_table(CHROMA, params["quality"]), device)
    if halved:
        chroma = F.interpolate(chroma.round(), scale_factor=2, mode="bilinear", align_corners=False)
    y, (cb, cr) = luma.round()[:, 0], chroma.round().unbind(1)
    back = torch.stack((y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb), 1)
    return back[..., :height, :width].round().clamp(0.0, 255.0) / 255.0


def scaled_table(base: tuple, quality: int) -> tuple:
    """Quantisation table scaled as libjpeg's ``jpeg_quality_scaling`` does."""
    quality = min(100, max(1, int(quality)))
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    return tuple(min(255, max(1, (entry * scale + 50) // 100)) for entry in base)


@functools.lru_cache(maxsize=8)
def _transform(device: str) -> torch.Tensor:
    """64x64 orthonormal matrix of the two-dimensional DCT-II of a flattened 8x8 block: one product per block
    is fastest."""
    position = torch.arange(8, dtype=torch.float64)
    rows = torch.cos((2.0 * position[None] + 1.0) * position[:, None] * math.pi / 16.0) * 0.5
    rows[0] *= math.sqrt(0.5)
    return torch.kron(rows, rows).float().to(device)


def _quantise(plane: torch.Tensor, table: tuple, device: str) -> torch.Tensor:
    """DCT, divide and round by ``table``, and back, for ``B C H W`` with sides divisible by 8."""
    batch, channels, height, width = plane.shape
    matrix = _transform(device).to(plane.dtype)
    steps = torch.tensor(table, dtype=plane.dtype, device=plane.device)
    blocks = plane.reshape(batch, channels, height // 8, 8, width // 8, 8).transpose(3, 4).reshape(-1, 64)
    coefficients = ((blocks @ matrix.T) / steps).round() * steps
    blocks = (coefficients @ matrix).view(batch, channels, height // 8, width // 8, 8, 8)
    return blocks.transpose(3, 4).reshape(batch, channels, height, width)
