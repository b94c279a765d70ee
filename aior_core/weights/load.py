"""Reading weights: safetensors only, complete sets only."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .names import SUFFIX, siblings

PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")

PICKLE_REFUSED = (
    "{} is not a safetensors file. Pickled checkpoints (.pt, .pth, .ckpt, .bin) can run code when they are opened and are "
    "refused. Convert once, where you trust the file: torch.load(path, weights_only=True), then "
    "safetensors.torch.save_file(state_dict, 'NAME.safetensors')."
)


def load_weights(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the set of files that `path` belongs to -> (flat state dict on the CPU, metadata of the file).

    `path` is a single file or any one of the shards; the others lie beside it.
    Raises FileNotFoundError for a missing file or shard, ValueError for a pickle, a truncated or damaged file, or shards
    of different sets; the message says what to do.
    """
    files = siblings(Path(path))
    missing = [file for file in files if not file.is_file()]
    if missing:
        part = "Weights file" if len(files) == 1 else f"Shard ({len(missing)} of {len(files)} missing)"
        names = ", ".join(file.name for file in missing)
        raise FileNotFoundError(f"{part} not found: {names} in {missing[0].parent}. Put the files of one set side by side.")
    state_dict: dict[str, Tensor] = {}
    sets: dict[str, str] = {}
    metadata: dict[str, str] = {}
    for file in files:
        tensors, metadata = _read(file)
        sets[file.name] = metadata.pop("set", "")
        metadata.pop("shards", None)
        state_dict.update(tensors)
    if len(set(sets.values())) > 1:
        listed = ", ".join(f"{name}: set {number or 'unknown'}" for name, number in sets.items())
        raise ValueError(f"These shards do not belong together ({listed}). Fetch all files of one set again.")
    return state_dict, metadata


def load_checkpoint(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """As `load_weights`, but a pickle too, if it holds tensors and nothing else: a flat state dict as published codes save them.

    Nothing in it is run (`weights_only`), and its tensors are mapped, not read. Only for files that are converted: what we save ourselves
    is safetensors. Raises ValueError for a pickle of anything else.
    """
    path = Path(path)
    if path.suffix == SUFFIX:
        return load_weights(path)
    if not path.is_file():
        raise FileNotFoundError(f"Weights file not found: {path.name} in {path.parent}.")
    try:
        # Files older than PyTorch 1.6 are no zip archives and cannot be mapped.
        with path.open("rb") as file:
            zipped = file.read(4) == b"PK\x03\x04"
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise ValueError(
            f"{path.name} cannot be read safely: {first} It is damaged, or holds more than tensors; what it holds besides is never run. "
            "Get a safetensors file, or save the state dict alone where you trust the file."
        ) from error
    if not isinstance(state, dict) or not all(isinstance(k, str) and torch.is_tensor(v) for k, v in state.items()):
        raise ValueError(f"{path.name} is a pickle, but no flat dict of tensors. Expected a state dict as UniLDiff's or FaithDiff's code saves it.")
    return state, {}


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    if path.suffix != SUFFIX:
        raise ValueError(PICKLE_REFUSED.format(path.name))
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})
    except SafetensorError as error:
        # Only now: a sound safetensors file starts with its header's length, which can be any of these bytes.
        if path.read_bytes()[:4].startswith(PICKLE_STARTS):
            raise ValueError(PICKLE_REFUSED.format(path.name)) from error
        size = path.stat().st_size
        raise ValueError(f"{path.name} ({size} bytes) is truncated or damaged: {error}. Copy or download the file again.") from error
