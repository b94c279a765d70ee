"""Nodes that only the graph tests' server has: SDXL with a tenth of its channels and random weights, in the
host's own classes.

The host's loaders know SDXL by its widths, so a narrow one cannot come out of a file.
"""

import comfy.cldm.cldm
import comfy.controlnet
import comfy.model_management as management
import comfy.model_patcher
import comfy.ops
import comfy.sd
import comfy.supported_models
import torch

UNET = {
    "image_size": 32, "in_channels": 4, "model_channels": 32, "num_res_blocks": [2, 2, 2], "channel_mult": [1,
    2, 4],
    "transformer_depth": [0, 0, 2, 2, 10, 10], "transformer_depth_middle": 10, "context_dim": 2048,
    "adm_in_channels": 2816,
    "num_classes": "sequential", "use_spatial_transformer": True, "use_linear_in_transformer": True,
    "legacy": False, "use_temporal_attention": False,
}  # fmt: skip
OUTPUT_DEPTH = [0, 0, 0, 2, 2, 2, 10, 10, 10]
HEADS = {"num_heads": 2, "num_head_channels": -1}
VAE = {
    "double_z": True, "z_channels": 4, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": 32,
    "ch_mult": [1, 1, 2, 2],
    "num_res_blocks": 2, "attn_resolutions": [], "dropout": 0.0,
}  # fmt: skip


TEXT = {"num_hidden_layers": 3, "intermediate_size": 64, "num_attention_heads": 2}
"""SDXL's text encoders with three layers: their widths are what the UNet's are made for."""


class NarrowSDXL(comfy.supported_models.SDXL):
    unet_extra_config = HEADS


def randomise(network: torch.nn.Module, seed: int) -> None:
    """Give every parameter a random value that is not zero and keeps activations near 1."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in network.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim >= 2:
            value = 0.7 * noise / parameter[0].numel() ** 0.5
        else:
            value = 1 + 0.1 * noise if name.endswith("weight") else 0.1 * noise
        parameter.data = value.to(parameter)


def narrow_clip(seed: int) -> comfy.sd.CLIP:
    """The host's CLIP for SDXL: its tokenizers, its two text models shallow and random."""
    options = {f"{name}_model_config": TEXT for name in ("clip_l", "clip_g")}
    clip = comfy.sd.CLIP(NarrowSDXL({}).clip_target(), model_options=options)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in clip.cond_stage_model.named_parameters():
        # Not one by one: the table of 49408 words alone would take longer than a test.
        noise = (
            torch.randn(min(len(parameter), 1021), *parameter.shape[1:], generator=generator)
            if parameter.ndim == 2
            else None
        )
        if noise is not None:
            parameter.data = noise[torch.arange(len(parameter)) % len(noise)] / (
                1 if "embedding" in name else parameter.shape[1] ** 0.5
            )
        elif parameter.ndim == 1:
            parameter.data = torch.full_like(parameter, float(name.endswith("weight")))
    return clip


class LoadNarrowSDXL:
    RETURN_TYPES, FUNCTION, CATEGORY = ("MODEL", "VAE"), "load", "tests"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"seed": ("INT", {"default": 0})}}

    def load(self, seed):
        config = NarrowSDXL({**UNET, "out_channels": 4, "transformer_depth_output": list(OUTPUT_DEPTH)})
        config.set_inference_dtype(torch.float32, None)
        model = config.get_model({})
        randomise(model.diffusion_model, seed)
        vae = comfy.sd.VAE(sd={}, config={"params": {"ddconfig": VAE, "embed_dim": 4}})
        randomise(vae.first_stage_model, seed + 1)
        return comfy.model_patcher.CoreModelPatcher(
            model, management.get_torch_device(), management.unet_offload_device()
        ), vae


class LoadNarrowCLIP:
    RETURN_TYPES, FUNCTION, CATEGORY = ("CLIP",), "load", "tests"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"seed": ("INT", {"default": 0})}}

    def load(self, seed):
        return (narrow_clip(seed),)


class LoadNarrowControlNet:
    RETURN_TYPES, FUNCTION, CATEGORY = ("CONTROL_NET",), "load", "tests"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"seed": ("INT", {"default": 0})}}

    def load(self, seed):
        network = comfy.cldm.cldm.ControlNet(
            **UNET, **HEADS, hint_channels=3, operations=comfy.ops.manual_cast, dtype=torch.float32
        )
        randomise(network, seed)
        return (comfy.controlnet.ControlNet(network, load_device=management.get_torch_device()),)


class NarrowPrompt:
    """What two text encoders would have said: SDXL's widths, random words."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("CONDITIONING",), "say", "tests"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"seed": ("INT", {"default": 0})}}

    def say(self, seed):
        generator = torch.Generator().manual_seed(seed)
        tokens, pooled = (
            torch.randn(1, 77, 2048, generator=generator),
            torch.randn(1, 1280, generator=generator),
        )
        return ([[tokens, {"pooled_output": pooled}]],)


NODE_CLASS_MAPPINGS = {
    "AIORTest_LoadNarrowSDXL": LoadNarrowSDXL,
    "AIORTest_LoadNarrowCLIP": LoadNarrowCLIP,
    "AIORTest_LoadNarrowControlNet": LoadNarrowControlNet,
    "AIORTest_NarrowPrompt": NarrowPrompt,
}
