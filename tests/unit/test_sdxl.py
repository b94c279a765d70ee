"""The walk at the scale of SDXL: ComfyUI's own SDXL class and KL autoencoder, narrow, with random weights."""

import dataclasses

import pytest
import torch
from aior_pack.aior_core.models.config import DAEMConfig, DAFFConfig, PriorConfig, RestorerConfig
from aior_pack.aior_core.models.family import SDXL
from aior_pack.aior_core.models.lq_encoder import KLTrunk
from aior_pack.tests.tiny import picture, randomised, restorer_state

pytestmark = pytest.mark.usefixtures("host")

WIDTHS = (32, 32, 64, 64)
CONFIG = RestorerConfig(
    family=SDXL,
    prior=PriorConfig(
        kind="kl", plain=(), widths=WIDTHS, blocks=(1, 1, 1, 1), head_width=16, context_width=24
    ),
    daff=DAFFConfig(
        mode="official",
        unet_width=32,
        condition_width=64,
        width=64,
        heads=2,
        mlp_ratio=4.0,
        patch=1,
        condition_norm="group",
    ),
    daem=DAEMConfig(
        decoder_widths=WIDTHS, skip_widths=WIDTHS, widths=(16, 16, 32, 32), prior_width=64, context_width=12
    ),
)


@pytest.fixture(scope="module")
def restorer():
    from aior_pack.aior_core.host.restorer import build_restorer

    return build_restorer(restorer_state(CONFIG), CONFIG, "narrow.safetensors")


@pytest.fixture(scope="module")
def vae():
    import comfy.sd

    config = {
        "double_z": True,
        "z_channels": 4,
        "resolution": 256,
        "in_channels": 3,
        "out_ch": 3,
        "ch": 32,
        "ch_mult": [1, 1, 2, 2],
        "num_res_blocks": 1,
        "attn_resolutions": [],
        "dropout": 0.0,
    }
    narrow = comfy.sd.VAE(sd={}, config={"params": {"ddconfig": config, "embed_dim": 4}})
    randomised(narrow.first_stage_model)
    return narrow


@pytest.fixture(scope="module")
def model():
    import comfy.model_management as management
    import comfy.model_patcher
    import comfy.supported_models

    class Narrow(comfy.supported_models.SDXL):
        unet_extra_config = {"num_heads": 2, "num_head_channels": -1}

    config = Narrow(
        {
            "image_size": 32,
            "in_channels": 4,
            "out_channels": 4,
            "model_channels": 32,
            "num_res_blocks": [1, 1],
            "channel_mult": [1, 2],
            "transformer_depth": [0, 1],
            "transformer_depth_output": [0, 0, 1, 1],
            "transformer_depth_middle": 1,
            "context_dim": 64,
            "adm_in_channels": 2816,
            "num_classes": "sequential",
            "use_spatial_transformer": True,
            "use_linear_in_transformer": True,
            "legacy": False,
        }
    )
    config.set_inference_dtype(torch.float32, None)
    network = config.get_model({})
    randomised(network.diffusion_model)
    return comfy.model_patcher.CoreModelPatcher(
        network, management.get_torch_device(), management.unet_offload_device()
    )


@pytest.fixture
def prompts():
    generator = torch.Generator().manual_seed(0)
    return [
        [
            [
                torch.randn(1, 7, 64, generator=generator),
                {"pooled_output": torch.randn(1, 1280, generator=generator)},
            ]
        ]
        for _ in range(2)
    ]


@pytest.fixture
def prior(restorer, vae):
    from aior_pack.aior_core.host.prior_encode import encode_prior

    return encode_prior(restorer, vae, picture(60, 90))


