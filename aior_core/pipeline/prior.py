"""The degradation prior: what the networks know about one batch of damaged pictures."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..models.calibration import DEFAULT, Calibration
from ..models.config import FIRST_KINDS
from ..models.global_statistics import GlobalStatistics
from ..picture import Geometry, to_unit
from .validate import require_kind

FACTOR = 8
"""Pixels of the picture per latent pixel, along one side."""
SOURCE = "Encode Degradation Prior"
"""The node that makes priors, for messages."""


@dataclass(frozen=True, eq=False)
class Prior:
    """The degradation prior of `B` pictures, as it travels between nodes.

    All tensors are fp32 on the host's intermediate device unless stated otherwise. `H` and `W` are the padded
    size, multiples of 8; `K` is the number of degradations that the restorer knows.

    features: the LQ encoder's deepest feature, `B C H/8 W/8`; in fp16 for large pictures
    (`encode.kept_dtype`).
    skips: the LQ features at 1, 1/2 and 1/4 of the size, finest first. None where they are recomputed for
    each tile.
    image: the damaged picture, `B H W 3`, 0..1. It shares memory with the input where no padding was needed.
    latent: the VAE's latent of the damaged picture, `B C H/8 W/8`.
    severities, probabilities: `B K`, 0..1, one number per picture and degradation.
    maps: severity by place, `B K H/8 W/8`, 0..1.
    geometry: the original size and the padding.
    alpha: the alpha channel of the input, `B h w 1`, or None.
    steering: `B K`, 0..1, how much of each degradation to remove, or None to remove everything.
    estimated: False if the restorer has no degradation head, as in published checkpoints. Severities,
    probabilities and maps are zero then and carry no information.
    smooth: number of frames on either side over which estimates of whole pictures are averaged.
    global_statistics: statistics of the unpadded pictures, where the restorer has a tone curve that uses
    them.
    kinds: the names of the `K` degradations. calibration: what was fitted to the restorer's weights.
    """

    features: Tensor
    skips: tuple[Tensor, ...] | None
    image: Tensor
    latent: Tensor
    severities: Tensor
    probabilities: Tensor
    maps: Tensor
    geometry: Geometry
    alpha: Tensor | None = None
    steering: Tensor | None = None
    estimated: bool = True
    smooth: int = 0
    global_statistics: GlobalStatistics | None = None
    kinds: tuple[str, ...] = FIRST_KINDS
    calibration: Calibration = DEFAULT

    @property
    def picture(self) -> Tensor:
        """The damaged picture as the networks take it, `B 3 H W`, -1..1: a new tensor. Cut large pictures
        with `tiles.seen` instead."""
        return to_unit(self.image)

    @property
    def unpadded(self) -> Tensor:
        """The damaged picture in its original size, `B h w 3`, 0..1 (a view)."""
        return self.image[:, : self.geometry.height, : self.geometry.width]

    @property
    def steered(self) -> Tensor:
        """`steering`, `B K`, with ones where it is None."""
        return torch.ones_like(self.severities) if self.steering is None else self.steering

    @property
    def to_remove(self) -> Tensor:
        """Severities `B K`, 0..1, times the steering. The denoiser's tokens encode these; reports show
        `severities`."""
        return self.severities * self.steered


def require_width(prior: Prior, width: int) -> None:
    """Raise ValueError unless `prior` is a Prior whose features have `width` channels."""
    require_kind("prior", prior, Prior, SOURCE)
    found = prior.features.shape[1]
    if found != width:
        raise ValueError(
            f"the prior's features have {found} channels, this restorer's {width}. "
            "Encode the prior with the restorer that is connected here."
        )


def require_estimate(prior: Prior) -> None:
    """Raise ValueError unless `prior` is a Prior from a restorer with a degradation head."""
    require_kind("prior", prior, Prior, SOURCE)
    if not prior.estimated:
        raise ValueError(
            "the restorer that made this prior has no degradation head (UniLDiff's and FaithDiff's published "
            "files have none), so there is "
            "nothing to show or to steer. Leave this node out, or encode the prior with a restorer that was "
            "trained here."
        )


def require_same_size(samples: Tensor, prior: Prior) -> None:
    """Raise ValueError unless the latent `samples`, `B C h w`, has the size of the prior's latent."""
    if samples.ndim != 4 or samples.shape[-2:] != prior.latent.shape[-2:]:
        ours, theirs = tuple(prior.latent.shape[-2:]), tuple(samples.shape[2:])
        raise ValueError(
            f"the latent is {theirs}, the prior {ours} (height, width in latent pixels): they belong to "
            "pictures of "
            "different sizes. Encode the prior from the picture that is restored, and use the LATENT of "
            "Encode Degradation Prior."
        )


def require_sampled(samples: Tensor, prior: Prior) -> None:
    """Raise ValueError unless `samples`, `B C h w`, are finite latents of the prior's pictures, or several of
    its only picture."""
    require_same_size(samples, prior)
    if samples.shape[1] != prior.latent.shape[1] or len(prior.latent) not in (1, len(samples)):
        raise ValueError(
            f"the latent is {tuple(samples.shape)}, the prior's {tuple(prior.latent.shape)} "
            "(batch, channels, height, width). Connect the LATENT that was sampled with this prior."
        )
    if not torch.isfinite(samples).all():
        raise ValueError(
            "the sampled latent holds NaN or infinite values, so they come from the sampler: some schedulers "
            "make them of few steps (kl_optimal of one). Take more steps, or another scheduler; with a MODEL "
            "in fp16, start ComfyUI with --fp32-unet."
        )


def require_start(samples: Tensor, prior: Prior) -> None:
    """Raise ValueError unless sampling can start from the latent `samples`, `B C h w`, with `prior`."""
    channels = prior.latent.shape[1]
    if samples.shape[1] != channels:
        raise ValueError(
            f"the latent has {samples.shape[1]} channels, this MODEL's have {channels}. Encode the picture "
            "with the VAE that belongs to this MODEL, or use the LATENT of Encode Degradation Prior."
        )
    require_same_size(samples, prior)
    if len(samples) != len(prior.latent) and len(prior.latent) != 1:
        raise ValueError(
            f"{len(samples)} latents for a prior of {len(prior.latent)} pictures; expected as many."
        )
