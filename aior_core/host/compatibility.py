"""Checks that restorer, prior and VAE belong together."""

from __future__ import annotations

from comfy.sd import VAE

from ..pipeline.prior import Prior, require_width
from ..pipeline.validate import require_kind
from .restorer import Restorer, require_restorer


def require_prior(restorer: Restorer, prior: Prior) -> None:
    """Raise ValueError unless `prior` comes from a restorer of the same width."""
    require_restorer(restorer)
    require_width(prior, restorer.config.prior.widths[-1])


def require_steerable(restorer: Restorer, prior: Prior) -> None:
    """Raise ValueError if `prior` is steered and no network would follow: SDXL's denoiser has no degradation
    tokens, so only DAEM can."""
    if prior.steering is not None and not restorer.family.denoiser_reads_severities and restorer.daem is None:
        raise ValueError(
            f"the prior is steered, but this restorer ({restorer.source}) has no DAEM, which is what follows "
            "Steer Degradations "
            "with SDXL. Connect the prior of Encode Degradation Prior directly, or use a restorer with DAEM."
        )


def require_vae(restorer: Restorer, vae: VAE) -> None:
    """Raise ValueError unless `vae` is of the kind that the restorer was made for."""
    require_restorer(restorer)
    require_kind("vae", vae, VAE, "the VAE that goes with the restorer")
    vae.throw_exception_if_invalid()
    family = restorer.family
    if not family.fits_autoencoder(vae.first_stage_model):
        raise ValueError(
            f"this restorer ({restorer.source}) is of the family {family.name} and needs {family.vae_source}."
        )
