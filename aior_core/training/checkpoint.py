"""Checkpoints: all that a run needs to go on as if it had never stopped.

A checkpoint is one safetensors file. `ema/` holds the averaged weights of all networks, `raw/` the weights
that were trained, `optimizer/` the optimizers' state, `draw/` what the source of the batches remembers, and
`generator` and `gpu_generator` the states of the random generators. Its metadata holds the run's numbers as
JSON. Nothing is rounded. Checkpoints of versions up to 0.1.0 hold weights in fp16 and no optimizer state;
they are still read.
"""

from __future__ import annotations

import json
from pathlib import Path

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
    state: dict,
    generator: torch.Generator,
    extras: dict[str, Tensor] | None = None,
) -> None:
    """Write atomically: what was there before stays until the new file is whole.

    networks: with the weights that were trained last. ema: the averages of those, by name. state: numbers for
    JSON, at least `step` and `seconds`. extras: tensors of the optimizers, the source of the batches and the
    GPU's generator, by their names in the file.
    """
    raw = networks.state_dict()
    tensors = {f"ema/{k}": ema.get(k, v) for k, v in raw.items()} | {f"raw/{k}": raw[k] for k in ema}
    tensors |= {"generator": generator.get_state()} | (extras or {})
    _write(path, tensors, state)


def _write(path: Path, tensors: dict[str, Tensor], state: dict) -> None:
    stored: dict[str, Tensor] = {}
    places: set[int] = set()
    for key, tensor in tensors.items():
        held = _stored(tensor)
        # The format refuses tensors that share memory, as averages do that are the weights themselves.
        place = held.untyped_storage().data_ptr()
        stored[key] = held.clone() if place in places else held
        places.add(place)
    atomic_write(path, lambda part: save_file(stored, part, metadata={"state": json.dumps(state)}))


def _stored(tensor: Tensor) -> Tensor:
    """On the CPU, without loss: in fp16 where every number of it is one of fp16, as those of shipped weights
    are."""
    tensor = tensor.detach().to("cpu").contiguous()
    if tensor.dtype != torch.float32:
        return tensor
    half = tensor.half()
    return half if torch.equal(half.float(), tensor) else tensor


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Tensor], dict, Tensor]:
    """EMA weights (all networks), raw weights (what was trained), state, generator state; floats come back in
    fp32."""
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
    """What a checkpoint holds beside weights and `generator`, under names that start with `prefix`, which is
    taken off."""
    with safe_open(path, "pt") as file:
        names = [
            key
            for key in file.keys()
            if key.startswith(prefix) and not key.startswith(WEIGHTS) and key != "generator"
        ]
        return {key.removeprefix(prefix): file.get_tensor(key) for key in names}


def is_checkpoint(path: Path) -> bool:
    """Whether a safetensors file is a checkpoint, not weights as they ship."""
    with safe_open(path, "pt") as file:
        return "generator" in file.keys()


def state(path: Path) -> dict:
    """Of a checkpoint, how far it is: `step`, `seconds` and what else the run noted."""
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["state"])


def amend(path: Path, changes: dict, ema: dict[str, Tensor]) -> None:
    """Change numbers of a checkpoint's state and some averaged weights. All else stays."""
    with safe_open(path, "pt") as file:
        held = json.loads(file.metadata()["state"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}
    _write(path, tensors | {f"ema/{key}": value for key, value in ema.items()}, held | changes)


def resume(path: Path, networks: Parts, generator: torch.Generator) -> tuple[dict[str, Tensor], dict]:
    """Put the raw weights and the generator's state of a checkpoint back; returns the averaged weights and
    the state."""
    ema, raw, held, generator_state = load(path)
    networks.load_state_dict(ema | raw)
    generator.set_state(generator_state)
    return ema, held
