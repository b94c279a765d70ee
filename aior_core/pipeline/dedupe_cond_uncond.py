"""Classifier-free guidance between two equal predictions changes nothing, so the denoiser runs once where
positive and negative are equal."""

from __future__ import annotations

from typing import Any

import torch

SAME = "aior_same_conds"


def dedupe_cond_uncond(executor, model, conds, x_in, timestep, model_options):
    """A CALC_COND_BATCH wrapper for ComfyUI: where positive and negative are equal, it predicts one of them
    and returns it for both."""
    if len(conds) != 2 or conds[0] is None or conds[1] is None:
        return executor(model, conds, x_in, timestep, model_options)
    # A comparison waits for the device, and most runs have the same conds in every step. The conds that were
    # compared last are
    # kept, so that no other object can take over their identity. Context windows make new conds, which are
    # compared again.
    positive, negative, same = model_options.get(SAME, (None, None, False))
    if positive is not conds[0] or negative is not conds[1]:
        same = equal(conds[0], conds[1])
        model_options[SAME] = (conds[0], conds[1], same)
    if not same:
        return executor(model, conds, x_in, timestep, model_options)
    first = executor(model, [conds[0], None], x_in, timestep, model_options)[0]
    # Two tensors, because a hook may change one of them in place.
    return [first, first.clone()]


def equal(a: Any, b: Any) -> bool:
    """Whether two of ComfyUI's processed conds are equal in value. Objects other than tensors, numbers, text
    and containers of these must be the same object."""
    if a is b:
        return True
    if torch.is_tensor(a):
        return (
            torch.is_tensor(b)
            and a.shape == b.shape
            and a.dtype == b.dtype
            and torch.equal(a, b.to(a.device))
        )
    if isinstance(a, dict):
        keys = a.keys() - {"uuid"}
        return (
            isinstance(b, dict) and keys == b.keys() - {"uuid"} and all(equal(a[key], b[key]) for key in keys)
        )
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b))
    if isinstance(a, (bool, int, float, str)):
        return type(a) is type(b) and a == b
    # ComfyUI's COND classes hold their value in `cond`.
    return type(a) is type(b) and hasattr(a, "cond") and vars(a).keys() == {"cond"} and equal(a.cond, b.cond)
