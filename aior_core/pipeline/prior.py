"""The degradation prior: what one batch of damaged pictures says about itself."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..host.restorer import Restorer, require_restorer
from ..models.global_statistics import GlobalStatistics
from ..picture import Geometry, to_unit
from .validate import require_kind


@dataclass(frozen=True, eq=False)
class Prior:
    """The wire between the nodes. All tensors fp32 on the host's intermediate device; H and W are the padded size.

    features: LQ feature at f8, `B C H/8 W/8`, in fp16 where the picture is large (`prior_encode.kept_dtype`). skips: the features at f1, f2, f4 (finest first), or None: made again per tile.
    image: the LQ picture `B H W 3`, 0..1; that which came in, not a copy, where nothing was to be padded. latent: the VAE's, `B C H/8 W/8`. severities and probabilities: `B K`, 0..1.
    maps: `B K H/8 W/8`, 0..1. geometry: the size that came in and the padding. alpha: `B h w 1` of the picture that came in.
    steering: `B K`, 0..1, how much of each degradation is to be removed, or None for all of everything. estimated: False where the
    restorer has no degradation head, as published checkpoints; severities, probabilities and maps are zero then and mean nothing.
    smooth: over how many frames on either side what is judged of whole pictures is averaged. global_statistics: what the picture that came in looks like as a
    whole, where the restorer's DAEM judges of it.
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

    @property
    def picture(self) -> Tensor:
        """The LQ picture as networks see it, `B 3 H W`, -1..1, made anew: of large pictures take tiles (`tiling.seen`)."""
        return to_unit(self.image)

    @property
    def unpadded(self) -> Tensor:
        """The LQ picture in the size that came in, `B H W 3`, 0..1 (a view)."""
        return self.image[:, : self.geometry.height, : self.geometry.width]

    @property
    def steered(self) -> Tensor:
        """`steering`, spelt out where it is None."""
        return torch.ones_like(self.severities) if self.steering is None else self.steering

    @property
    def to_remove(self) -> Tensor:
        """Severities `B K`, 0..1, of what is to be removed: what the denoiser's tokens are told, where a report is not."""
        return self.severities * self.steered


def require_prior(restorer: Restorer, prior: Prior) -> None:
    """Raise ValueError unless `prior` was made by a restorer of the same widths."""
    require_restorer(restorer)
    require_kind("prior", prior, Prior, "Encode Degradation Prior")
    wanted, found = restorer.config.prior.widths[-1], prior.features.shape[1]
    if wanted != found:
        raise ValueError(
            f"the prior's features have {found} channels, this restorer's {wanted}. "
            "Encode the prior with the restorer that is connected here."
        )


def require_estimate(prior: Prior) -> None:
    """Raise ValueError if the prior was made by a restorer that cannot say what is wrong with a picture."""
    require_kind("prior", prior, Prior, "Encode Degradation Prior")
    if not prior.estimated:
        raise ValueError(
            "the restorer that made this prior has no degradation head (UniLDiff's and FaithDiff's published files have none), so there is "
            "nothing to show or to steer. Leave this node out, or encode the prior with a restorer that was trained here."
        )


def require_same_size(samples: Tensor, prior: Prior) -> None:
    """Raise ValueError unless a latent `B C h w` covers the same picture as `prior`."""
    if samples.ndim != 4 or samples.shape[-2:] != prior.latent.shape[-2:]:
        ours, theirs = tuple(prior.latent.shape[-2:]), tuple(samples.shape[2:])
        raise ValueError(
            f"the latent is {theirs}, the prior {ours} (height, width in latent pixels): they belong to pictures of "
            "different sizes. Encode the prior from the picture that is restored, and use the LATENT of Encode Degradation Prior."
        )
