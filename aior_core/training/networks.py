"""The five networks of a compact model in training, and their common flat state dict."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..degradations import DEGRADATIONS, KINDS
from ..models.autoencoder import Autoencoder
from ..models.config import CompactConfig, DAEMConfig
from ..models.daem import DAEM
from ..models.daff import DAFF
from ..models.degradation_head import DegradationHead, DegradationTokens
from ..models.layers import initialise
from ..models.lq_encoder import PriorEncoder
from ..models.unet import unet_parameters
from .depthwise import fast_gradients
from .gpu import fast_on_gpus

ANCHOR_STARTS = tuple(each.anchor_start for each in DEGRADATIONS)


def _daem(config: CompactConfig) -> DAEMConfig:
    """DAEM's configuration. Raises ValueError where there is none."""
    if config.restorer.daem is None:
        raise ValueError("training: this configuration has no DAEM; a compact model needs one")
    return config.restorer.daem


def _compact() -> CompactConfig:
    """The configuration of a compact model for all kinds of damage that the pack knows."""
    config = CompactConfig()
    prior = replace(config.restorer.prior, degradations=len(KINDS))
    daem = replace(_daem(config), degradations=len(KINDS), anchor_starts=ANCHOR_STARTS)
    return replace(config, restorer=replace(config.restorer, prior=prior, daem=daem, kinds=KINDS))


COMPACT = _compact()


class Parts(ABC):
    """Networks by name, with one flat state dict of all of them."""

    @abstractmethod
    def parts(self) -> dict[str, nn.Module]:
        """The networks by name. The names are the prefixes of the keys in the state dict."""

    def state_dict(self) -> dict[str, Tensor]:
        return {
            f"{name}.{key}": value
            for name, part in self.parts().items()
            for key, value in part.state_dict().items()
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Load a flat state dict. Raises RuntimeError that names missing and unexpected keys."""
        for name, part in self.parts().items():
            part.load_state_dict(
                {k[len(name) + 1 :]: v for k, v in state.items() if k.startswith(name + ".")}
            )


@dataclass(frozen=True)
class Networks(Parts):
    """The networks of a compact model; the names of the fields are the prefixes in the weights file."""

    vae: Autoencoder
    prior: PriorEncoder
    daff: DAFF
    daem: DAEM
    unet: Any

    def parts(self) -> dict[str, nn.Module]:
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @property
    def head(self) -> DegradationHead:
        """The degradation head; every compact model has one."""
        assert self.prior.head is not None
        return self.prior.head

    @property
    def tokens(self) -> DegradationTokens:
        """The degradation tokens; every compact model has them."""
        assert self.prior.tokens is not None
        return self.prior.tokens

    def to(self, *args, **kwargs) -> Networks:
        for part in self.parts().values():
            part.to(*args, **kwargs)
        return self


def build(config: CompactConfig = COMPACT, seed: int = 0) -> Networks:
    """Freshly initialised networks, in fp32 and channels last, drawn from `seed`. The UNet is the class that
    ComfyUI's MODEL has, so this imports ComfyUI."""
    import comfy.ops

    from ..host.compact_unet import CompactUNet

    generator = torch.Generator().manual_seed(seed)
    restorer = config.restorer
    networks = Networks(
        Autoencoder(config.autoencoder),
        PriorEncoder(restorer.prior),
        DAFF(restorer.daff),
        DAEM(_daem(config), kinds=restorer.kinds, calibration=restorer.calibration),
        CompactUNet(
            **unet_parameters(config.unet), operations=comfy.ops.disable_weight_init, dtype=torch.float32
        ),
    )
    for part in networks.parts().values():
        initialise(part, generator)
    nn.init.zeros_(networks.unet.out[2].weight)
    for part in (networks.vae, networks.prior, networks.daem):
        fast_on_gpus(fast_gradients(part))
    return networks.to(memory_format=torch.channels_last)
