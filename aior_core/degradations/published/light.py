"""sRGB to linear light and back (IEC 61966-2-1)."""

import torch


def decode(picture: torch.Tensor) -> torch.Tensor:
    """sRGB in 0..1 -> linear light, 1 is white."""
    return torch.where(picture <= 0.04045, picture / 12.92, ((picture.clamp_min(0.0) + 0.055) / 1.055) ** 2.4)


def encode(light: torch.Tensor) -> torch.Tensor:
    """Linear light -> sRGB; below 0 stays below, above 1 stays above."""
    return torch.where(
        light <= 0.0031308, light * 12.92, 1.055 * light.clamp_min(1e-8) ** (1.0 / 2.4) - 0.055
    )
