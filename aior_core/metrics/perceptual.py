"""A learned perceptual distance that runs offline: ShiftTolerant-LPIPS (Ghildyal and Liu, ECCV 2022, BSD-2-Clause).

It is **not LPIPS**: the trunk (AlexNet with anti-aliased pooling) and the calibration are its own, so its numbers compare
with each other only, never with a paper's LPIPS column. It is chosen because the package carries trunk and calibration
in one file of 10 MB, where LPIPS downloads its trunk.
"""

from __future__ import annotations

import functools

import torch

from .protocol import prepare

NAME = "ST-LPIPS (not LPIPS)"
INSTALL = "pip install stlpips-pytorch torchsummary ipython"
SMALLEST = 32


@functools.cache
def _network() -> torch.nn.Module:
    try:
        # The package's modules import torchsummary and IPython without declaring them.
        from stlpips_pytorch import stlpips
    except ImportError as error:
        raise RuntimeError(
            f"perceptual: the optional package stlpips_pytorch is not usable ({error}). Install it with: {INSTALL}, or measure without it."
        ) from error
    return stlpips.LPIPS(net="alex", variant="shift_tolerant", verbose=False).requires_grad_(False)


def learned_distance(picture: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """The distance as a loss, `[B]`, fp32, with gradients to `picture`; both `B 3 H W`, -1..1 (clamped), sides of at least 32, on one device.

    Raises RuntimeError, naming the package to install, if it is missing.
    """
    network = _network().to(picture.device)
    with torch.autocast(picture.device.type, enabled=False):
        return network(*(x.float().clamp(-1.0, 1.0).contiguous() for x in (picture, reference))).flatten()


def available() -> bool:
    """Whether `perceptual` can run here. Loads the network if so."""
    try:
        _network()
    except RuntimeError:
        return False
    return True


@torch.no_grad()
def perceptual(picture: torch.Tensor, reference: torch.Tensor, *, border: int = 0) -> torch.Tensor:
    """Learned distance of each picture to its reference, shape `[B]`, float64 on the CPU, 0 for equal; both `B 3 H W`, -1..1.

    Always RGB; values are clamped to -1..1. Runs on the CPU, one picture at a time, to keep its memory small.
    Raises RuntimeError, naming the package to install, if it is missing; ValueError as `protocol.prepare` does, or below 32 pixels.
    """
    picture, reference = prepare(picture, reference, border=border)
    if min(picture.shape[-2:]) < SMALLEST:
        raise ValueError(
            f"perceptual: {tuple(picture.shape[-2:])} pixels are left after the border; at least {SMALLEST}x{SMALLEST} are needed."
        )
    sides = (side.float() * 2.0 - 1.0 for side in (picture, reference))
    return torch.cat(
        [learned_distance(one[None], other[None]).double() for one, other in zip(*sides, strict=True)]
    )