def test_the_lq_encoder_is_the_kl_encoder_without_its_head(vae):
    encoder = vae.first_stage_model.encoder
    trunk = KLTrunk(WIDTHS, (1, 1, 1, 1))
    state = {
        key: value
        for key, value in encoder.state_dict().items()
        if not key.startswith(("norm_out", "conv_out"))
    }
    trunk.load_state_dict(state)
    seen = []
    handle = encoder.norm_out.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    image = picture(64, 64).movedim(-1, 1)
    encoder(image)
    handle.remove()
    assert torch.allclose(trunk(image)[-1], seen[0], atol=1e-4)


def test_strength_zero_is_the_unpatched_sdxl_and_one_is_not(model, restorer, prior, prompts):
    import comfy.sample
    from aior_pack.aior_core.host.daff_patch import apply_daff

    def run(model, positive, negative):
        noise = comfy.sample.prepare_noise(prior.latent, 0)
        args = (model, noise, 3, 4.0, "euler", "normal", positive, negative, torch.zeros_like(noise))
        return comfy.sample.sample(*args, seed=0, disable_pbar=True)

    expected = run(model, *prompts)
    assert torch.equal(run(*apply_daff(model, restorer, prior, *prompts, strength=0.0)), expected)
    assert not torch.allclose(run(*apply_daff(model, restorer, prior, *prompts)), expected, atol=1e-3)


def test_daff_gets_the_timestep_of_the_schedule(model, restorer, prior, prompts):
    from aior_pack.aior_core.host.sampling import sample_daff

    seen = []
    handle = restorer.daff.model.register_forward_pre_hook(
        lambda module, args: seen.append(args[2][0].item())
    )
    sample_daff(model, restorer, prior, *prompts, steps=20, scheduler="ddim_uniform")
    handle.remove()
    # ddim_uniform with 20 steps is the official Euler schedule (docs/method.md 8.4).
    assert seen[0] == 951 and seen[1] == 901 and seen[-1] == 1


def test_sdxl_needs_its_prompts(model, restorer, prior):
    from aior_pack.aior_core.host.daff_patch import apply_daff

    with pytest.raises(
        ValueError, match="(?s)needs positive and negative, or clip.*CLIP Text Encode.*checkpoint's CLIP"
    ):
        apply_daff(model, restorer, prior)


def test_the_kl_walk_is_the_kl_decoder(vae):
    from aior_pack.aior_core.models.autoencoder import finish
    from aior_pack.aior_core.models.decoder_stages import walk_of

    latent = torch.randn(1, 4, 6, 5, generator=torch.Generator().manual_seed(0))
    stops = []
    _, decoded = finish(
        walk_of(vae.first_stage_model, latent),
        lambda level, h: stops.append((level, tuple(h.shape[1:]))) or h,
    )
    assert torch.equal(decoded, vae.first_stage_model.decode(latent))
    assert stops == [(3, (64, 6, 5)), (2, (64, 12, 10)), (1, (32, 24, 20)), (0, (32, 48, 40))]


def test_decoding_without_daem_is_the_stock_decoder(vae, restorer, prior):
    from aior_pack.aior_core.host.daem_decode import decode_daem

    latent = {"samples": prior.latent}
    expected = vae.decode(prior.latent)[:, :60, :90]
    bare = dataclasses.replace(restorer, daem=None)
    assert (decode_daem(latent, vae, bare, prior) - expected).abs().max() < 1e-6
    assert (decode_daem(latent, vae, restorer, prior, strength=0.0) - expected).abs().max() < 1e-6
    restored = decode_daem(latent, vae, restorer, prior)
    assert restored.shape == (1, 60, 90, 3) and (restored - expected).abs().max() > 1e-2


