"""Haze by the atmospheric scattering model ``I = J t + A (1 - t)``, ``t = exp(-beta depth)`` (Koschmieder)."""

import torch
import torch.nn.functional as F

from .fields import fractal_noise, plane, stream


def add_haze(picture: torch.Tensor, params: dict, seed: int) -> torch.Tensor:
    """Lay haze of airlight ``params["light"]`` over ``picture`` (``B C H W``, 0..1) by an invented depth.

    The depth is a plane (usually farther towards the top), fractal noise, and a cue from the picture: bright parts
    are taken for far ones, which ties the haze to the outlines of things. All of it is relative to the picture's size.
    """
    height, width = picture.shape[-2:]
    generator = stream(seed)
    ramp = plane(height, width, params["angle"]) - 0.5
    rough = fractal_noise(height, width, generator, octaves=4) - 0.5
    level = 0.7 + 0.2 * torch.rand((), generator=generator)
    depth = (level + params["slope"] * ramp + params["rough"] * rough).to(picture)
    depth = depth + params["cue"] * (_brightness(picture) - 0.4)
    transmission = torch.exp(-params["beta"] * depth.clamp(0.05, 2.0))
    light = torch.tensor(params["light"]).to(picture).view(1, -1, 1, 1)
    return picture * transmission + light * (1.0 - transmission)


def _brightness(picture: torch.Tensor) -> torch.Tensor:
    """``B 1 H W``: mean of the channels, half of it smoothed, so that fine texture does not become relief."""
    bright = picture.mean(1, keepdim=True)
    small = F.interpolate(bright, size=(8, 8), mode="area")
    smooth = F.interpolate(small, size=bright.shape[-2:], mode="bilinear", align_corners=False)
    return 0.5 * bright + 0.5 * smooth
