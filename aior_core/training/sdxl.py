"""The stages for SDXL: a restorer is trained for a checkpoint whose UNet, autoencoder and text encoders are
frozen (`docs/method.md`, section 8)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..models.daem import DAEM
from ..models.daem_level import Routing
from ..models.daff import DAFF
from ..models.lq_encoder import PriorEncoder
from ..pipeline.decode import decode_encoded
from ..pipeline.encode import Encoded, encode_batch
from ..pipeline.fuse import predict_noise
from . import distributed
from .networks import Parts
from .restoration import Batch, damage
from .schedules import cosine
from .stages import FixedCrops, Logs, Stage, repair_loss

OFFSET_NOISE = 0.02
PROMPT_DROPOUT = 0.2
LAST_TIMESTEP = 1000


@dataclass(frozen=True)
class Base:
    """What a user's checkpoint brings: ComfyUI's `UNetModel` and `AutoencoderKL`, frozen unless the UNet is
    trained too.

    sigmas: the noise levels of the 1000 timesteps, `1000`. scale: the UNet's latent is the autoencoder's
    times this.
    context, label: the prompt, `1 T C` and `1 Y`. empty_context, empty_label: the empty prompt.
    """

    unet: Any
    vae: Any
    sigmas: Tensor
    scale: float
    context: Tensor
    label: Tensor
    empty_context: Tensor
    empty_label: Tensor

    def to(self, device: str) -> Base:
        self.unet.to(device)
        self.vae.to(device)
        return replace(
            self,
            **{
                f.name: getattr(self, f.name).to(device)
                for f in fields(self)
                if torch.is_tensor(getattr(self, f.name))
            },
        )

    @torch.no_grad()
    def encode(self, picture: Tensor) -> Tensor:
        """Picture `B 3 H W`, -1..1 -> the latent that the UNet takes, `B 4 h w`: the posterior's mode,
        scaled."""
        return self.vae.encode(picture).float() * self.scale

    def words(self, silent: Tensor) -> tuple[Tensor, Tensor]:
        """Context `B T C` and label `B Y` of the prompt, or of no words where `silent` (`B`, bool)."""
        context = torch.where(silent[:, None, None], self.empty_context, self.context)
        return context, torch.where(silent[:, None], self.empty_label, self.label)


class SDXLNetworks(Parts):
    """The restorer in training, on its base, as `loop.train` needs it. Only the restorer is saved, and the
    UNet if it is trained."""

    def __init__(self, prior: PriorEncoder, daff: DAFF, daem: DAEM, base: Base, *, with_unet: bool = False):
        self.prior, self.daff, self.daem, self.base = prior, daff, daem, base
        self.with_unet = with_unet

    def parts(self) -> dict[str, nn.Module]:
        restorer = {"prior": self.prior, "daff": self.daff, "daem": self.daem}
        return restorer | ({"unet": self.base.unet} if self.with_unet else {})

    def to(self, device: str) -> SDXLNetworks:
        for part in (self.prior, self.daff, self.daem):
            part.to(device)
        self.base = self.base.to(device)
        return self


def predicted_noise(
    networks: SDXLNetworks, x: Tensor, timestep: Tensor, condition: Tensor, context: Tensor, label: Tensor
) -> Tensor:
    """The UNet's predicted noise with DAFF; see `predict_noise`."""
    return predict_noise(networks.base.unet, networks.daff, x, timestep, condition, context, label)


