"""Checks on every tensor of a file, before anything is built from it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from .shards import listed

STORED = (
    torch.float16, torch.bfloat16, torch.float32, torch.float64,
    torch.float8_e4m3fn, torch.float8_e5m2,
)  # fmt: skip
"""Dtypes of weights. Those with 8 bits are cast, except where ComfyUI can keep them."""
MOST_TENSORS = 20_000
"""Far more than any model has: SDXL's UNet has 1,680."""
CHUNK = 2**24
"""Elements that are checked at a time, to bound the memory of the check."""


def require_valid_tensors(tensors: Mapping[str, Tensor], size: int, name: str) -> None:
    """Raise ValueError unless all tensors of a file are plain, of a float dtype, not empty, and stored in the
    file.

    size: of the file in bytes. A few bytes can claim any shape: with a side of length 0, and in pickles also
    with strides of 0 or one storage for many tensors.
    """
    if len(tensors) > MOST_TENSORS:
        raise ValueError(
            f"{name} holds {len(tensors)} tensors; expected at most {MOST_TENSORS}. Get the right file."
        )
    kinds = [
        f"{key} ({str(value.dtype).removeprefix('torch.')})"
        for key, value in tensors.items()
        if value.dtype not in STORED
        or value.layout is not torch.strided
        or value.is_quantized
        or value.device.type != "cpu"
    ]
    if kinds:
        wanted = ", ".join(str(dtype).removeprefix("torch.") for dtype in STORED)
        raise ValueError(
            f"{name} holds tensors of another kind than weights are: {listed(kinds)}. Expected {wanted}."
        )
    empty = [f"{key} {tuple(value.shape)}" for key, value in tensors.items() if not value.numel()]
    if empty:
        raise ValueError(
            f"{name} holds tensors with nothing in them: {listed(empty)}. It is damaged; get it again."
        )
    claimed = sum(value.numel() * value.element_size() for value in tensors.values())
    if claimed > size:
        raise ValueError(
            f"{name} has {size} bytes, but its tensors would take {claimed}. It is damaged, or made to fill "
            "the memory; get it again."
        )


def not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """The names of the tensors that hold NaN or infinite numbers."""
    return [
        key
        for key, value in tensors.items()
        if not all(torch.isfinite(part.float()).all() for part in value.reshape(-1).split(CHUNK))
    ]


def require_finite(tensors: Mapping[str, Tensor], name: str) -> None:
    """Raise ValueError with the names of weights that are NaN or infinite: they would make black pictures
    without an error.
    """
    broken = not_finite(tensors)
    if broken:
        raise ValueError(
            f"{name} has NaN or infinite weights in {listed(broken)}. It is damaged, or its training went "
            "wrong; get it again."
        )
