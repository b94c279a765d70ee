"""Where bfloat16 makes training faster."""

from __future__ import annotations

import torch
from torch import amp


def fast_dtype(device: str) -> torch.dtype:
    """The dtype to train in on `device` ("cpu" or "cuda"): bfloat16, or float32 without hardware for it.

    Processors without bfloat16 instructions compute it one number at a time: on an AVX2 processor
    convolutions were 10 to 50 times slower than in float32.
    """
    if device == "cuda":
        return torch.bfloat16
    supported = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if supported else torch.float32


def autocast(device: str) -> amp.autocast:
    """Autocast to bfloat16 where that is fast; elsewhere a context that does nothing."""
    return amp.autocast(device, dtype=torch.bfloat16, enabled=fast_dtype(device) == torch.bfloat16)
