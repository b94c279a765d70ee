"""A start point that needs the VAE: UniLDiff's own, its slip included."""

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
    """Prior and start point for `sample_daff`; they are those given, except for "lq_official_2i-1".

    UniLDiff's inference code maps the damaged picture, -1..1 already, to -1..1 once more, so that its VAE sees -3..1 (unildiff.md
    section 6). That is "lq_official" on a prior that holds the latent of such a picture; the rest of the prior stays as it is. A
    `latent` that is given comes before any start point. Raises ValueError without a VAE of the restorer's kind.
    """
    if start != TWICE:
        return prior, start
    if latent is not None:
        return prior, ONCE
    if vae is None:
        raise ValueError(
            f"the start point {TWICE} encodes the damaged picture anew and needs the VAE of the SDXL checkpoint. "
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
