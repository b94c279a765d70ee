"""Checkpoints: EMA and raw weights in fp16, the step, the time used and the generator's state."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from .networks import Networks


def save(path: Path, networks: Networks, ema: dict[str, Tensor], state: dict, generator: torch.Generator) -> None:
    """Write atomically: what was there before stays until the new file is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = networks.state_dict()
    tensors = {f"ema/{k}": _stored(ema.get(k, v)) for k, v in raw.items()}
    tensors |= {f"raw/{k}": _stored(raw[k]) for k in ema}
    tensors["generator"] = generator.get_state()
    part = path.with_suffix(".part")
    save_file(tensors, part, metadata={"state": json.dumps(state)})
    os.replace(part, path)


def _stored(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", torch.float16 if tensor.is_floating_point() else tensor.dtype).contiguous()


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Tensor], dict, Tensor]:
    """EMA weights (all networks), raw weights (what was trained), state, generator state; floats come back in fp32."""
    with safe_open(path, "pt") as file:
        state = json.loads(file.metadata()["state"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}
    generator = tensors.pop("generator")
    tensors = {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}
    ema, raw = ({k.removeprefix(p): v for k, v in tensors.items() if k.startswith(p)} for p in ("ema/", "raw/"))
    return ema, raw, state, generator


def is_checkpoint(path: Path) -> bool:
    """Whether a safetensors file is a checkpoint, not weights as they ship."""
    with safe_open(path, "pt") as file:
        return "generator" in file.keys()


def state(path: Path) -> dict:
    """Of a checkpoint, how far it is: `step`, `seconds`."""
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["state"])


def resume(path: Path, networks: Networks, generator: torch.Generator) -> tuple[dict[str, Tensor], dict]:
    """Put the raw weights and the generator's state of a checkpoint back; returns the averaged weights and the state."""
    ema, raw, held, generator_state = load(path)
    networks.load_state_dict(ema | raw)
    generator.set_state(generator_state)
    return ema, held
