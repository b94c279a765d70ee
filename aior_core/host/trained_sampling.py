"""Whether a MODEL is still sampled as it was trained: its noise levels told in the same units, its prediction taken for the same thing.

ModelSamplingDiscrete and its like replace how the host reads a model. On a model that was trained otherwise nothing fails: the result is rubbish.
"""

from __future__ import annotations

import comfy.model_base
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from .compact_model import CompactModel

PERCENTS = (0.1, 0.5, 0.9)
"""Parts of the schedule at which both readings are compared."""
TOLERANCE = 1e-3
OTHER_UNITS = 10.0
"""Times that differ by this factor are told in other units: no schedule that is meant for the same network moves them as far."""


def require_trained_sampling(model: ModelPatcher) -> None:
    """Raise ValueError if a patch on MODEL reads it otherwise than it was trained, as far as that can be known.

    The compact model is a rectified flow that is told sigma times 1000: any shift of its schedule is right, and nothing else. Of an SDXL model only the
    units of time can be known; whether it predicts noise, v or a flow depends on its weights, and such patches are meant for them.
    """
    now = model.get_model_object("model_sampling")
    own = comfy.model_base.model_sampling(model.model.model_config, model.model.model_type)
    compact = isinstance(model.model.model_config, CompactModel)
    sigmas = [own.percent_to_sigma(percent) for percent in PERCENTS]
    if any(_differs(now, own, torch.tensor([float(sigma)]), compact) for sigma in sigmas):
        kind = " with ".join(part.__name__ for part in type(now).__bases__)
        advice = "ModelSamplingSD3, with any shift, is right for it." if compact else "Connect the MODEL without it."
        raise ValueError(
            f"a node before the sampler has changed how this MODEL is sampled ({kind}) to something that it was not trained for: the result would be "
            f"rubbish. Take that node out: ModelSamplingDiscrete, ModelSamplingFlux, ModelSamplingStableCascade or one like them. {advice}"
        )


def trained_sampling_only(executor, model: ModelPatcher, *args, **kwargs):
    """A PREPARE_SAMPLING wrapper: `require_trained_sampling` of the MODEL as it is sampled, for patches that were put on after DAFF."""
    require_trained_sampling(model)
    return executor(model, *args, **kwargs)


def _differs(now: torch.nn.Module, own: torch.nn.Module, sigma: Tensor, exactly: bool) -> bool:
    """Whether the two read a noise level, or what is predicted at it, differently: exactly, or by the units of time alone."""
    times = [float(sampling.timestep(sigma)) for sampling in (now, own)]
    if not exactly:
        # From the upper half of the schedule: small times are near zero in all units.
        return OTHER_UNITS * abs(times[0]) < abs(times[1])
    if abs(times[0] - times[1]) > TOLERANCE * max(abs(times[1]), 1.0):
        return True
    generator = torch.Generator().manual_seed(0)
    x, predicted = torch.randn(2, 1, 1, 4, 4, generator=generator)
    # Not how noise is added: more or less of it (ModelNoiseScale) is a matter of taste.
    read = [(sampling.calculate_input(sigma, x.clone()), sampling.calculate_denoised(sigma, predicted.clone(), x.clone())) for sampling in (now, own)]
    return not all(torch.allclose(a, b, atol=TOLERANCE) for a, b in zip(*read))
