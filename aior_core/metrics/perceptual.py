"""A learned perceptual distance that needs no download: ShiftTolerant-LPIPS (Ghildyal and Liu, ECCV 2022).

It is **not LPIPS**. Its trunk (AlexNet with anti-aliased pooling) and its calibration differ, so its numbers
compare with each other only, and never with a paper's LPIPS column. The package (BSD-2-Clause) carries trunk
and calibration in one file of 10 MB, where the LPIPS package downloads its trunk.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from .protocol import prepare

NAME = "ST-LPIPS (not LPIPS)"
INSTALL = "pip install stlpips-pytorch torchsummary ipython"
MIN_SIDE = 32
"""The smallest side in pixels that the trunk's pooling leaves something of."""


@functools.cache
def _network() -> torch.nn.Module:
    try:
        # The package imports torchsummary and IPython but does not declare them as dependencies.
        from stlpips_pytorch import stlpips
    except ImportError as error:
        raise RuntimeError(
            f"perceptual: the optional package stlpips_pytorch cannot be imported ({error}). "
            f"Install it with: {INSTALL}, or measure without it."
        ) from error
    return stlpips.LPIPS(net="alex", variant="shift_tolerant", verbose=False).requires_grad_(False)


def learned_distance(picture: Tensor, reference: Tensor) -> Tensor:
    """The distance as a loss, `B`, fp32, with gradients for `picture`.

    Both pictures are `B 3 H W`, -1..1 (values outside are clamped), on one device, with sides of at least 32
    pixels.

    Raises:
        RuntimeError: the optional package is missing; the message names it.
    """
    network = _network().to(picture.device)
    with torch.autocast(picture.device.type, enabled=False):
        return network(*(x.float().clamp(-1.0, 1.0).contiguous() for x in (picture, reference))).flatten()


def available() -> bool:
    """Whether the optional package can be used. Loads the network if so."""
    try:
        _network()
    except RuntimeError:
        return False
    return True


@torch.no_grad()
def perceptual(picture: Tensor, reference: Tensor, *, border: int = 0) -> Tensor:
    """Learned distance of each picture to its reference, `B`, float64 on the CPU; 0 for equal pictures.

    It is measured on RGB values clamped to -1..1. The pictures run one at a time on the CPU, which keeps
    memory low.

    Args:
        picture: `B 3 H W`, -1..1.
        reference: `B 3 H W` or `1 3 H W`, -1..1.
        border: see `protocol.prepare`.

    Raises:
        RuntimeError: the optional package is missing; the message names it.
        ValueError: as `protocol.prepare`, or fewer than 32 pixels are left on a side.
    """
    picture, reference = prepare(picture, reference, border=border)
    if min(picture.shape[-2:]) < MIN_SIDE:
        height, width = picture.shape[-2:]
        raise ValueError(
            f"perceptual: {width}x{height} pixels are left after the border is cropped; at least "
            f"{MIN_SIDE}x{MIN_SIDE} are needed. Use a larger picture or a smaller border."
        )
    sides = (side.float() * 2.0 - 1.0 for side in (picture, reference))
    return torch.cat(
        [learned_distance(one[None], other[None]).double() for one, other in zip(*sides, strict=True)]
    )
