"""Checks that a MODEL is sampled as it was trained.

Nodes such as ModelSamplingDiscrete replace how ComfyUI reads a model: which time it gets for a noise level,
and what its output means. On a model that was trained otherwise nothing fails, but the result is useless.
"""

from __future__ import annotations

import comfy.model_base
import torch
from comfy.model_patcher import ModelPatcher

from ..pipeline.sampling_convention import other_units, read_otherwise
from .compact_model import CompactModel

PERCENTS = (0.1, 0.5, 0.9)
"""Positions in the schedule at which the reading in use is compared with the trained one."""


def require_trained_sampling(model: ModelPatcher) -> None:
    """Raise ValueError if a patch makes ComfyUI read MODEL in another way than it was trained.

    The compact model is a rectified flow whose time is 1000 sigma. A shift of its schedule changes neither,
    and is allowed. Of an SDXL model only the units of time are known: whether it predicts noise, v or a flow
    depends on its weights, and patches exist that declare it.
    """
    now = model.get_model_object("model_sampling")
    trained = comfy.model_base.model_sampling(model.model.model_config, model.model.model_type)
    compact = isinstance(model.model.model_config, CompactModel)
    sigmas = [torch.tensor([float(trained.percent_to_sigma(percent))]) for percent in PERCENTS]
    told_in_other_units = any(other_units(now, trained, sigma) for sigma in sigmas)
    if told_in_other_units or compact and any(read_otherwise(now, trained, sigma) for sigma in sigmas):
        kind = " with ".join(part.__name__ for part in type(now).__bases__)
        advice = (
            "ModelSamplingSD3, with any shift, is right for it."
            if compact
            else "Connect the MODEL without it."
        )
        raise ValueError(
            f"a node before the sampler has changed how this MODEL is sampled ({kind}) to something that it "
            "was not "
            "trained for: the result would be rubbish. Take that node out: ModelSamplingDiscrete, "
            "ModelSamplingFlux, "
            f"ModelSamplingStableCascade or one like them. {advice}"
        )


def trained_sampling_only(executor, model: ModelPatcher, *args, **kwargs):
    """A PREPARE_SAMPLING wrapper: it checks MODEL when the sampler starts, because patches can come after
    DAFF."""
    require_trained_sampling(model)
    return executor(model, *args, **kwargs)
