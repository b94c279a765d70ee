"""What differs between the families of models that one code path restores with.

A restorer belongs to a family: `COMPACT` is the model that comes with the pack, denoiser and autoencoder
included; `SDXL` is a restorer for an SDXL checkpoint of the user. Everything that depends on the family asks
its `Family`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


class DecoderStages(Enum):
    """Whose decoder DAEM works in."""

    NAF = "naf"
    """The pack's own autoencoder."""
    KL = "kl"
    """Stable Diffusion's KL autoencoder, as ComfyUI builds it."""


class DefaultConditioning(Enum):
    """What positive and negative are where nobody connects them."""

    DEGRADATION_TOKENS = "degradation tokens"
    """The severities to be removed as tokens, and the tokens that stand for unknown ones."""
    EMPTY_PROMPT = "empty prompt"
    """An empty text, as the checkpoint's CLIP encodes it."""


@dataclass(frozen=True)
class Family:
    """One family of models.

    name: as the weights' metadata says it. latent_factor: sides of a picture over those of its latent.
    fusion_site: ComfyUI's name of the UNet block after which DAFF adds its residual. has_class_labels:
    whether the denoiser takes a vector beside the timestep (SDXL's size and pooled text). keeps_undamaged:
    whether a picture in which nothing is found comes back as it came. start_points: what DAFF Sampler can
    start from. model_source, vae_source: where users get the MODEL and the VAE.
    """

    name: str
    decoder_stages: DecoderStages
    default_conditioning: DefaultConditioning
    has_class_labels: bool
    keeps_undamaged: bool
    start_points: tuple[str, ...]
    model_source: str
    vae_source: str
    latent_factor: int = 8
    fusion_site: tuple[str, int] = ("input", 0)

    @property
    def levels(self) -> int:
        """Levels of encoders and decoders: each halves or doubles the sides of the one before."""
        return self.latent_factor.bit_length()

    @property
    def denoiser_reads_severities(self) -> bool:
        """Whether the denoiser is told the severities, so that it follows Steer Degradations."""
        return self.default_conditioning is DefaultConditioning.DEGRADATION_TOKENS

    def fits_autoencoder(self, autoencoder: nn.Module) -> bool:
        """Whether a VAE's network is of this family's kind. Only the pack's own says which it is; the walk
        over the decoder checks the others.
        """
        return getattr(autoencoder, "decoder_stages", DecoderStages.KL) is self.decoder_stages


COMPACT = Family(
    name="compact",
    decoder_stages=DecoderStages.NAF,
    default_conditioning=DefaultConditioning.DEGRADATION_TOKENS,
    has_class_labels=False,
    keeps_undamaged=True,
    start_points=("noise", "lq"),
    model_source="the MODEL of Load AIOR Compact",
    vae_source="the VAE of Load AIOR Compact",
)
SDXL = Family(
    name="sdxl",
    decoder_stages=DecoderStages.KL,
    default_conditioning=DefaultConditioning.EMPTY_PROMPT,
    has_class_labels=True,
    keeps_undamaged=False,
    start_points=("noise", "lq", "lq_official", "lq_official_2i-1"),
    model_source="the MODEL of an SDXL checkpoint",
    vae_source="the VAE of an SDXL checkpoint",
)
FAMILIES = {family.name: family for family in (COMPACT, SDXL)}
"""The families by name."""
