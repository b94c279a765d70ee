"""The compact MODEL, a rectified flow on the pack's own latents, and the loader of its file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import comfy.latent_formats
import comfy.model_management as management
import comfy.ops
import comfy.supported_models_base
import comfy.utils
import torch
from comfy.model_base import BaseModel, ModelType
from comfy.model_patcher import CoreModelPatcher, ModelPatcher
from torch import Tensor

from ..models.calibration import DEFAULT, Calibration
from ..models.config import CompactConfig, UNetConfig
from ..models.family import COMPACT
from ..models.unet import unet_parameters
from ..pipeline.preview import fit_preview, preview_colors
from ..weights import config_from, load_weights, on_meta, part, require_finite, require_fit
from ..weights.metadata import read_json
from .compact_unet import CompactUNet
from .restorer import NOTE, Restorer, build_restorer
from .vae import CompactVAE

SLIMMEST = 128
"""The highest ratio of a preview's sides. ComfyUI scales previews down, and one with a higher ratio can
end with no rows, which stops the whole server."""


def broadened(latent: Tensor) -> Tensor:
    """A latent `B C h w` for previews, whose sides have a ratio of at most `SLIMMEST`: rows or columns are
    repeated.
    """
    height, width = latent.shape[-2:]
    times = math.ceil(max(height, width) / (SLIMMEST * min(height, width)))
    return latent.repeat_interleave(times, dim=-2 if height < width else -1) if times > 1 else latent


class CompactLatent(comfy.latent_formats.LatentFormat):
    """ComfyUI's format of the NAF autoencoder's latents, which need no scaling: they have mean 0 and standard
    deviation 1.
    """

    latent_channels = 16
    spacial_downscale_ratio = COMPACT.latent_factor
    latent_rgb_factors_reshape = staticmethod(broadened)


def compact_latent(channels: int, factors: list[list[float]], bias: list[float]) -> type[CompactLatent]:
    """A latent format with colours for previews: factors `channels 3` and bias `3`, for pictures in -1..1."""
    return type(
        "CompactLatent",
        (CompactLatent,),
        {"latent_channels": channels, "latent_rgb_factors": factors, "latent_rgb_factors_bias": bias},
    )


class CompactModel(comfy.supported_models_base.BASE):
    """What ComfyUI needs to know of the compact denoiser.

    It is a rectified flow with v = noise - x0 and sigma in (0, 1]. Its timestep is 1000 * sigma.
    """

    unet_extra_config: dict[str, Any] = {}
    sampling_settings = {"shift": 1.0, "multiplier": 1000}
    latent_format = CompactLatent
    memory_usage_factor = Calibration.denoiser_memory
    supported_inference_dtypes = [torch.bfloat16, torch.float16, torch.float32]
    optimizations = {"fp8": False}

    def model_type(self, state_dict, prefix=""):
        return ModelType.FLOW

    def get_model(self, state_dict, prefix="", device=None):
        return BaseModel(
            self, model_type=self.model_type(state_dict, prefix), device=device, unet_model=CompactUNet
        )

    def inpaint_model(self):
        # ComfyUI takes a model with more than four latent channels for an inpainting model.
        return False


def build_model(
    state_dict: dict[str, Tensor],
    config: UNetConfig,
    latent_format: type[CompactLatent],
    calibration: Calibration = DEFAULT,
    *,
    disable_dynamic: bool = False,
) -> ModelPatcher:
    """A MODEL from the denoiser's state dict, with the keys of `UNetModel`. Raises ValueError for keys that
    do not fit.

    disable_dynamic: use a plain ModelPatcher, as ComfyUI asks for when it makes a full copy.
    """
    parameters = unet_parameters(config)
    # Checked before memory is allocated, so that a damaged file cannot ask for more than it holds.
    require_fit(
        state_dict,
        on_meta(lambda: CompactUNet(**parameters, operations=comfy.ops.disable_weight_init), "unet"),
        "unet",
    )
    model_config = CompactModel(parameters)
    model_config.latent_format = latent_format()
    model_config.memory_usage_factor = calibration.denoiser_memory
    device, dtypes = management.get_torch_device(), CompactModel.supported_inference_dtypes
    dtype = management.unet_dtype(
        model_params=comfy.utils.calculate_parameters(state_dict), supported_dtypes=dtypes
    )
    model_config.set_inference_dtype(dtype, management.unet_manual_cast(dtype, device, dtypes))
    offload = management.unet_offload_device()
    model = model_config.get_model(state_dict, device=offload)
    patcher = (ModelPatcher if disable_dynamic else CoreModelPatcher)(
        model, load_device=device, offload_device=offload
    )
    # ComfyUI's loader empties the dict that it gets. It only warns of wrong keys, which were checked above.
    model.load_model_weights(dict(state_dict), assign=patcher.is_dynamic())
    return patcher


def load_compact(path: str | Path) -> tuple[ModelPatcher, CompactVAE, Restorer]:
    """Load the compact model from its file, or any shard of it: MODEL, VAE and restorer.

    Raises ValueError or FileNotFoundError that says what is wrong with the file.
    """
    state_dict, metadata = load_weights(path)
    config = config_from(state_dict, metadata)
    if not isinstance(config, CompactConfig):
        raise ValueError(
            f"{Path(path).name} holds a restorer of the family {config.family.name} and no compact model. "
            "Load it with Load AIOR Restorer and take MODEL and VAE from their own loaders."
        )
    require_finite(state_dict, Path(path).name)
    vae = CompactVAE(part(state_dict, "vae"), config.autoencoder, config.restorer.calibration)
    factors, bias = _preview(metadata, config.autoencoder.latent_channels) or fit_preview(vae)
    latent_format = compact_latent(config.autoencoder.latent_channels, factors, bias)
    model = build_model(part(state_dict, "unet"), config.unet, latent_format, config.restorer.calibration)
    model.cached_patcher_init = (_reload_model, (path, latent_format))
    return model, vae, build_restorer(state_dict, config.restorer, Path(path).name, metadata.get(NOTE, ""))


def _reload_model(
    path: str | Path, latent_format: type[CompactLatent], disable_dynamic: bool = False
) -> ModelPatcher:
    """A second MODEL from the same file, for ComfyUI when it needs a full copy."""
    state_dict, metadata = load_weights(path)
    config = config_from(state_dict, metadata)
    if not isinstance(config, CompactConfig):
        raise ValueError(f"{Path(path).name} has changed: it holds no compact model any more. Load it again.")
    return build_model(
        part(state_dict, "unet"),
        config.unet,
        latent_format,
        config.restorer.calibration,
        disable_dynamic=disable_dynamic,
    )


def _preview(metadata: dict[str, str], channels: int) -> tuple[list[list[float]], list[float]] | None:
    """The latents' preview colours from the metadata `latent_rgb`, or None where there are none."""
    if "latent_rgb" not in metadata:
        return None
    return preview_colors(read_json(metadata["latent_rgb"], "latent_rgb"), channels)
