"""Low resolution: down by a factor, back up to the same size."""

import torch
import torch.nn.functional as F


def lower_resolution(picture: torch.Tensor, params: dict, seed: int) -> torch.Tensor:
    """Reduce ``picture`` (``B C H W``, 0..1) by ``params["scale"]`` with an antialiased kernel, enlarge it bicubically.

    Sizes that the factor does not divide are rounded, as image editors do. Nothing here is random; ``seed`` is unused.
    """
    height, width = picture.shape[-2:]
    small = (max(1, round(height / params["scale"])), max(1, round(width / params["scale"])))
    if small == (height, width):
        return picture
    if params["kernel"] == "area":
        reduced = F.interpolate(picture, size=small, mode="area")
    else:
        reduced = F.interpolate(picture, size=small, mode=params["kernel"], align_corners=False, antialias=True)
    return F.interpolate(reduced.clamp(0.0, 1.0), size=(height, width), mode="bicubic", align_corners=False)
