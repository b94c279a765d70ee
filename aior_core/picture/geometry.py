"""Layout, range and size of pictures.

At a node's edge a picture is a ComfyUI IMAGE: `B H W C`, 0..1, float32. Inside the pack it is `B C H W`, RGB,
-1..1. `to_unit` converts inwards, `from_unit` outwards. Nothing else converts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Geometry:
    """Size of a picture before padding, and the padding below and to the right of it, in pixels."""

    height: int
    width: int
    pad_bottom: int
    pad_right: int

    @property
    def padded(self) -> tuple[int, int]:
        """Height and width with the padding."""
        return self.height + self.pad_bottom, self.width + self.pad_right


def split_alpha(image: Tensor) -> tuple[Tensor, Tensor | None]:
    """Split an IMAGE into its colours and its alpha channel, without changing values.

    A grey picture (C = 1, or 2 with alpha) is repeated to three channels.

    Args:
        image: `B H W C` with C from 1 to 4.

    Returns:
        Colours `B H W 3`, and alpha `B H W 1` or None if there is none. Both are views.

    Raises:
        ValueError: `image` is not such a tensor, or it is empty.
    """
    if not torch.is_tensor(image):
        found = "nothing" if image is None else f"a {type(image).__name__}"
        raise ValueError(f"expected an IMAGE, got {found}. Connect the IMAGE output of a node.")
    if image.ndim != 4 or image.shape[-1] not in (1, 2, 3, 4):
        raise ValueError(
            f"expected an IMAGE of shape B H W C with 1 to 4 channels, got {tuple(image.shape)}. "
            "Pass the IMAGE output of a node, not a latent or a B C H W tensor."
        )
    if not image.numel():
        raise ValueError(
            f"the batch is empty: {tuple(image.shape)} (pictures, height, width, channels). "
            "Check the node it comes from."
        )
    channels = image.shape[-1]
    alpha = image[..., -1:] if channels in (2, 4) else None
    color = image[..., :3] if channels >= 3 else image[..., :1].expand(-1, -1, -1, 3)
    return color, alpha


def join_alpha(image: Tensor, alpha: Tensor | None) -> Tensor:
    """Append an alpha channel to colours: the inverse of `split_alpha`.

    Args:
        image: `B H W 3`.
        alpha: `B H W 1`, or None to return `image` itself.

    Returns:
        `B H W 4`.

    Raises:
        ValueError: batch, height or width differ.
    """
    if alpha is None:
        return image
    if alpha.shape[:3] != image.shape[:3]:
        raise ValueError(
            f"join_alpha: alpha is {tuple(alpha.shape)}, the picture {tuple(image.shape)}; "
            "batch, height and width must agree."
        )
    return torch.cat([image, alpha.to(image)], dim=-1)


def to_unit(image: Tensor) -> Tensor:
    """Convert an IMAGE to a picture as networks take it.

    Alpha is dropped (`split_alpha` keeps it), grey becomes RGB. Values outside 0..1, which unclipped noise or
    a sharpening node leaves, are kept: a restorer can use them.

    Args:
        image: `B H W C`, 0..1, with C from 1 to 4.

    Returns:
        `B 3 H W`, -1..1, float32, contiguous, a copy on the same device.

    Raises:
        ValueError: `image` is not an IMAGE, its values are not floats, or one of them is NaN or infinite.
    """
    color = split_alpha(image)[0]
    require_pixels(color)
    return unit_of(color)


def unit_of(color: Tensor) -> Tensor:
    """`to_unit` of colours `B H W 3` without its checks.

    It is for the tiles of a picture that was checked as a whole.
    """
    color = color.to(torch.float32)
    batch, height, width, channels = color.shape
    # The result is written into its final layout, so that a large picture has no second copy in memory.
    picture = torch.empty(batch, channels, height, width, device=color.device)
    return torch.mul(color.movedim(-1, 1), 2.0, out=picture).sub_(1.0)


def require_pixels(color: Tensor) -> None:
    """Check the values of an IMAGE `B H W C`.

    Raises:
        ValueError: they are not floats, or one of them is NaN or infinite.
    """
    if not color.is_floating_point():
        raise ValueError(
            f"the picture's values are {color.dtype}; an IMAGE has floats in 0..1. "
            "Check the node it comes from."
        )
    # A NaN anywhere makes both NaN. Unlike isfinite(), aminmax() makes no mask of the size of the picture.
    if not all(math.isfinite(float(extreme)) for extreme in torch.aminmax(color)):
        raise ValueError(
            "the picture holds NaN or infinite values. "
            "Check the node it comes from; every value must lie in 0..1."
        )


def from_unit(picture: Tensor) -> Tensor:
    """Convert a picture to an IMAGE: the inverse of `to_unit`, with values clamped to 0..1.

    Takes `B 3 H W`, -1..1. Returns `B H W 3`, 0..1, float32, contiguous, a copy on the same device.

    Raises:
        ValueError: `picture` is not `B 3 H W`.
    """
    if picture.ndim != 4 or picture.shape[1] != 3:
        raise ValueError(f"from_unit: expected a picture of shape B 3 H W, got {tuple(picture.shape)}.")
    return picture.to(torch.float32).add(1.0).mul_(0.5).clamp_(0.0, 1.0).movedim(1, -1).contiguous()


def pad_to_multiple(picture: Tensor, multiple: int = 8) -> tuple[Tensor, Geometry]:
    """Pad a picture at the bottom and at the right until height and width are multiples of `multiple`.

    A side longer than its padding is mirrored. Of a shorter side the last row or column is repeated.

    Args:
        picture: `B C H W` of any range.
        multiple: at least 1.

    Returns:
        The padded picture (`picture` itself if nothing is missing), and the Geometry that `crop_back` takes.

    Raises:
        ValueError: the picture is empty, or the multiple is below 1.
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


def crop_back(picture: Tensor, geometry: Geometry) -> Tensor:
    """Crop the padding of `geometry` off a picture `... H W` (a view).

    Raises:
        ValueError: the picture does not have the padded size.
    """
    if tuple(picture.shape[-2:]) != geometry.padded:
        raise ValueError(
            f"crop_back: the picture is {tuple(picture.shape[-2:])}, the geometry says {geometry.padded} "
            "with padding; the prior belongs to a picture of another size."
        )
    return picture[..., : geometry.height, : geometry.width]
