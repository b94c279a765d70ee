"""The conditioning of SDXL where positive and negative are open: the empty text, as ComfyUI encodes it."""

import pytest
import torch
from aior_pack.tests.unit.test_sdxl import model, prior, prompts, restorer, vae  # noqa: F401  fixtures

pytestmark = pytest.mark.usefixtures("host")


@pytest.fixture(scope="module")
def clip():
    import comfy.model_patcher  # noqa: F401  the host's modules import each other in this order
    from aior_pack.tests.graph.host_nodes.aior_test_sdxl import narrow_clip

    return narrow_clip(0)


@pytest.fixture(scope="module")
def listening(model):  # noqa: F811
    """The narrow SDXL with ears of SDXL's width: 2048 numbers a word."""
    import comfy.model_management as management
    import comfy.model_patcher
    from aior_pack.tests.tiny import randomised

    config = type(model.model.model_config)({**model.model.model_config.unet_config, "context_dim": 2048})
    config.set_inference_dtype(torch.float32, None)
    network = config.get_model({})
    randomised(network.diffusion_model)
    return comfy.model_patcher.CoreModelPatcher(
        network, management.get_torch_device(), management.unet_offload_device()
    )


def encoded(clip, text):
    from nodes import CLIPTextEncode

    return CLIPTextEncode().encode(clip, text)[0]


def test_what_is_open_is_the_empty_text(listening, restorer, prior, clip):  # noqa: F811
    from aior_pack.aior_core.host.daff_patch import apply_daff

    nothing, words = encoded(clip, ""), encoded(clip, "a grey cat")
    assert nothing[0][0].shape == (1, 77, 2048) and (nothing[0][0] - words[0][0]).abs().max() > 0.1
    for given in ({}, {"positive": words}, {"negative": words}):
        conds = dict(
            zip(("positive", "negative"), apply_daff(listening, restorer, prior, **given, clip=clip)[1:])
        )
        for side, cond in conds.items():
            expected = given.get(side, nothing)
            assert torch.equal(cond[0][0], expected[0][0])
            assert torch.equal(cond[0][1]["pooled_output"], expected[0][1]["pooled_output"])
            assert cond[0][1].keys() - {"model_conds"} == expected[0][1].keys()


@pytest.mark.parametrize("given", [(), ("positive",), ("negative",)])
def test_sampling_with_clip_uses_the_host_s_empty_text(listening, restorer, prior, clip, given):  # noqa: F811
    from aior_pack.aior_core.host.sampling import sample_daff

    words = {side: encoded(clip, "a grey cat") for side in given}
    options = {"steps": 2, "cfg": 5.0, "scheduler": "ddim_uniform", "seed": 1}
    spelt_out = {"positive": encoded(clip, ""), "negative": encoded(clip, "")} | words
    expected = sample_daff(listening, restorer, prior, **spelt_out, **options)["samples"]
    assert torch.equal(
        sample_daff(listening, restorer, prior, **words, clip=clip, **options)["samples"], expected
    )


def test_clip_is_not_asked_where_both_are_given(model, restorer, prior, prompts, clip):  # noqa: F811
    """It would be refused by this MODEL, which listens to 64 numbers a word."""
    from aior_pack.aior_core.host.daff_patch import apply_daff

    assert torch.equal(apply_daff(model, restorer, prior, *prompts, clip=clip)[1][0][0], prompts[0][0][0])
    with pytest.raises(
        ValueError, match="(?s)^clip says 2048 numbers a word, this MODEL listens to 64.*own checkpoint"
    ):
        apply_daff(model, restorer, prior, prompts[0], clip=clip)


def test_the_compact_model_takes_its_tokens_whatever_clip_says(walk, clip):
    from aior_pack.tests.tiny import picture

    prior = walk.encode(picture(48, 48))  # noqa: F811
    plain, with_clip = (walk.patch(prior, **options)[1:] for options in ({}, {"clip": clip}))
    assert all(torch.equal(a[0][0], b[0][0]) for a, b in zip(plain, with_clip))
