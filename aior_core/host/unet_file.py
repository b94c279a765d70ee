"""The fine-tuned SDXL UNet in a UniLDiff or FaithDiff checkpoint, loaded as a MODEL."""

from __future__ import annotations

import re
from pathlib import Path

import comfy.model_detection
import comfy.ops
import comfy.sd
import comfy.supported_models
import comfy.utils
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ..weights import is_published, load_checkpoint, on_meta, require_fit, split_published
from ..weights.shards import listed


def load_unet(path: str | Path) -> ModelPatcher:
    """Load the UNet of a published checkpoint with ComfyUI's own loader of diffusion models.

    Raises ValueError if the file holds no UNet, or one that is not complete or not SDXL's, and whatever
    `load_checkpoint` raises.
    """
    name = Path(path).name
    state_dict, _ = load_checkpoint(path)
    unet = split_published(state_dict).unet if is_published(state_dict) else {}
    if not unet:
        raise ValueError(
            f"{name} holds no UNet, only a restorer. Use Load Checkpoint with the SDXL checkpoint that the "
            "restorer was "
            "made for."
        )
    del state_dict
    tensors = host_names(unet, name)
    _require_whole(tensors, name)
    model = comfy.sd.load_diffusion_model_state_dict(tensors)
    model.cached_patcher_init = (load_unet, (path,))
    return model


def _require_whole(tensors: dict[str, Tensor], name: str) -> None:
    """Raise ValueError unless these are all tensors of an SDXL UNet.

    No memory is allocated for a UNet, because a small file can claim to be one.
    """
    try:
        config = comfy.model_detection.model_config_from_unet(tensors, "")
    # ComfyUI assumes shapes that a damaged file does not have.
    except (LookupError, TypeError, ArithmeticError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"ComfyUI cannot read the UNet in {name} ({type(error).__name__}: {error}). Get the file again."
        ) from error
    if not isinstance(config, comfy.supported_models.SDXL):
        raise ValueError(
            f"the UNet in {name} has other widths or depths than SDXL's. Get a checkpoint that was trained "
            "on SDXL."
        )
    try:
        require_fit(
            tensors,
            on_meta(
                lambda: UNetModel(**config.unet_config, operations=comfy.ops.disable_weight_init), "unet"
            ),
            "unet",
        )
    except ValueError as error:
        raise ValueError(f"the UNet in {name} is not whole. {error}") from error


def host_names(unet: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """Rename a UNet's tensors from diffusers' names to ComfyUI's, for any widths and depths.

    name: of the file, in messages. Raises ValueError with the keys that SDXL's UNet does not have.
    """
    names = comfy.utils.unet_to_diffusers(_structure(unet))
    unknown = unet.keys() - names.keys()
    if unknown:
        raise ValueError(
            f"the UNet in {name} has keys that SDXL's UNet does not have: {listed(unknown)}. "
            "Get a checkpoint that was trained on SDXL."
        )
    return {names[key]: value for key, value in unet.items()}


def _structure(unet: dict[str, Tensor]) -> dict[str, object]:
    """The numbers that `unet_to_diffusers` needs, counted from the keys."""

    def count(pattern: str) -> int:
        found = [int(match[1]) for key in unet if (match := re.match(pattern + r"\.(\d+)\.", key))]
        return 1 + max(found, default=-1)

    def depths(side: str, block: int, resnets: int) -> list[int]:
        return [count(rf"{side}\.{block}\.attentions\.{i}\.transformer_blocks") for i in range(resnets)]

    levels = count("down_blocks")
    resnets = [count(rf"down_blocks\.{level}\.resnets") for level in range(levels)]
    up = [
        depth
        for level in range(levels)
        for depth in depths("up_blocks", level, resnets[levels - 1 - level] + 1)
    ]
    return {
        "num_res_blocks": resnets,
        "channel_mult": [1] * levels,
        "transformer_depth": [
            depth for level in range(levels) for depth in depths("down_blocks", level, resnets[level])
        ],
        "transformer_depth_output": up[::-1],
        "transformer_depth_middle": count(r"mid_block\.attentions\.0\.transformer_blocks"),
    }
