"""Patches that change how a MODEL is sampled are refused, before and after Apply DAFF; schedules are not."""

import pytest
import torch
from aior_pack.tests.tiny import ksampler, picture
from aior_pack.tests.unit.test_sdxl import model as sdxl_model
from aior_pack.tests.unit.test_sdxl import prior as sdxl_prior
from aior_pack.tests.unit.test_sdxl import prompts
from aior_pack.tests.unit.test_sdxl import restorer as restorer
from aior_pack.tests.unit.test_sdxl import vae as vae

__all__ = ["prompts", "restorer", "sdxl_model", "sdxl_prior", "vae"]
pytestmark = pytest.mark.usefixtures("host")

RUBBISH = [
    ("ModelSamplingDiscrete", {"sampling": "eps", "zsnr": False}),
    ("ModelSamplingDiscrete", {"sampling": "v_prediction", "zsnr": True}),
    ("ModelSamplingDiscrete", {"sampling": "lcm", "zsnr": False}),
    ("ModelSamplingStableCascade", {"shift": 2.0}),
    ("ModelSamplingContinuousEDM", {"sampling": "edm", "sigma_max": 120.0, "sigma_min": 0.002}),
    ("ModelSamplingContinuousV", {"sampling": "v_prediction", "sigma_max": 500.0, "sigma_min": 0.03}),
    ("ModelSamplingAuraFlow", {"shift": 1.73}),
    ("ModelSamplingFlux", {"max_shift": 1.15, "base_shift": 0.5, "width": 1024, "height": 1024}),
]
RIGHT = [("ModelSamplingSD3", {"shift": shift}) for shift in (0.5, 1.0, 3.0)] + [
    ("RescaleCFG", {"multiplier": 0.7})
]


def patched(model, name, inputs):
    """What the host's own node makes of MODEL."""
    from comfy_extras import nodes_model_advanced as nodes

    node = nodes.NODE_CLASS_MAPPINGS[name]()
    return getattr(node, node.FUNCTION)(model, **inputs)[0]


@pytest.mark.parametrize("name, inputs", RUBBISH)
def test_rubbish_is_refused_before_daff_and_after(walk, name, inputs):
    from aior_pack.aior_core.host.daff_patch import apply_daff
    from aior_pack.aior_core.host.sampling import sample_daff

    prior = walk.encode(picture(64, 64))
    before = patched(walk.model, name, inputs)
    for run in (apply_daff, sample_daff):
        with pytest.raises(ValueError, match="changed how this MODEL is sampled .*not trained for"):
            run(before, walk.restorer, prior)
    model, positive, negative = walk.patch(prior)
    with pytest.raises(ValueError, match="changed how this MODEL is sampled .*not trained for"):
        ksampler(patched(model, name, inputs), positive, negative, prior.latent, steps=1)
    assert torch.isfinite(ksampler(model, positive, negative, prior.latent, steps=1)).all()


@pytest.mark.parametrize("name, inputs", RIGHT)
def test_another_schedule_of_the_same_flow_goes(walk, name, inputs):
    prior = walk.encode(picture(64, 64))
    model, positive, negative = walk.patch(prior)
    after = ksampler(patched(model, name, inputs), positive, negative, prior.latent, steps=2)
    from aior_pack.aior_core.host.sampling import sample_daff

    before = sample_daff(patched(walk.model, name, inputs), walk.restorer, prior, steps=2)["samples"]
    assert torch.isfinite(after).all() and torch.isfinite(before).all()


SDXL = {
    "ModelSamplingDiscrete": ({"sampling": "v_prediction", "zsnr": True}, True),
    "ModelSamplingSD3": ({"shift": 3.0}, True),
    "ModelSamplingStableCascade": ({"shift": 2.0}, False), "ModelSamplingFlux": (RUBBISH[-1][1], False),
    "ModelSamplingContinuousEDM": (RUBBISH[4][1], False),
}  # fmt: skip


@pytest.mark.parametrize("name", SDXL)
def test_of_sdxl_only_the_units_of_time_are_known(sdxl_model, restorer, sdxl_prior, prompts, name):
    from aior_pack.aior_core.host.daff_patch import apply_daff

    inputs, right = SDXL[name]
    model = patched(sdxl_model, name, inputs)
    if right:
        apply_daff(model, restorer, sdxl_prior, *prompts)
    else:
        with pytest.raises(ValueError, match="not trained for.*Connect the MODEL without it"):
            apply_daff(model, restorer, sdxl_prior, *prompts)
