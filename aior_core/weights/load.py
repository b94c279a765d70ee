"""Reads weights: complete sets of safetensors files, and pickled state dicts of published checkpoints."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from .pickles import read_pickle
from .shards import MOST_SHARDS, SUFFIX, listed, siblings
from .tensor_checks import require_valid_tensors

PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
"""First bytes of zip archives and of pickles."""

PICKLE_REFUSED = (
    "{} is not a safetensors file. Pickled checkpoints (.pt, .pth, .ckpt, .bin) can run code when they are "
    "opened, so they are refused. If you trust the file, convert it once: torch.load(path, "
    "weights_only=True), then "
    "safetensors.torch.save_file(state_dict, 'NAME.safetensors')."
)


def load_weights(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the set of files that `path` belongs to: the flat state dict on the CPU, and the file's metadata.

    path: a single file, or any shard of a set whose other shards lie beside it. Raises FileNotFoundError for
    a missing file or shard, and ValueError for a pickle, a damaged file, tensors that cannot be weights
    (`require_valid_tensors`), or shards of different sets. The message says what to do.
    """
    files = siblings(Path(path))
    if not files:
        raise ValueError(
            f"The name {Path(path).name} is not that of a shard: shards are numbered from 1 to their count, "
            "at most "
            f"{MOST_SHARDS}. Give the file its original name."
        )
    missing = [file for file in files if not file.is_file()]
    if missing:
        part = "Weights file" if len(files) == 1 else f"Shard ({len(missing)} of {len(files)} missing)"
        names = listed(file.name for file in missing)
        raise FileNotFoundError(
            f"{part} not found: {names} in {missing[0].parent}. Put the files of one set side by side."
        )
    state_dict: dict[str, Tensor] = {}
    sets: dict[str, str] = {}
    metadata: dict[str, str] = {}
    for file in files:
        tensors, metadata = _read(file)
        sets[file.name] = metadata.pop("set", "")
        metadata.pop("shards", None)
        twice = state_dict.keys() & tensors.keys()
        if twice:
            raise ValueError(
                f"These shards do not belong together: {file.name} holds {listed(twice)} once more. Fetch "
                "all files of one set again."
            )
        state_dict.update(tensors)
    if len(set(sets.values())) > 1:
        numbers = listed(f"{name}: set {number or 'unknown'}" for name, number in sets.items())
        raise ValueError(
            f"These shards do not belong together ({numbers}). Fetch all files of one set again."
        )
    return state_dict, metadata


def load_checkpoint(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Like `load_weights`, but also reads a pickle that holds a flat state dict, as published codes save
    them.

    Nothing in a pickle is run, and its tensors are memory-mapped. This is for files to convert: the pack
    itself saves safetensors. Raises ValueError for a pickle of anything else.
    """
    path = Path(path)
    if path.suffix == SUFFIX:
        return load_weights(path)
    if not path.is_file():
        raise FileNotFoundError(f"Weights file not found: {path.name} in {path.parent}.")
    state = read_pickle(path)
    require_valid_tensors(state, path.stat().st_size, path.name)
    return state, {}


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    if path.suffix != SUFFIX:
        raise ValueError(PICKLE_REFUSED.format(path.name))
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            tensors, metadata = (
                {name: file.get_tensor(name) for name in file.keys()},
                dict(file.metadata() or {}),
            )
    # A shape beyond 64 bits raises TypeError.
    except (SafetensorError, TypeError) as error:
        # Checked only now: a valid safetensors file starts with the length of its header, which can be any
        # bytes.
        with path.open("rb") as file:
            start = file.read(4)
        if start.startswith(PICKLE_STARTS):
            raise ValueError(PICKLE_REFUSED.format(path.name)) from error
        size, what = path.stat().st_size, str(error).splitlines()[0][:200]
        raise ValueError(
            f"{path.name} ({size} bytes) is truncated or damaged: {what}. Copy or download the file again."
        ) from error
    require_valid_tensors(tensors, path.stat().st_size, path.name)
    return tensors, metadata
