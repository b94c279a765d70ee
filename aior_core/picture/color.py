"""Colour transfer from a reference picture, after the fact.

Both methods pull brightness and colour of the whole picture back to the reference's: right for noise, rain, blur and
JPEG, wrong for haze and low light, where the reference's colours are the damage. So neither is a default anywhere.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

LEVELS = 5


def _same_size(reference: torch.Tensor, picture: torch.Tensor) -> torch.Tensor:
    reference = reference.to(picture)
    if reference.ndim != 4 or picture.ndim != 4 or reference.shape[1] != picture.shape[1]:
        raise ValueError(
            "Colour transfer: expected two B C H W pictures with the same channels, "
            f"got {tuple(picture.shape)} and {tuple(reference.shape)}."
        )
    if reference.shape[0] not in (1, picture.shape[0]):
        raise ValueError(
            f"Colour transfer: {reference.shape[0]} reference pictures for {picture.shape[0]} pictures; expected as many, or one for all."
        )
    if reference.shape[-2:] != picture.shape[-2:]:
        reference = F.interpolate(
            reference, size=picture.shape[-2:], mode="bicubic", align_corners=False, antialias=True
        )
    return reference


def _low_frequencies(picture: torch.Tensor) -> torch.Tensor:
    """What is left after `LEVELS` a-trous blurs with the 3x3 binomial kernel, dilated 1, 2, 4, 8, 16, edges repeated."""
    channels = picture.shape[1]
    taps = torch.tensor([1.0, 2.0, 1.0], dtype=picture.dtype, device=picture.device) / 4
    kernel = torch.outer(taps, taps).expand(channels, 1, 3, 3)
    for level in range(LEVELS):
        step = 2**level
        padded = F.pad(picture, (step, step, step, step), mode="replicate")
        picture = F.conv2d(padded, kernel, groups=channels, dilation=step)
    return picture


def wavelet_color(picture: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Fine detail of `picture`, low frequencies of `reference`; both `B C H W`, -1..1; the result is clamped to -1..1.

    The high frequencies of all levels sum to picture - low(picture), so one subtraction stands for the five.
    The reference is resampled (bicubic) to the picture's size and may be a batch of one.
    Source: the wavelet colour fix of StableSR as FaithDiff and UniLDiff use it.
    Raises ValueError if channels or batches do not fit.
    """
    reference = _same_size(reference, picture)
    return (picture - _low_frequencies(picture) + _low_frequencies(reference)).clamp(-1.0, 1.0)


def adain_color(picture: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Mean and deviation of each channel of `reference` on `picture`; both `B C H W`, -1..1; clamped to -1..1.

    Unbiased variance plus 1e-5 on the 0..1 scale, as in StableSR's colour fix. Size and batch as in `wavelet_color`.
    Raises ValueError if channels or batches do not fit.
    """
    reference = _same_size(reference, picture)
    # 1e-5 is meant for 0..1; variances on -1..1 are four times as large.
    epsilon = 4e-5
    mean, deviation = picture.mean((2, 3), keepdim=True), (picture.var((2, 3), keepdim=True) + epsilon).sqrt()
    target_mean, target_deviation = (
        reference.mean((2, 3), keepdim=True),
        (reference.var((2, 3), keepdim=True) + epsilon).sqrt(),
    )
    return ((picture - mean) / deviation * target_deviation + target_mean).clamp(-1.0, 1.0)


def match_color(picture: torch.Tensor, reference: torch.Tensor, method: str = "none") -> torch.Tensor:
    """Apply the colour transfer called `method`: "none" (returns `picture` itself), "wavelet" or "adain".

    Raises ValueError for any other name.
    """
    if method == "none":
        return picture
    if method == "wavelet":
        return wavelet_color(picture, reference)
    if method == "adain":
        return adain_color(picture, reference)
    raise ValueError(f"match_color: unknown method {method!r}; expected none, wavelet or adain.")
