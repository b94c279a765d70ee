"""sRGB to linear light and back (IEC 61966-2-1).

kornia's `rgb_to_linear_rgb` and `linear_rgb_to_rgb` give the same to the last bit and take the same time.
They accept `... 3 H W` only, and single levels and lists of levels are converted here too.
"""

import torch


def decode(picture: torch.Tensor) -> torch.Tensor:
    """Convert sRGB in 0..1, of any shape, to linear light; 1 is white."""
    return torch.where(picture <= 0.04045, picture / 12.92, ((picture.clamp_min(0.0) + 0.055) / 1.055) ** 2.4)


def encode(light: torch.Tensor) -> torch.Tensor:
    """Convert linear light, of any shape, to sRGB; below 0 stays below, above 1 stays above."""
    return torch.where(
        light <= 0.0031308, light * 12.92, 1.055 * light.clamp_min(1e-8) ** (1.0 / 2.4) - 0.055
    )
