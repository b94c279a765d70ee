"""What a set of weights was built with. Shapes of the weights decide the numbers; metadata only what shapes
cannot show."""

from __future__ import annotations

from dataclasses import dataclass, field

from .calibration import Calibration
from .family import COMPACT, Family

FIRST_KINDS = ("noise", "blur", "low_resolution", "rain", "snow", "haze", "low_light", "jpeg")
"""The kinds of damage that weights know which do not say so, in the order of their rows. Weights of more
kinds begin with these."""


@dataclass(frozen=True)
class AutoencoderConfig:
    """The NAF autoencoder: one level per entry, level i at 1/2**i of the picture's size. `decoder_plain`:
    plain blocks after the NAF ones.
    """

    widths: tuple[int, ...] = (32, 64, 128, 192)
    encoder_blocks: tuple[int, ...] = (1, 1, 2, 2)
    decoder_blocks: tuple[int, ...] = (1, 1, 2, 2)
    decoder_plain: tuple[int, ...] = (3, 4, 2, 0)
    latent_channels: int = 16


@dataclass(frozen=True)
class PriorConfig:
    """LQ encoder and degradation head. `kind` is "naf" (compact) or "kl" (a copy of the SDXL VAE's encoder).

    `plain`: plain blocks after each level's NAF blocks, which the autoencoder's own encoder has none of.
    `head_width` 0: no degradation head and no tokens, as in published checkpoints, which estimate nothing.
    `place_width`: width of the maps' own network; 0 is none.
    """

    kind: str = "naf"
    widths: tuple[int, ...] = (32, 64, 128, 192)
    blocks: tuple[int, ...] = (1, 1, 2, 2)
    plain: tuple[int, ...] = (1, 3, 2, 1)
    degradations: int = len(FIRST_KINDS)
    head_width: int = 96
    context_width: int = 128
    place_width: int = 64


@dataclass(frozen=True)
class DAFFConfig:
    """DAFF. `mode` is "paper" or "official" (unildiff.md 2.6); `patch` is the side of a token in latent
    pixels.

    `aligner_blocks`: above 0, FaithDiff's aligner of so many blocks stands in the place of the double and
    single ones.
    """

    mode: str = "paper"
    unet_width: int = 64
    condition_width: int = 192
    width: int = 160
    heads: int = 4
    mlp_ratio: float = 2.0
    double_blocks: int = 1
    single_blocks: int = 1
    patch: int = 2
    condition_norm: str = "channel"
    aligner_blocks: int = 0


@dataclass(frozen=True)
class DAEMConfig:
    """DAEM. Level i joins the decoder's feature (`decoder_widths[i]`) with the LQ encoder's
    (`skip_widths[i]`).

    Its channel attention is judged on a copy `pools[i]` times smaller. `anchored`: see `DAEM.anchor_of`.
    `keeps`: see `DegradationResidual`. `tone_width`: hidden width of `ToneCurve`; 0 is none. `anchor_starts`:
    by degradation, where training of the anchor starts, 0 for those not given: 0 holds the low frequencies of
    the damaged picture, -8 lets go of them.
    """

    decoder_widths: tuple[int, ...] = (32, 64, 128, 192)
    skip_widths: tuple[int, ...] = (32, 64, 128, 192)
    widths: tuple[int, ...] = (16, 48, 96, 128)
    pools: tuple[int, ...] = (4, 2, 1, 1)
    prior_width: int = 192
    degradations: int = len(FIRST_KINDS)
    context_width: int = 64
    kernels: tuple[int, ...] = (3, 5, 7, 3)
    dilations: tuple[int, ...] = (1, 1, 1, 4)
    top_k: int = 1
    head_channels: int = 16
    anchored: bool = True
    keeps: bool = True
    tone_width: int = 128
    anchor_starts: tuple[float, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class UNetConfig:
    """The compact denoiser, in the words of the host's `UNetModel`."""

    in_channels: int = 16
    model_channels: int = 64
    channel_mult: tuple[int, ...] = (1, 2, 2)
    context_dim: int = 128
    head_channels: int = 32


@dataclass(frozen=True)
class RestorerConfig:
    """Everything a restorer was built from; `daem` is None when the file has no DAEM.

    kinds: the names of the degradations that its rows are of, as many as `prior.degradations`. calibration:
    what was fitted to these weights.
    """

    family: Family = COMPACT
    prior: PriorConfig = field(default_factory=PriorConfig)
    daff: DAFFConfig = field(default_factory=DAFFConfig)
    daem: DAEMConfig | None = field(default_factory=DAEMConfig)
    kinds: tuple[str, ...] = FIRST_KINDS
    calibration: Calibration = field(default_factory=Calibration)


@dataclass(frozen=True)
class CompactConfig:
    """The whole compact model."""

    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    unet: UNetConfig = field(default_factory=UNetConfig)
    restorer: RestorerConfig = field(default_factory=RestorerConfig)
