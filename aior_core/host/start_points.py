"""The start point that needs the VAE: UniLDiff's own, with its mistake."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from comfy.sd import VAE

from ..pipeline.prior import Prior
from .compatibility import require_vae
from .restorer import Restorer
from .sampling import START_POINTS as WITHOUT_VAE

ONCE, TWICE = "lq_official", "lq_official_2i-1"
START_POINTS = (*WITHOUT_VAE, TWICE)


def started(
    restorer: Restorer, prior: Prior, start: str, vae: VAE | None, latent: dict[str, Any] | None
) -> tuple[Prior, str]:
    """The prior and the start point for `sample_daff`: the given ones, except for "lq_official_2i-1".

    UniLDiff's inference code maps the damaged picture to -1..1 although it is in -1..1 already, so its VAE
    sees -3..1 (`docs/method.md`, section 8). This is "lq_official" with a prior that holds the latent of such
    a picture; nothing else in the prior changes. A given `latent` takes precedence over any start point.
    Raises ValueError if there is no VAE of the restorer's kind.
    """
    if start != TWICE:
        return prior, start
    if latent is not None:
        return prior, ONCE
    if vae is None:
        raise ValueError(
            f"the start point {TWICE} encodes the damaged picture anew and needs the VAE of the SDXL "
            "checkpoint. "
            "Connect it to vae, or use lq_official, which needs none."
        )
    require_vae(restorer, vae)
    # The host's VAE takes pictures of 0..1 and does this very mapping: given one of -1..1, it sees 2I - 1.
    encoded = vae.encode(prior.picture.movedim(1, -1)).float()
    if not torch.isfinite(encoded).all():
        raise RuntimeError(
            f"NaN or infinite values in the latent of the start point {TWICE}. Start ComfyUI with --fp32-vae."
        )
    return replace(prior, latent=encoded.to(prior.latent)), ONCE
