"""Writes weights as small safetensors files, all of a set or none."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from .shards import SUFFIX, listed, shard_name, stem_of
from .tensor_checks import not_finite

KEPT_EXACT = ("latent_mean", "latent_std")
"""Buffers that every latent is multiplied with. They are few numbers, always saved in fp32."""


def save_weights(
    path_stem: str | Path,
    state_dict: dict[str, Tensor],
    metadata: dict[str, str],
    *,
    dtype: torch.dtype | None = torch.float16,
    max_bytes: int = 127 * 2**17,
) -> list[Path]:
    """Write a flat state dict (prefixes `unet.`, `vae.`, `prior.`, `daff.`, `daem.`) as one or more
    safetensors files.

    dtype: of all floating-point tensors; None keeps each tensor's own. max_bytes: of one file, plus its
    header. A single tensor is never split.

    Files are `STEM.safetensors` or `STEM-00001-of-0000N.safetensors`. Each carries the whole metadata and the
    id of its set. All files are written beside their final places first and then moved, and files of an
    earlier set with the same stem are removed. A reader therefore sees the old set, the new one, or an error
    that names the mixture.

    Returns the paths in order. Before anything is written, raises ValueError if there is nothing to save, a
    metadata value is no string, or a weight is NaN, infinite, or too large for `dtype`.
    """
    stem = Path(path_stem)
    stem = stem.with_name(stem_of(stem.name))
    wrong = [key for key, value in metadata.items() if not isinstance(value, str)]
    if wrong or not state_dict:
        raise ValueError(
            f"save_weights: nothing to save, or metadata that is no text: {wrong or 'empty state dict'}."
        )
    tensors = as_saved(state_dict, stem.name, dtype=dtype)
    shards = _split(tensors, max_bytes)
    header = {**metadata, "set": _digest(tensors), "shards": str(len(shards))}
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = [stem.with_name(shard_name(stem.name, index, len(shards))) for index in range(1, len(shards) + 1)]
    partial = [path.with_name(f".{path.name}.{os.getpid()}.partial") for path in paths]
    try:
        for shard, place in zip(shards, partial):
            save_file(shard, place, metadata=header)
        for place, path in zip(partial, paths):
            os.replace(place, path)
    finally:
        for place in partial:
            place.unlink(missing_ok=True)
    for old in stem.parent.glob(f"*{SUFFIX}"):
        if old not in paths and stem_of(old.name) == stem.name:
            old.unlink()
    return paths


def as_saved(
    state_dict: dict[str, Tensor], name: str, *, dtype: torch.dtype | None = torch.float16
) -> dict[str, Tensor]:
    """The tensors as a file holds them: copies on the CPU, sorted by name, in `dtype` except for
    `KEPT_EXACT`.

    dtype: of floating-point tensors; None keeps each tensor's own. name: of the weights, in messages. Raises
    ValueError if a weight is NaN or infinite, or becomes so in `dtype`: loading would refuse the file, and by
    then the training may be gone.
    """
    broken = not_finite(state_dict)
    if broken:
        raise ValueError(
            f"{name}: NaN or infinite weights in {listed(broken)} are not saved. "
            "The training went wrong; go back to an earlier checkpoint."
        )
    tensors = {key: _ready(key, tensor, dtype) for key, tensor in sorted(state_dict.items())}
    large = not_finite(tensors)
    if large and dtype is not None:
        kept, most = str(dtype).removeprefix("torch."), torch.finfo(dtype).max
        sizes = listed(f"{key} ({state_dict[key].detach().float().abs().max().item():.3g})" for key in large)
        raise ValueError(
            f"{name} cannot be saved in {kept}, whose numbers end at {most:g}: {sizes} would become "
            "infinite. Go back to an earlier checkpoint and lower the learning rate; published weights "
            "can be converted with --fp32."
        )
    return tensors


def _ready(name: str, tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    exact = name.rpartition(".")[2] in KEPT_EXACT
    to = torch.float32 if exact else dtype if dtype and tensor.is_floating_point() else tensor.dtype
    return tensor.detach().to("cpu", to, copy=True).contiguous()


def _split(tensors: dict[str, Tensor], max_bytes: int) -> list[dict[str, Tensor]]:
    shards: list[dict[str, Tensor]] = [{}]
    filled = 0
    for name, tensor in tensors.items():
        if shards[-1] and filled + tensor.nbytes > max_bytes:
            shards.append({})
            filled = 0
        shards[-1][name] = tensor
        filled += tensor.nbytes
    return shards


def _digest(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in tensors.items():
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]
