"""The denoiser in windows: `pipeline.windows` put on a MODEL, as many windows at a time as memory allows."""

from __future__ import annotations

from collections.abc import Callable

import comfy.model_management as management
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP

from ..pipeline.windows import WindowedDenoiser
from .memory import available

KEY = "aior_tiles"
MINIMUM = 16
"""Latent pixels of the smallest window."""
AT_ONCE = 8
"""The most windows or frames that go through the denoiser together."""


def with_windows(
    model: ModelPatcher, window: int, shape: torch.Size, tick: Callable[[float], None] | None = None
) -> ModelPatcher:
    """A clone of MODEL whose denoiser gets at most `window` latent pixels a side of a latent of `shape`, `B C
    h w`.

    Call it before DAFF is applied. tick: see `WindowedDenoiser`.
    """
    model = model.clone()
    window = max(window, MINIMUM)
    wrapper = WindowedDenoiser(window, window // 4, _at_once(model, window, shape), tick)
    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, KEY, wrapper)
    model.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, KEY, wrapper.estimate)
    return model


def _at_once(model: ModelPatcher, window: int, shape: torch.Size) -> int:
    """How many windows go through the denoiser together: one on a CPU, whose threads it keeps busy; elsewhere
    as many as fit."""
    device = model.load_device
    if management.is_device_cpu(device):
        return 1
    one = [2, shape[1], *(min(side, window) for side in shape[-2:])]
    return max(1, min(AT_ONCE, int(0.5 * available(device) / model.memory_required(one))))