def noised(latent: Tensor, sigmas: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Noisy latents at random timesteps: x = (z + sigma n) / sqrt(sigma^2 + 1).

    Returns x `B 4 h w`, the timesteps `B`, and the noise n, to which 0.02 of an offset per channel is added.
    """
    noise = distributed.normal(latent.shape, generator) + OFFSET_NOISE * distributed.normal(
        (*latent.shape[:2], 1, 1), generator
    )
    timestep = (
        (distributed.uniform((len(latent),), generator) * LAST_TIMESTEP)
        .long()
        .clamp(max=LAST_TIMESTEP - 1)
        .to(latent.device)
    )
    noise, sigma = noise.to(latent), sigmas[timestep][:, None, None, None].to(latent)
    return (latent + sigma * noise) / (sigma.square() + 1).sqrt(), timestep, noise


class Samples(Protocol):
    """What a step learns from: damaged pictures, and what the frozen networks give for them, computed
    (`Fresh`) or read from disk (`sdxl_cache`)."""

    @property
    def batch(self) -> Batch: ...

    def latent(self, which: str) -> Tensor:
        """The latent of the batch's "target" or "lq", `B 4 h w`, as the UNet takes it."""

    def feature(self) -> Tensor:
        """The deepest feature of the frozen LQ encoder, `B C h w`."""


@dataclass(frozen=True)
class Fresh:
    """Samples that are encoded on demand."""

    networks: SDXLNetworks
    batch: Batch

    def latent(self, which: str) -> Tensor:
        return self.networks.base.encode(getattr(self.batch, which))

    @torch.no_grad()
    def feature(self) -> Tensor:
        return self.networks.prior.trunk(self.batch.lq)[-1]


def fusion_loss(networks: SDXLNetworks, samples: Samples, generator: torch.Generator) -> tuple[Tensor, Logs]:
    """The loss of both fusion phases, L1 on the predicted noise. The phases differ in which parameters have
    gradients."""
    base = networks.base
    latent = samples.latent("target")
    learns = any(p.requires_grad for p in networks.prior.trunk.parameters())
    feature = networks.prior.trunk(samples.batch.lq)[-1] if learns else samples.feature()
    # Not channels last: PyTorch 2.13's GroupNorm then crashes in the gradient of its weights when its input
    # asks for none.
    condition = networks.daff.embed(feature.float().contiguous())
    x, timestep, noise = noised(latent, base.sigmas, generator)
    silent = (distributed.uniform((len(latent),), generator) < PROMPT_DROPOUT).to(latent.device)
    predicted = predicted_noise(networks, x, timestep, condition, *base.words(silent))
    fit = F.l1_loss(predicted.float(), noise)
    return fit, {"eps": fit.item()}


def _start_latent(networks: SDXLNetworks, samples: Samples, generator: torch.Generator) -> Tensor:
    """The latent to decode: the damaged picture's for 40 % of the batches, zeros for 30 %, and the target's
    with noise for 30 %."""
    roll = torch.rand((), generator=generator).item()
    if 0.4 <= roll < 0.7:
        lq = samples.batch.lq
        return lq.new_zeros(len(lq), networks.base.unet.in_channels, lq.shape[2] // 8, lq.shape[3] // 8)
    latent = samples.latent("lq" if roll < 0.4 else "target")
    if roll < 0.4:
        return latent / networks.base.scale
    sigma = 0.3 * distributed.uniform((len(latent), 1, 1, 1), generator).to(latent)
    return (latent + sigma * distributed.normal(latent.shape, generator).to(latent)) / networks.base.scale


def repair_sdxl(
    networks: SDXLNetworks, lq: Tensor, latent: Tensor, remove: Tensor | None = None
) -> tuple[Tensor, list[Routing], Encoded]:
    """Decode `latent`, `B 4 h w`, with DAEM and the frozen KL decoder: pictures `B 3 H W`, routings, and the
    encoded damaged pictures.

    The LQ encoder's trunk is frozen. remove: as in `Batch` (default: everything).
    """
    encoded = encode_batch(networks.prior, networks.daem, lq, frozen_trunk=True)
    picture, routings = decode_encoded(networks.base.vae, networks.daem, latent, encoded, lq, remove)
    return picture, routings, encoded


def detail_loss(networks: SDXLNetworks, samples: Samples, generator: torch.Generator) -> tuple[Tensor, Logs]:
    """The loss of DAEM and the degradation head on the frozen decoder, which is that of the compact model."""
    latent, batch = _start_latent(networks, samples, generator), samples.batch
    repaired, routings, encoded = repair_sdxl(networks, batch.lq, latent, batch.remove)
    return repair_loss(repaired, routings, encoded, batch, networks.daem.config.top_k)


Loss = Callable[[SDXLNetworks, Samples, torch.Generator], tuple[Tensor, Logs]]


@dataclass(frozen=True)
class SDXLStage(Stage):
    """A stage at SDXL's scale.

    loss: of samples. cached: whether `clean` are samples already, which an `sdxl_cache.Cache` draws.
    """

    loss: Loss = fusion_loss
    cached: bool = False

    def step(self, networks, clean, generator: torch.Generator, **batch) -> tuple[Tensor, Logs]:
        if self.cached:
            return self.loss(networks, clean, generator)
        samples = Fresh(networks, damage(clean, generator, **self.damage_options, **batch))
        return self.loss(networks, samples, generator)


def copy_encoder(prior: PriorEncoder, vae: Any) -> None:
    """Copy the autoencoder's encoder into the LQ encoder's trunk, without its output head (`docs/method.md`,
    section 2)."""
    state = vae.encoder.state_dict()
    prior.trunk.load_state_dict(
        {key: value.float() for key, value in state.items() if not key.startswith(("norm_out.", "conv_out."))}
    )


def checkpointed(unet: Any) -> Any:
    """Turn on gradient checkpointing in the UNet's blocks: a fifth of the memory, a third more time."""
    for block in (*unet.input_blocks[1:], unet.middle_block, *unet.output_blocks):
        for layer in block:
            layer.forward = _again(layer.forward)
    return unet


def _again(forward):
    def run(*args, **kwargs):
        return torch.utils.checkpoint.checkpoint(
            lambda a, k: forward(*a, **k), args, kwargs, use_reentrant=False
        )

    return run


_SETTINGS: dict[str, Any] = {
    "crops": FixedCrops(512, 4),
    "schedule": cosine,
    "muon": False,
    "damages": True,
    "pairs": True,
}

SDXL_STAGES = {
    "fusion-a": SDXLStage("fusion-a", ("daff",), 5e-5, ema_decay=0.9999, loss=fusion_loss, **_SETTINGS),
    "fusion-b": SDXLStage(
        "fusion-b",
        ("daff", "prior.trunk"),
        5e-5,
        ema_decay=0.9999,
        slow=("prior.trunk.",),
        loss=fusion_loss,
        **_SETTINGS,
    ),
    "detail": SDXLStage(
        "detail", ("prior.head", "daem"), 5e-4, ema_decay=0.999, loss=detail_loss, **_SETTINGS
    ),
}
"""UniLDiff's stage 1 in its two phases, and its stage 2. In the second phase the LQ encoder learns at a tenth
of the rate, as published."""
