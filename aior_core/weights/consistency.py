"""Parts of one file that must go together: each can be whole by itself and belong to another model."""

from __future__ import annotations

from ..models.config import AutoencoderConfig, CompactConfig, RestorerConfig, UNetConfig
from ..models.family import COMPACT

WIDEST_EXPERT = 63
"""Reach of an expert's kernel, dilation and all: a larger one would pad every level by more than a picture."""


def require_consistent(config: CompactConfig | RestorerConfig) -> None:
    """Raise ValueError naming the numbers of two parts that differ, or that the walk cannot be walked with."""
    restorer = config.restorer if isinstance(config, CompactConfig) else config
    problems = _restorer(restorer)
    if isinstance(config, CompactConfig):
        problems += _compact(config.autoencoder, config.unet, restorer)
    if problems:
        raise ValueError(
            f"The parts of these weights do not go together: {'; '.join(problems)}. Files of two models were mixed, or one is damaged."
        )


def _restorer(restorer: RestorerConfig) -> list[str]:
    prior, daff, daem = restorer.prior, restorer.daff, restorer.daem
    problems = _differ(("levels of the LQ encoder", len(prior.widths)), ("expected", restorer.family.levels))
    problems += _differ(
        ("channels of the LQ encoder", prior.widths[-1]), ("of DAFF's condition", daff.condition_width)
    )
    if daem is None:
        return problems
    problems += _differ(("levels of DAEM", len(daem.widths)), ("expected", restorer.family.levels))
    problems += _differ(("channels of the LQ encoder", prior.widths), ("of DAEM's skips", daem.skip_widths))
    problems += _differ(
        ("channels of the LQ encoder", prior.widths[-1]), ("of DAEM's context", daem.prior_width)
    )
    if daem.top_k > len(daem.kernels):
        problems.append(f"DAEM chooses {daem.top_k} of {len(daem.kernels)} experts")
    problems += [
        f"DAEM has an expert of kernel {kernel} and dilation {dilation}"
        for kernel, dilation in zip(daem.kernels, daem.dilations)
        if kernel % 2 == 0 or 1 + dilation * (kernel - 1) > WIDEST_EXPERT
    ]
    heads = [max(1, width // daem.head_channels) for width in daem.widths]
    problems += [
        f"DAEM has {width} channels for {count} heads"
        for width, count in zip(daem.widths, heads)
        if width % count
    ]
    # A level is pooled by a divisor of its size in the smallest tile.
    problems += [
        f"DAEM pools level {i} by {pool}"
        for i, pool in enumerate(daem.pools)
        if 2 ** (len(daem.pools) - 1 - i) % pool
    ]
    return problems


def _compact(autoencoder: AutoencoderConfig, unet: UNetConfig, restorer: RestorerConfig) -> list[str]:
    problems = _differ(("family", restorer.family.name), ("of a compact model", COMPACT.name))
    problems += _differ(
        ("levels of the autoencoder", len(autoencoder.widths)), ("expected", restorer.family.levels)
    )
    problems += _differ(
        ("latent channels of the autoencoder", autoencoder.latent_channels),
        ("of the denoiser", unet.in_channels),
    )
    problems += _differ(
        ("channels of the denoiser", unet.model_channels), ("of DAFF", restorer.daff.unet_width)
    )
    if restorer.prior.head_width:
        problems += _differ(
            ("channels of the denoiser's context", unet.context_dim),
            ("of the degradation tokens", restorer.prior.context_width),
        )
    else:
        problems.append("a compact model without degradation tokens for its denoiser")
    if restorer.daem is not None:
        problems += _differ(
            ("channels of the autoencoder", autoencoder.widths), ("of DAEM", restorer.daem.decoder_widths)
        )
    return problems


def _differ(one: tuple[str, object], other: tuple[str, object]) -> list[str]:
    return [] if one[1] == other[1] else [f"{one[0]} {one[1]}, {other[0]} {other[1]}"]
