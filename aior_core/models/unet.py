"""The compact denoiser, which is ComfyUI's `UNetModel` (docs/method.md, section 6)."""

from __future__ import annotations

from typing import Any

from .config import UNetConfig


def unet_parameters(config: UNetConfig) -> dict[str, Any]:
    """Keyword arguments of `comfy.ldm.modules.diffusionmodules.openaimodel.UNetModel`.

    One residual block per level, cross-attention to the degradation tokens at every level but the first.
    """
    depth = [0] + [1] * (len(config.channel_mult) - 1)
    return {
        "image_size": 32,
        "in_channels": config.in_channels,
        "out_channels": config.in_channels,
        "model_channels": config.model_channels,
        "num_res_blocks": [1] * len(config.channel_mult),
        "channel_mult": list(config.channel_mult),
        "num_head_channels": config.head_channels,
        "use_spatial_transformer": True,
        "use_linear_in_transformer": True,
        "context_dim": config.context_dim,
        "transformer_depth": depth,
        "transformer_depth_output": [d for d in depth for _ in range(2)],
        "transformer_depth_middle": 1,
        "legacy": False,
    }


def unet_config(parameters: dict[str, Any]) -> UNetConfig:
    """The inverse of `unet_parameters`; other keyword arguments are ignored."""
    return UNetConfig(
        in_channels=parameters["in_channels"],
        model_channels=parameters["model_channels"],
        channel_mult=tuple(parameters["channel_mult"]),
        context_dim=parameters["context_dim"],
        head_channels=parameters["num_head_channels"],
    )
