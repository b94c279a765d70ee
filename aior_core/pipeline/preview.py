"""Previews of latents while they are sampled."""

from __future__ import annotations

import math
from typing import Any

import torch


def fit_preview(vae: Any) -> tuple[list[list[float]], list[float]]:
    """Colours of latents for previews: factors `C 3` and bias `3`, for pictures in -1..1.

    They are a least-squares fit on decoded random latents with a fixed seed. vae: decodes latents `B C h w`
    to an IMAGE, as ComfyUI's `VAE` does.
    """
    generator = torch.Generator().manual_seed(0)
    latent = torch.randn(4, vae.latent_channels, 12, 12, generator=generator)
    # A constant per channel brings the latents closer to those of pictures than white noise alone.
    latent = latent + 2 * torch.randn(4, vae.latent_channels, 1, 1, generator=generator)
    picture = vae.decode(latent).movedim(-1, 1).mul(2).sub(1)
    small = torch.nn.functional.avg_pool2d(picture.float(), vae.downscale_ratio)
    known = latent.movedim(1, -1).reshape(-1, latent.shape[1])
    known = torch.cat([known, torch.ones_like(known[:, :1])], dim=1)
    solution = torch.linalg.lstsq(known, small.movedim(1, -1).reshape(-1, 3).to(known)).solution
    return solution[:-1].tolist(), solution[-1].tolist()


def preview_colors(rows: object, channels: int) -> tuple[list[list[float]], list[float]]:
    """Factors `channels 3` and bias `3` from the parsed metadata `latent_rgb`: `channels + 1` rows of three
    numbers, the bias last.

    Raises ValueError for anything else, because ComfyUI multiplies every preview with them.
    """
    if not isinstance(rows, list) or len(rows) != channels + 1 or not all(_is_color(row) for row in rows):
        raise ValueError(
            f"The metadata 'latent_rgb' of these weights is not {channels + 1} rows of three numbers. The "
            "file is damaged; get it again."
        )
    return rows[:-1], rows[-1]


def _is_color(row: object) -> bool:
    return (
        isinstance(row, list)
        and len(row) == 3
        and all(type(x) in (int, float) and math.isfinite(x) and abs(x) < 1e6 for x in row)
    )
