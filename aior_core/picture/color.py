"""Colour transfer: give a restored picture the colours of a reference picture.

Both methods pull the brightness and the colours of the whole picture back to the reference's. That is right
for noise, rain, blur and JPEG, and wrong for haze and low light, where the reference's colours are the
damage. So no method is a default anywhere.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

WAVELET_LEVELS = 5


def _matched(reference: Tensor, picture: Tensor) -> Tensor:
    """The reference on the picture's device, in its dtype and size. Raises ValueError if shapes differ."""
    reference = reference.to(picture)
    if reference.ndim != 4 or picture.ndim != 4 or reference.shape[1] != picture.shape[1]:
        raise ValueError(
            "Colour transfer: expected two B C H W pictures with the same channels, "
            f"got {tuple(picture.shape)} and {tuple(reference.shape)}."
        )
    if reference.shape[0] not in (1, picture.shape[0]):
        raise ValueError(
            f"Colour transfer: {reference.shape[0]} reference pictures for {picture.shape[0]} pictures; "
            "expected as many, or one for all."
        )
    if reference.shape[-2:] == picture.shape[-2:]:
        return reference
    size = picture.shape[-2:]
    return F.interpolate(reference, size=size, mode="bicubic", align_corners=False, antialias=True)


def _low_frequencies(picture: Tensor) -> Tensor:
    """The approximation of an à trous wavelet transform after `WAVELET_LEVELS` levels, `B C H W`.

    Each level blurs with the 3x3 binomial kernel, whose taps are 1, 2, 4, 8, 16 pixels apart. Edges are
    repeated. kornia's filters have no dilation, so the blur is a convolution of torch.
    """
    channels = picture.shape[1]
    taps = torch.tensor([1.0, 2.0, 1.0], dtype=picture.dtype, device=picture.device) / 4
    kernel = torch.outer(taps, taps).expand(channels, 1, 3, 3)
    for level in range(WAVELET_LEVELS):
        step = 2**level
        padded = F.pad(picture, (step, step, step, step), mode="replicate")
        picture = F.conv2d(padded, kernel, groups=channels, dilation=step)
    return picture


def wavelet_color(picture: Tensor, reference: Tensor) -> Tensor:
    """Combine the fine detail of `picture` with the low frequencies of `reference`.

    The detail coefficients of all levels sum to picture - low(picture), so one subtraction gives them all.

    Source: the wavelet colour fix of StableSR (Wang et al., "Exploiting Diffusion Prior for Real-World Image
    Super-Resolution", 2023), which FaithDiff and UniLDiff use too.

    Args:
        picture: `B C H W`, -1..1.
        reference: `B C h w` or `1 C h w` (one for all pictures), -1..1. It is resampled to H by W
            (bicubic).

    Returns:
        `B C H W`, clamped to -1..1.

    Raises:
        ValueError: channels or batches do not match.
    """
    reference = _matched(reference, picture)
    return (picture - _low_frequencies(picture) + _low_frequencies(reference)).clamp(-1.0, 1.0)


def adain_color(picture: Tensor, reference: Tensor) -> Tensor:
    """Give each channel of `picture` the mean and the standard deviation of `reference`'s channel.

    Source: adaptive instance normalisation (Huang and Belongie, "Arbitrary Style Transfer in Real-time with
    Adaptive Instance Normalization", 2017, Equation 8) on pixels, as in StableSR: unbiased variance, plus
    1e-5 on the 0..1 scale. Arguments, result and errors are those of `wavelet_color`.
    """
    reference = _matched(reference, picture)
    # A variance on the scale -1..1 is four times the variance on 0..1.
    epsilon = 4e-5
    mean, deviation = picture.mean((2, 3), keepdim=True), (picture.var((2, 3), keepdim=True) + epsilon).sqrt()
    target_mean = reference.mean((2, 3), keepdim=True)
    target_deviation = (reference.var((2, 3), keepdim=True) + epsilon).sqrt()
    return ((picture - mean) / deviation * target_deviation + target_mean).clamp(-1.0, 1.0)


def match_color(picture: Tensor, reference: Tensor, method: str = "none") -> Tensor:
    """Transfer colours by `method`: "none" (returns `picture` itself), "wavelet" or "adain".

    Arguments and result are those of `wavelet_color`.

    Raises:
        ValueError: the method is unknown, or channels or batches do not match.
    """
    if method == "none":
        return picture
    if method == "wavelet":
        return wavelet_color(picture, reference)
    if method == "adain":
        return adain_color(picture, reference)
    raise ValueError(f"match_color: unknown method {method!r}; expected none, wavelet or adain.")
