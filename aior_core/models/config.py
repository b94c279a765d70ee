"""Configs of the networks: numbers that the weights' shapes show, and what metadata adds to them."""

from __future__ import annotations

from dataclasses import dataclass, field

from .calibration import DEFAULT, Calibration
from .family import COMPACT, Family

FIRST_KINDS = ("noise", "blur", "low_resolution", "rain", "snow", "haze", "low_light", "jpeg")
"""The degradations of weights that do not name theirs, in the order of their rows."""


@dataclass(frozen=True)
class AutoencoderConfig:
    """The NAF autoencoder. Tuples have an entry per level; level i is at 1/2**i of the picture's size.

    widths: channels. encoder_blocks, decoder_blocks: NAF blocks. decoder_plain: plain blocks after them.
    """

    widths: tuple[int, ...] = (32, 64, 128, 192)
    encoder_blocks: tuple[int, ...] = (1, 1, 2, 2)
    decoder_blocks: tuple[int, ...] = (1, 1, 2, 2)
    decoder_plain: tuple[int, ...] = (3, 4, 2, 0)
    latent_channels: int = 16


@dataclass(frozen=True)
class PriorConfig:
    """LQ encoder, degradation head and degradation tokens.

    kind: "naf" (compact) or "kl" (a copy of the SDXL VAE's encoder). widths, blocks, plain: per level,
    channels, NAF or residual blocks, and plain blocks after them. degradations: K. head_width: hidden
    channels of the degradation head; with 0 there are no head and no tokens, as in published checkpoints.
    context_width: channels of a token.
    place_width: hidden channels of the severity maps' network; 0 is none.
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
    """DAFF.

    mode: "paper" or "official" (docs/method.md, section 3.6). unet_width: channels of the UNet's first
    feature.
    condition_width: channels of the LQ feature. width, heads, mlp_ratio: of the transformer. patch: side of a
    token in latent pixels. condition_norm: "channel" or "group". aligner_blocks: above 0, FaithDiff's aligner
    with so many blocks takes the place of the transformer.
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
    """DAEM. Tuples up to `pools` have an entry per level, finest first.

    decoder_widths, skip_widths: channels of the decoder's and of the LQ encoder's features. widths: channels
    of the experts. pools: the factor by which channel attention reduces its input. prior_width: channels of
    the deepest LQ feature. degradations: K. context_width: of the context vector. kernels, dilations: of the
    experts. top_k: experts per picture. head_channels: channels of an attention head. anchored: with the
    low-frequency anchor. keeps: with `DegradationResidual`. tone_width: hidden width of `ToneCurve`; 0 is
    none. anchor_starts: where training of the anchor starts, by degradation, 0 for those not given: 0 holds
    the low frequencies of the damaged picture, -8 lets go of them.
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
    """The compact denoiser, in the terms of ComfyUI's `UNetModel`."""

    in_channels: int = 16
    model_channels: int = 64
    channel_mult: tuple[int, ...] = (1, 2, 2)
    context_dim: int = 128
    head_channels: int = 32


@dataclass(frozen=True)
class RestorerConfig:
    """A restorer: its networks' configs, and what its weights say about themselves.

    daem: None for weights without DAEM. kinds: the names of the `prior.degradations` degradations, in the
    order of every `B K`. calibration: what was fitted to the weights.
    """

    family: Family = COMPACT
    prior: PriorConfig = field(default_factory=PriorConfig)
    daff: DAFFConfig = field(default_factory=DAFFConfig)
    daem: DAEMConfig | None = field(default_factory=DAEMConfig)
    kinds: tuple[str, ...] = FIRST_KINDS
    calibration: Calibration = DEFAULT


@dataclass(frozen=True)
class CompactConfig:
    """The compact model: autoencoder, denoiser and restorer."""

    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    unet: UNetConfig = field(default_factory=UNetConfig)
    restorer: RestorerConfig = field(default_factory=RestorerConfig)