def test_steering_reaches_daem_and_leaves_the_prompts_alone(model, vae, restorer, prior, prompts):
    from aior_pack.aior_core.host.daem_decode import decode_daem
    from aior_pack.aior_core.host.daff_patch import apply_daff
    from aior_pack.aior_core.pipeline.steer import steer_prior

    steered, latent = steer_prior(prior, {"noise": 0.0}), {"samples": prior.latent}
    assert torch.equal(apply_daff(model, restorer, steered, *prompts)[1][0][0], prompts[0][0][0])
    assert not torch.equal(
        decode_daem(latent, vae, restorer, steered), decode_daem(latent, vae, restorer, prior)
    )
    bare = dataclasses.replace(restorer, daem=None)
    with pytest.raises(ValueError, match="^the prior is steered.*no DAEM"):
        apply_daff(model, bare, steered, *prompts)
    with pytest.raises(ValueError, match="^the prior is steered.*no DAEM"):
        decode_daem(latent, vae, bare, steered)


def test_tiles_of_the_kl_decoder_stay_near_the_whole(vae, restorer):
    from aior_pack.aior_core.host.daem_decode import decode_daem
    from aior_pack.aior_core.host.prior_encode import encode_prior

    prior = encode_prior(restorer, vae, picture(192, 256))
    latent = {"samples": prior.latent}
    whole = decode_daem(latent, vae, restorer, prior, strength=0.0)
    assert (decode_daem(latent, vae, restorer, prior, strength=0.0, tile=128) - whole).abs().mean() < 0.05


def test_the_wrong_vae_is_named(vae, tiny_file):
    from aior_pack.aior_core.host.compact_model import load_compact
    from aior_pack.aior_core.host.daff_patch import apply_daff
    from aior_pack.aior_core.host.prior_encode import encode_prior

    compact, compact_vae, compact_restorer = load_compact(tiny_file)
    with pytest.raises(ValueError, match="needs the VAE of Load AIOR Compact"):
        encode_prior(compact_restorer, vae, picture(64, 64))
    prior = encode_prior(compact_restorer, compact_vae, picture(64, 64))
    with pytest.raises(ValueError, match="(?s)family sdxl.*MODEL of an SDXL checkpoint"):
        apply_daff(compact, _sdxl_restorer_of_same_width(compact_restorer), prior)


def _sdxl_restorer_of_same_width(restorer):
    return dataclasses.replace(restorer, config=dataclasses.replace(restorer.config, family=SDXL))


def test_lq_official_starts_where_unildiffs_code_does(model, restorer, prior, prompts, monkeypatch):
    import comfy.k_diffusion.sampling
    import comfy.sample
    from aior_pack.aior_core.host.sampling import sample_daff

    class Started(Exception):
        pass

    def start(model, x, sigmas, **kwargs):
        raise Started(x, sigmas)

    monkeypatch.setattr(comfy.k_diffusion.sampling, "sample_euler", start)
    with pytest.raises(Started) as started:
        sample_daff(
            model, restorer, prior, *prompts, seed=3, steps=20, scheduler="ddim_uniform", start="lq_official"
        )
    x, sigmas = started.value.args
    eps, z = comfy.sample.prepare_noise(prior.latent, 3), 0.13025 * prior.latent
    # The numbers of docs/method.md 8.4.
    assert abs(float(sigmas[0]) - 11.0283) < 1e-3
    assert torch.allclose(x, 0.06826 * z + 0.99767 * 11.0736 * eps, rtol=1e-4, atol=1e-3)
    with pytest.raises(Started) as started:
        sample_daff(
            model, restorer, prior, *prompts, seed=3, steps=20, scheduler="normal", start="lq_official"
        )
    x, sigmas = started.value.args
    assert abs(float(sigmas[0]) - 14.6146) < 1e-3
    assert torch.allclose(x, 0.06826 * z + 0.99767 * (14.6146**2 + 1) ** 0.5 * eps, rtol=1e-4, atol=1e-3)
    with pytest.raises(ValueError, match="lq_official is for SDXL"):
        sample_daff(model, restorer, prior, *prompts, start="lq_official", denoise=0.5)


