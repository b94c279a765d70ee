"""FaithDiff's aligner (unildiff.md 4.3): another fusion in DAFF's place, and what of its weights can have an effect.

It feeds its attention tokens the wrong way round, so that each attends over the batch: at inference over the two identical rows of
CFG, which is the value projection alone. Queries and keys decide nothing and are left out.
"""

from __future__ import annotations

import re

import torch
from torch import Tensor

ALIGNER = "aligner"
_KEY = re.compile(r"(\d+)\.(.+)")
_NAMES = {
    "ln_1.weight": "ln_1.weight",
    "ln_1.bias": "ln_1.bias",
    "ln_2.weight": "ln_2.weight",
    "ln_2.bias": "ln_2.bias",
    "attn.out_proj.weight": "out_proj.weight",
    "attn.out_proj.bias": "out_proj.bias",
    "mlp.c_fc.weight": "c_fc.weight",
    "mlp.c_fc.bias": "c_fc.bias",
    "mlp.c_proj.weight": "c_proj.weight",
    "mlp.c_proj.bias": "c_proj.bias",
}
_VALUES = {"attn.in_proj_weight": "value.weight", "attn.in_proj_bias": "value.bias"}


def is_aligner(fusion: dict[str, Tensor]) -> bool:
    """Whether the fusion's keys, without their prefix, are the aligner's and not DAFF's."""
    return any(_KEY.fullmatch(key) for key in fusion)


def aligner_tensors(fusion: dict[str, Tensor]) -> dict[str, Tensor]:
    """The aligner's keys -> those of our `Aligner`. Raises ValueError for a key that it does not have, or a projection that is no three in one."""
    converted: dict[str, Tensor] = {}
    for key, value in fusion.items():
        match = _KEY.fullmatch(key)
        name = match and (_NAMES.get(match[2]) or _VALUES.get(match[2]))
        if not name:
            raise ValueError(
                f"FaithDiff's aligner has no {key!r}; expected {', '.join((*_NAMES, *_VALUES))} in each of its blocks."
            )
        if match[2] in _VALUES:
            if not value.ndim or len(value) % 3:
                raise ValueError(
                    f"{key} has {len(value) if value.ndim else 'no'} rows; expected queries, keys and values, three times as many as one of them."
                )
            value = torch.chunk(value, 3)[2].clone()
        converted[f"blocks.{match[1]}.{name}"] = value
    return converted
