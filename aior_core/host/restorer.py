"""The restorer's networks in ComfyUI's ModelPatchers, so that its memory management moves them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import comfy.model_management as management
import comfy.ops
import comfy.utils
import torch
from comfy.model_patcher import CoreModelPatcher, ModelPatcher
from torch import Tensor, nn

from ..models.config import CompactConfig, RestorerConfig
from ..models.daem import DAEM
from ..models.daff import DAFF
from ..models.family import Family
from ..models.lq_encoder import PriorEncoder
from ..pipeline.validate import require_kind
from ..weights import config_from, is_published, load_checkpoint, part, require_finite, split_published

PICTURE_DTYPES = [torch.bfloat16, torch.float32]
"""Dtypes of networks on pictures, best first. fp16 overflows in the products of NAF blocks."""
NOTE = "training"
"""The metadata that says how weights were trained."""


@dataclass(frozen=True, eq=False)
class Restorer:
    """LQ encoder, DAFF and DAEM as ModelPatchers; `daem` is None for weights without DAEM.

    config: of the networks. source: the name of the file that they come from. note: how they were trained, as
    the file or Train AIOR Restorer says.
    """

    encoder: ModelPatcher
    daff: ModelPatcher
    daem: ModelPatcher | None
    config: RestorerConfig
    source: str
    note: str = ""

    @property
    def family(self) -> Family:
        """What differs between restorers of the compact model and of SDXL checkpoints."""
        return self.config.family

    def networks(self) -> dict[str, nn.Module]:
        """The networks by their prefixes in a file."""
        patchers = {"prior": self.encoder, "daff": self.daff, "daem": self.daem}
        return {name: patcher.model for name, patcher in patchers.items() if patcher is not None}


def require_restorer(restorer: object) -> None:
    """Raise ValueError unless this is a Restorer."""
    require_kind("restorer", restorer, Restorer, "Load AIOR Compact or Load AIOR Restorer")


def picture_dtype(device: torch.device) -> torch.dtype:
    """The dtype of LQ encoder, autoencoder and DAEM on `device`, as ComfyUI chooses it for its VAEs."""
    return management.vae_dtype(device, PICTURE_DTYPES)


def make_patcher(
    network: Callable[..., nn.Module],
    config: object,
    state_dict: dict[str, Tensor],
    *,
    load_device: torch.device,
    offload_device: torch.device,
    dtype: torch.dtype,
) -> ModelPatcher:
    """Build `network(config)` from ComfyUI's casting layers, load its weights, and wrap it in a ModelPatcher.

    network: a class of `models`, or a function that builds one. dtype: of the stored weights.
    """
    module = (
        network(config, operations=comfy.ops.manual_cast, device=offload_device, dtype=dtype)
        .eval()
        .requires_grad_(False)
    )
    patcher = CoreModelPatcher(module, load_device=load_device, offload_device=offload_device)
    module.load_state_dict(state_dict, assign=patcher.is_dynamic())
    if management.is_device_cpu(load_device):
        # On a CPU this makes NAF blocks' norms and 1x1 convolutions a third faster. Activations follow the
        # weights' format.
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    management.archive_model_dtypes(module)
    return patcher


def build_restorer(
    state_dict: dict[str, Tensor], config: RestorerConfig, source: str, note: str = ""
) -> Restorer:
    """A restorer from a flat state dict with `prior.`, `daff.` and perhaps `daem.`; see `Restorer` for source
    and note.
    """
    device = management.vae_device()
    pictures = {
        "load_device": device,
        "offload_device": management.vae_offload_device(),
        "dtype": picture_dtype(device),
    }
    daem = partial(DAEM, kinds=config.kinds, calibration=config.calibration)
    daff = part(state_dict, "daff")
    daff_dtype = management.unet_dtype(model_params=comfy.utils.calculate_parameters(daff))
    return Restorer(
        encoder=make_patcher(PriorEncoder, config.prior, part(state_dict, "prior"), **pictures),
        daff=make_patcher(
            DAFF,
            config.daff,
            daff,
            load_device=management.get_torch_device(),
            offload_device=management.unet_offload_device(),
            dtype=daff_dtype,
        ),
        daem=make_patcher(daem, config.daem, part(state_dict, "daem"), **pictures) if config.daem else None,
        config=config,
        source=source,
        note=note,
    )


def load_restorer(path: str | Path) -> Restorer:
    """Load a restorer from its file, or any shard of it.

    From a compact model's file it takes the restorer, and from a UniLDiff or FaithDiff checkpoint everything
    but the UNet. Raises ValueError or FileNotFoundError that says what is wrong with the file
    (`load_checkpoint`, `split_published`, `config_from`).
    """
    state_dict, metadata = load_checkpoint(path)
    if is_published(state_dict):
        published = split_published(state_dict)
        state_dict, metadata = published.restorer, {NOTE: f"converted from a {published.variant} checkpoint"}
    config = config_from(state_dict, metadata)
    if isinstance(config, CompactConfig):
        config = config.restorer
    require_finite(state_dict, Path(path).name)
    return build_restorer(state_dict, config, Path(path).name, metadata.get(NOTE, ""))
