"""Checkpoints: everything that a run needs to resume as if it had never stopped.

A checkpoint is one safetensors file. `ema/` holds the averaged weights of all networks, `raw/` the weights
that are trained, `optimizer/` the state of the optimizers, `draw/` the state of the source of batches,
`generator` and `gpu_generator` the states of the random generators. The metadata holds the run's numbers as
JSON. Nothing is rounded. Checkpoints of versions up to 0.1.0 hold weights in fp16 and no optimizer state;
they can still be read.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..atomic import atomic_write
from .networks import Parts

WEIGHTS = ("ema/", "raw/")


def save(
    path: Path,
    networks: Parts,
    ema: dict[str, Tensor],
    state: dict[str, Any],
    generator: torch.Generator,
    extras: dict[str, Tensor] | None = None,
) -> None:
    """Replace the checkpoint at `path` in one step.

    networks: with the weights that were trained last. ema: their averages, by name. state: numbers for JSON,
    at least `step` and `seconds`. extras: tensors of the optimizers, the source of batches and the GPU's
    generator, by their names in the file.
    """
    raw = networks.state_dict()
    tensors = {f"ema/{k}": ema.get(k, v) for k, v in raw.items()} | {f"raw/{k}": raw[k] for k in ema}
    tensors |= {"generator": generator.get_state()} | (extras or {})
    _write(path, tensors, state)


def _write(path: Path, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    stored: dict[str, Tensor] = {}
    addresses: set[int] = set()
    for key, tensor in tensors.items():
        held = _compact(tensor)
        # safetensors refuses tensors that share memory, as averages do that are the weights themselves.
        address = held.untyped_storage().data_ptr()
        stored[key] = held.clone() if address in addresses else held
        addresses.add(address)
    atomic_write(path, lambda partial: save_file(stored, partial, metadata={"state": json.dumps(state)}))


def _compact(tensor: Tensor) -> Tensor:
    """The tensor on the CPU: in fp16 where that loses nothing, as for weights that were shipped, else as it
    is."""
    tensor = tensor.detach().to("cpu").contiguous()
    if tensor.dtype != torch.float32:
        return tensor
    half = tensor.half()
    return half if torch.equal(half.float(), tensor) else tensor


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Any], Tensor]:
    """The averaged weights of all networks, the raw weights of what was trained, the state, and the
    generator's state. Floats are in fp32."""
    with safe_open(path, "pt") as file:
        held = json.loads(file.metadata()["state"])
        generator = file.get_tensor("generator")
        ema, raw = (
            {
                key.removeprefix(prefix): _float(file.get_tensor(key))
                for key in file.keys()
                if key.startswith(prefix)
            }
            for prefix in WEIGHTS
        )
    return ema, raw, held, generator


def _float(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def extras(path: Path, prefix: str = "") -> dict[str, Tensor]:
    """The tensors of a checkpoint besides the weights and `generator` whose names start with `prefix`, under
    names without it."""
    with safe_open(path, "pt") as file:
        names = [
            key
            for key in file.keys()
            if key.startswith(prefix) and not key.startswith(WEIGHTS) and key != "generator"
        ]
        return {key.removeprefix(prefix): file.get_tensor(key) for key in names}


def is_checkpoint(path: Path) -> bool:
    """Whether a safetensors file is a checkpoint, as opposed to weights as they ship."""
    with safe_open(path, "pt") as file:
        return "generator" in file.keys()


def state(path: Path) -> dict[str, Any]:
    """The numbers of a checkpoint: `step`, `seconds`, and what else the run noted."""
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["state"])


def amend(path: Path, changes: dict[str, Any], ema: dict[str, Tensor]) -> None:
    """Change numbers of a checkpoint's state and some of its averaged weights. Everything else stays."""
    with safe_open(path, "pt") as file:
        held = json.loads(file.metadata()["state"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}
    _write(path, tensors | {f"ema/{key}": value for key, value in ema.items()}, held | changes)


def resume(
    path: Path, networks: Parts, generator: torch.Generator
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Restore the raw weights and the generator of a checkpoint; returns the averaged weights and the
    state."""
    ema, raw, held, generator_state = load(path)
    networks.load_state_dict(ema | raw)
    generator.set_state(generator_state)
    return ema, held
