"""Some pictures of a prior, as ComfyUI's own nodes take some out of a batch of images or latents."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from .prior import Prior
from .validate import require_kind


def rows_of(prior: Prior, mine: slice) -> Prior:
    """The prior of some pictures of the batch. Its tensors are views."""
    rows = {field.name: getattr(prior, field.name) for field in dataclasses.fields(prior)}
    cut: dict[str, Any] = {name: value[mine] for name, value in rows.items() if torch.is_tensor(value)}
    skips = None if prior.skips is None else tuple(skip[mine] for skip in prior.skips)
    global_statistics = None if prior.global_statistics is None else prior.global_statistics.rows(mine)
    return dataclasses.replace(prior, **cut, skips=skips, global_statistics=global_statistics)


def prior_from_batch(prior: Prior, batch_index: int, length: int) -> Prior:
    """The prior of `length` pictures from number `batch_index` on. Negative numbers count from the end.

    Numbers beyond the batch are clamped as in ComfyUI's LatentFromBatch, so that equal numbers give the prior
    and the latents of the same pictures.

    Raises ValueError for something that is no prior, or a length below 1.
    """
    require_kind("prior", prior, Prior, "Encode Degradation Prior")
    if length < 1:
        raise ValueError(f"length is {length}; expected a number of pictures, at least 1.")
    pictures = len(prior.latent)
    first = max(0, min(pictures - 1, batch_index + pictures if batch_index < 0 else batch_index))
    return rows_of(prior, slice(first, min(pictures, first + length)))
