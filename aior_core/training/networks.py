"""The five networks of a compact model in training, and their one flat state dict."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor, nn

from ..degradations import DEGRADATIONS, KINDS
from ..models.autoencoder import Autoencoder
from ..models.config import CompactConfig
from ..models.daem import DAEM
from ..models.daff import DAFF
from ..models.layers import initialise
from ..models.lq_encoder import PriorEncoder
from ..models.unet import unet_parameters
from .depthwise import fast_gradients
from .gpu import fast_on_gpus

ANCHOR_STARTS = tuple(each.anchor_start for each in DEGRADATIONS)


def _compact() -> CompactConfig:
    """The compact model for all kinds of damage that the pack knows."""
    config = CompactConfig()
    prior, daem = config.restorer.prior, config.restorer.daem
    prior, daem = (
        replace(prior, degradations=len(KINDS)),
        replace(daem, degradations=len(KINDS), anchor_starts=ANCHOR_STARTS),
    )
    return replace(config, restorer=replace(config.restorer, prior=prior, daem=daem, kinds=KINDS))


COMPACT = _compact()


class Parts(ABC):
    """Networks by name, and their one flat state dict."""

    @abstractmethod
    def parts(self) -> dict[str, nn.Module]:
        """The networks by the prefixes of their keys."""

    def state_dict(self) -> dict[str, Tensor]:
        return {
            f"{name}.{key}": value
            for name, part in self.parts().items()
            for key, value in part.state_dict().items()
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Load a flat dict. Raises RuntimeError naming missing and unexpected keys."""
        for name, part in self.parts().items():
            part.load_state_dict(
                {k[len(name) + 1 :]: v for k, v in state.items() if k.startswith(name + ".")}
            )


@dataclass(frozen=True)
class Networks(Parts):
    """Field names are the prefixes of the weights file."""

    vae: Autoencoder
    prior: PriorEncoder
    daff: DAFF
    daem: DAEM
    unet: nn.Module

    def parts(self) -> dict[str, nn.Module]:
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def to(self, *args, **kwargs) -> Networks:
        for part in self.parts().values():
            part.to(*args, **kwargs)
        return self


def build(config: CompactConfig = COMPACT, seed: int = 0) -> Networks:
    """Freshly initialised networks, every number drawn from `seed`. The UNet is the one that the host's MODEL has."""
    import comfy.ops

    from ..host.compact_unet import CompactUNet

    generator = torch.Generator().manual_seed(seed)
    restorer = config.restorer
    networks = Networks(
        Autoencoder(config.autoencoder),
        PriorEncoder(restorer.prior),
        DAFF(restorer.daff),
        DAEM(restorer.daem, kinds=restorer.kinds, calibration=restorer.calibration),
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
