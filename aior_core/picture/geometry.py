"""Size and layout of pictures.

Outside, at a node's edge, a picture is a ComfyUI IMAGE: `B H W C`, 0..1, float32.
Inside it is `B C H W`, RGB, -1..1. `to_unit` goes in, `from_unit` comes out; nothing else converts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass(frozen=True)
class Geometry:
    """Size of a picture before padding, and what was added below and to the right of it, in pixels."""

    height: int
    width: int
    pad_bottom: int
    pad_right: int

    @property
    def padded(self) -> tuple[int, int]:
        """Height and width with the padding."""
        return self.height + self.pad_bottom, self.width + self.pad_right


def split_alpha(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Split an IMAGE `B H W C` into its colours `B H W 3` and its alpha `B H W 1`, or None if it has none.

    A grey picture (C = 1, or 2 with alpha) is repeated to three channels. Values are not touched.
    Raises ValueError if `image` is no IMAGE of 1 to 4 channels, or one without a picture or a pixel in it.
    """
    if not torch.is_tensor(image):
        raise ValueError(
            f"expected an IMAGE, got {'nothing' if image is None else f'a {type(image).__name__}'}. Connect the IMAGE output of a node."
        )
    if image.ndim != 4 or image.shape[-1] not in (1, 2, 3, 4):
        raise ValueError(
            f"expected an IMAGE of shape B H W C with 1 to 4 channels, got {tuple(image.shape)}. "
            "Pass the IMAGE output of a node, not a latent or a B C H W tensor."
        )
    if not image.numel():
        raise ValueError(
            f"the batch is empty: {tuple(image.shape)} (pictures, height, width, channels). Check the node it comes from."
        )
    channels = image.shape[-1]
    alpha = image[..., -1:] if channels in (2, 4) else None
    color = image[..., :3] if channels >= 3 else image[..., :1].expand(-1, -1, -1, 3)
    return color, alpha


def join_alpha(image: torch.Tensor, alpha: torch.Tensor | None) -> torch.Tensor:
    """Put `alpha` (`B H W 1`, or None) back behind the colours `B H W 3` of the same size: the inverse of `split_alpha`.

    Raises ValueError if batch, height or width differ.
    """
    if alpha is None:
        return image
    if alpha.shape[:3] != image.shape[:3]:
        raise ValueError(
            f"join_alpha: alpha is {tuple(alpha.shape)}, the picture {tuple(image.shape)}; batch, height and width must agree."
        )
    return torch.cat([image, alpha.to(image)], dim=-1)


def to_unit(image: torch.Tensor) -> torch.Tensor:
    """ComfyUI IMAGE `B H W C`, 0..1 -> picture `B 3 H W`, -1..1, float32, contiguous, on the same device.

    Alpha is dropped (`split_alpha` keeps it), grey becomes RGB. Values outside 0..1, as unclipped noise or a sharpening
    node leaves them, are kept: clipping them would throw away what a restorer can use.
    Raises ValueError if the shape is no IMAGE's, the values are no floats, or one is NaN or infinite.
    """
    color = split_alpha(image)[0]
    require_pixels(color)
    return unit_of(color)


def unit_of(color: torch.Tensor) -> torch.Tensor:
    """`to_unit` of colours `B H W 3` that were looked at before: tiles of a picture are taken often, and checked once."""
    color = color.to(torch.float32)
    batch, height, width, channels = color.shape
    # Straight into the layout that is wanted: a large picture is not held twice.
    picture = torch.empty(batch, channels, height, width, device=color.device)
    return torch.mul(color.movedim(-1, 1), 2.0, out=picture).sub_(1.0)


def require_pixels(color: torch.Tensor) -> None:
    """Raise ValueError if the values of an IMAGE `B H W C` are no floats, or one is NaN or infinite."""
    if not color.is_floating_point():
        raise ValueError(
            f"the picture's values are {color.dtype}; an IMAGE has floats in 0..1. Check the node it comes from."
        )
    # A NaN spreads to both, and no copy of a large picture is made.
    if not all(math.isfinite(float(edge)) for edge in torch.aminmax(color)):
        raise ValueError(
            "the picture holds NaN or infinite values. Check the node it comes from; every value must lie in 0..1."
        )


def from_unit(picture: torch.Tensor) -> torch.Tensor:
    """Picture `B 3 H W`, -1..1 -> ComfyUI IMAGE `B H W 3`, clamped to 0..1, float32, contiguous, on the same device.

    Raises ValueError if `picture` is not `B 3 H W`.
    """
    if picture.ndim != 4 or picture.shape[1] != 3:
        raise ValueError(f"from_unit: expected a picture of shape B 3 H W, got {tuple(picture.shape)}.")
    return picture.to(torch.float32).add(1.0).mul_(0.5).clamp_(0.0, 1.0).movedim(1, -1).contiguous()


def pad_to_multiple(picture: torch.Tensor, multiple: int = 8) -> tuple[torch.Tensor, Geometry]:
    """Pad `B C H W` below and to the right until height and width divide by `multiple`.

    Mirrors where the side is longer than its padding, repeats the last row or column where it is not.
    Returns the picture (the same tensor if nothing was missing) and the Geometry that `crop_back` takes.
    Raises ValueError for an empty picture or a multiple below 1.
    """
    if picture.ndim != 4 or min(picture.shape[-2:]) < 1 or multiple < 1:
        raise ValueError(
            f"pad_to_multiple: expected a B C H W picture of at least 1 pixel and a multiple of at least 1, "
            f"got {tuple(picture.shape)} and {multiple}."
        )
    height, width = picture.shape[-2:]
    geometry = Geometry(height, width, -height % multiple, -width % multiple)
    if geometry.pad_right:
        mode = "reflect" if geometry.pad_right < width else "replicate"
        picture = F.pad(picture, (0, geometry.pad_right, 0, 0), mode=mode)
    if geometry.pad_bottom:
        mode = "reflect" if geometry.pad_bottom < height else "replicate"
        picture = F.pad(picture, (0, 0, 0, geometry.pad_bottom), mode=mode)
    return picture, geometry


def crop_back(picture: torch.Tensor, geometry: Geometry) -> torch.Tensor:
    """Cut the padding of `geometry` off a `B C H W` picture (a view).

    Raises ValueError if the picture has not the padded size.
    """
    if tuple(picture.shape[-2:]) != geometry.padded:
        raise ValueError(
            f"crop_back: the picture is {tuple(picture.shape[-2:])}, the geometry says {geometry.padded} with padding; "
            "the prior belongs to a picture of another size."
        )
    return picture[..., : geometry.height, : geometry.width]