def test_a_unet_under_diffusers_names_is_put_under_the_hosts(model):
    import comfy.utils
    from aior_pack.aior_core.host.unet_file import host_names

    state = model.model.diffusion_model.state_dict()
    config = {
        "num_res_blocks": [1, 1],
        "channel_mult": [1, 2],
        "transformer_depth": [0, 1],
        "transformer_depth_output": [0, 0, 1, 1],
    }
    names = comfy.utils.unet_to_diffusers({**config, "transformer_depth_middle": 1})
    published = {theirs: state[ours] for theirs, ours in names.items() if ours in state}
    converted = host_names(published, "narrow.bin")
    assert converted.keys() == state.keys() and all(torch.equal(converted[key], state[key]) for key in state)
    with pytest.raises(ValueError, match="narrow.bin.*down_blocks.7.resnets.0.foo"):
        host_names(published | {"down_blocks.7.resnets.0.foo": torch.ones(1)}, "narrow.bin")


def test_a_whole_sdxl_unet_is_recognised():
    """On the meta device: the names and shapes of the real thing, without its 2.6 billion numbers."""
    import comfy.model_detection
    import comfy.ops
    import comfy.supported_models
    import comfy.utils
    from aior_pack.aior_core.host import unet_file
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    config = comfy.supported_models.SDXL.unet_config | {
        "image_size": 32, "in_channels": 4, "out_channels": 4, "num_res_blocks": [2, 2, 2],
        "channel_mult": [1, 2, 4], "num_heads": -1,
        "num_head_channels": 64, "transformer_depth_middle": 10, "transformer_depth_output": [0, 0, 0, 2, 2,
        2, 10, 10, 10],
        "num_classes": "sequential", "use_spatial_transformer": True, "legacy": False,
    }  # fmt: skip
    with torch.device("meta"):
        network = UNetModel(**config, operations=comfy.ops.disable_weight_init, device="meta")
    state = network.state_dict()
    assert round(sum(value.numel() for value in state.values()) / 1e6, 2) == 2567.46
    # The host knows two names for SDXL's embedding of sizes; its checkpoints use this one.
    names = {
        theirs: ours
        for theirs, ours in comfy.utils.unet_to_diffusers(config).items()
        if not theirs.startswith("class_embedding")
    }
    published = {theirs: state[ours] for theirs, ours in names.items() if ours in state}
    assert len(published) == len(state)
    converted = unet_file.host_names(published, "whole.bin")
    assert {key: value.shape for key, value in converted.items()} == {
        key: value.shape for key, value in state.items()
    }
    assert type(comfy.model_detection.model_config_from_unet(converted, "")).__name__ == "SDXL"


def test_a_restorer_alone_holds_no_unet(tmp_path):
    from aior_pack.aior_core.host.unet_file import load_unet
    from safetensors.torch import save_file

    save_file({"denoise_encoder.conv_in.weight": torch.ones(1)} | _stubs(), tmp_path / "alone.safetensors")
    with pytest.raises(ValueError, match="alone.safetensors holds no UNet.*Load Checkpoint"):
        load_unet(tmp_path / "alone.safetensors")


def _stubs() -> dict[str, torch.Tensor]:
    names = (
        "condition_embedding.conv_in.bias",
        "information_transformer_layers.latent_in.bias",
        "spatial_ch_projs.bias",
    )
    return {name: torch.ones(1) for name in names}


def test_looking_inside_an_sdxl_restoration(model, vae, restorer, prior, prompts):
    from aior_pack.aior_core.host.daem_decode import decode_daem
    from aior_pack.aior_core.host.diagnostics import look_inside
    from aior_pack.aior_core.host.sampling import sample_daff

    inside = look_inside(model, vae, restorer, prior, *prompts, seed=3, steps=2, cfg=4.0)
    latent = sample_daff(model, restorer, prior, *prompts, seed=3, steps=2, cfg=4.0)
    assert (
        torch.equal(inside.image, decode_daem(latent, vae, restorer, prior)) and min(inside.influence[0]) > 0
    )
    assert all(
        (level.votes.mean(dim=(2, 3)).softmax(dim=1) - level.weights).abs().max() < 1e-4
        for level in inside.levels
    )
