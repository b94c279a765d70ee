"""Checks of inputs that ComfyUI lets pass: NaN is neither below nor above a bound, and a prompt can have a
number where a link belongs."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

LARGEST_INDEX = 2**16
"""The largest place of a picture in a batch: ComfyUI draws the noise of all pictures before it."""
LONGEST = 200
"""The most bytes of a file's name. File systems allow 255; this leaves room for a number and a suffix."""


def require_numbers(**values: float) -> None:
    """Raise ValueError naming the input unless every value is a finite number."""
    for name, value in values.items():
        if not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ValueError(f"{name} is {str(value)[:60]}; expected a number.")


def require_kind(name: str, value: object, kind: type, source: str) -> None:
    """Raise ValueError naming the input unless `value` is a `kind`, which comes from the node `source`."""
    if not isinstance(value, kind):
        raise ValueError(f"{name} is {_described(value)}; connect {source}.")


def samples_of(latent: object) -> Tensor:
    """The samples `B C h w` of a LATENT. Raises ValueError for anything else, such as an empty batch."""
    samples = latent.get("samples") if isinstance(latent, dict) else None
    if (
        not torch.is_tensor(samples)
        or samples.ndim != 4
        or not samples.numel()
        or not samples.is_floating_point()
    ):
        found = (
            f"{tuple(samples.shape)} of {samples.dtype}" if torch.is_tensor(samples) else _described(samples)
        )
        raise ValueError(
            f"the latent's samples are {found}; expected numbers of shape (pictures, channels, height, "
            "width), none of them 0."
        )
    return samples


def mask_of(latent: dict[str, Any]) -> Tensor | None:
    """The noise mask of a LATENT as `M 1 h w`, fp32, 0..1, of any size, or None.

    Raises ValueError for anything that is no mask, and for NaN or infinite values.
    """
    mask = latent.get("noise_mask")
    if mask is None:
        return None
    if not torch.is_tensor(mask) or mask.ndim < 2 or not mask.numel() or mask.is_complex():
        found = f"of shape {tuple(mask.shape)}" if torch.is_tensor(mask) else _described(mask)
        raise ValueError(
            f"the latent's noise mask is {found}; expected numbers of shape (masks, height, width). "
            "Connect a MASK to Set Latent Noise Mask."
        )
    mask = mask.reshape(-1, 1, *mask.shape[-2:]).float()
    if not torch.isfinite(mask).all():
        raise ValueError(
            "the latent's noise mask holds NaN or infinite values. Check the node that the mask comes from."
        )
    return mask.clamp(0.0, 1.0)


def require_index(latent: dict[str, Any]) -> None:
    """Raise ValueError unless `batch_index` of a LATENT holds places in a batch."""
    places = latent.get("batch_index")
    if places is not None and not all(isinstance(i, int) and 0 <= i < LARGEST_INDEX for i in places):
        raise ValueError(
            f"the latent says that its pictures are numbers {str(list(places))[:60]} of a batch; expected "
            f"0..{LARGEST_INDEX - 1}."
        )


def _described(value: object) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"


def require_finite(x: Tensor, stage: str, dtype: torch.dtype) -> None:
    """Raise RuntimeError naming the stage and its dtype if `x` holds NaN or infinite values."""
    if not torch.isfinite(x).all():
        raise RuntimeError(
            f"NaN or infinite values in {stage} ({dtype}). Start ComfyUI with --fp32-vae (or --fp32-unet, if "
            "it is the latent)."
        )


def reason_of(error: Exception) -> str:
    """What the operating system says of a name, without the name itself, which may be long."""
    return (isinstance(error, OSError) and error.strerror) or "it is no name"


def require_below(name: str, where: str) -> None:
    """Raise ValueError unless `name` is a relative path that stays below its folder. where: the folder, in
    words.
    """
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise ValueError(f"{str(name)[:LONGEST]!r} is no name of a file. Write one below {where}.")
    if ".." in re.split(r"[/\\]", name) or name[0] in "/\\" or re.match(r"[A-Za-z]:", name):
        raise ValueError(
            f"{name[:LONGEST]!r} leads out of {where}. Write a name below it, without '..' and not from the "
            "root."
        )


def is_within(path: str | Path, folder: str | Path) -> bool:
    """Whether `path` lies in `folder` when all links are followed."""
    real, root = os.path.realpath(path), os.path.realpath(folder)
    return real == root or real.startswith(os.path.join(root, ""))
