"""What every restoring stage shares: damaged batches, and the walk from a damaged picture to a repaired one
(`pipeline`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, amp

from ..degradations import KINDS, Recipe, apply_recipe, degrade_batch, sample_clean, sample_world, shares
from ..models.daem_level import Routing
from ..pipeline.decode import decode_encoded
from ..pipeline.encode import Encoded, encode_batch
from ..pipeline.fuse import predict_velocity, sample_euler
from ..pipeline.prior import FACTOR
from . import distributed
from .networks import Networks
from .pairs import Real

SELECTIVE = 0.2
SPATIAL = 0.2
LOOK_ALIKE, OF_CLEAN = 0.08, 4
"""The share of clean pictures that get what looks like damage but is none, and by how much that share is
higher for pictures without damage."""
COUNTS = (0.05, 0.52, 0.25, 0.18)
SELECTIVE_COUNTS = (0.0, 0.35, 0.5, 0.15)
"""Probabilities of 0, 1, 2 and 3 damages where some are kept: more mixtures, because a single damage that is
kept leaves nothing to repair."""
WEIGHTS = shares("training")
WEIGHTS_OF_THREE = shares("training of three")
"""Weights for three damages at once, because bad weather comes together. A third of noisy pictures with rain
are hazy with these weights, an eighth with `WEIGHTS`. The head's mean probability of haze for validation's
hazy pictures rises from 0.40 to 0.59, and the highest for a clear one from 0.40 to 0.58. Haze with rain and
noise gains 2.6 dB, and rain with noise loses 0.6 dB."""


@dataclass(frozen=True)
class Batch:
    """Damaged pictures and what they should become.

    lq, target: `B 3 H W`, -1..1. severities: `B K`, 0..1. maps: `B K h w`, 0..1.
    remove: `B K`, 1 for a degradation to remove, 0 for one that the target still has (selective restoration).
    known: `B`, 0 for real pairs, whose severities are unknown, else 1.
    """

    lq: Tensor
    target: Tensor
    severities: Tensor
    maps: Tensor
    remove: Tensor
    known: Tensor


@dataclass(frozen=True)
class Plan:
    """What happens to one clean picture.

    recipe: the damages. kept: the kinds whose damage the target keeps. real: the picture is half of a real
    pair. look: applied to the clean picture itself first, and no damage.
    """

    recipe: Recipe = Recipe()
    kept: tuple[str, ...] = ()
    real: bool = False
    look: Recipe = Recipe()


def damage(
    clean: Tensor,
    generator: torch.Generator,
    *,
    selective: float = SELECTIVE,
    weights: Mapping[str, float] | None = None,
    real: Real | None = None,
    made: Batch | None = None,
) -> Batch:
    """Damage clean pictures `B 3 H W`, -1..1, with one recipe each. In a share of `selective`, the target
    keeps some of the damage.

    weights: how often each kind occurs (default: `WEIGHTS`, and `WEIGHTS_OF_THREE` for three at once); kinds
    that are not named do not occur.
    real: rows that are damaged already. made: the batch, if it was made before (`prefetch`); then nothing is
    drawn.
    """
    if made is not None:
        return made
    count = distributed.world() * len(clean)
    plans = [draw_plan(generator, selective=selective, weights=weights) for _ in range(count)]
    rows = (False,) * count if real is None else real.rows
    plans = [Plan(real=True) if is_real else plan for is_real, plan in zip(rows, plans, strict=True)]
    return damaged(clean, plans[distributed.rows(count)], None if real is None else real.lq)


def damaged(clean: Tensor, plans: list[Plan], lq: Tensor | None = None) -> Batch:
    """Clean pictures `B 3 H W`, -1..1, damaged by one plan each. For a real pair the damaged picture is the
    row of `lq`."""
    with amp.autocast(clean.device.type, enabled=False):
        clean = clean.clone()
        for index, plan in enumerate(plans):
            if plan.look.steps:
                clean[index] = apply_recipe(clean[index : index + 1], plan.look)[0]
        bad, severities, maps = degrade_batch(clean, [plan.recipe for plan in plans])
        remove = torch.ones_like(severities)
        known = torch.ones_like(severities[:, 0])
        target = clean.clone()
        for index, plan in enumerate(plans):
            if plan.kept:
                target[index] = apply_recipe(clean[index : index + 1], plan.recipe.only(plan.kept))[0]
                remove[index, [KINDS.index(kind) for kind in plan.kept]] = 0
        rows = [index for index, plan in enumerate(plans) if plan.real]
        if rows:
            assert lq is not None, "real pairs need their damaged pictures"
            bad[rows], known[rows] = lq[rows], 0
    layout = torch.channels_last
    bad, target = (x.contiguous(memory_format=layout) for x in (bad, target))
    return Batch(bad, target, severities, maps, remove, known)


# Recipes are measured on the processor, also in a step that computes in bfloat16: the same seed is to give
# the same recipe there.
@amp.autocast("cpu", enabled=False)
def draw_plan(
    generator: torch.Generator, *, selective: float = SELECTIVE, weights: Mapping[str, float] | None = None
) -> Plan:
    """A random plan as training mixes them. weights: as in `damage`. In a share of `selective`, the target
    keeps each kind with probability 1/2."""
    part = torch.rand((), generator=generator).item() < selective
    counts = SELECTIVE_COUNTS if part else COUNTS
    many = int(torch.multinomial(torch.tensor(counts), 1, generator=generator).item())
    if weights is None:
        weights = WEIGHTS_OF_THREE if many > 2 else WEIGHTS
    recipe = sample_world(
        generator, weights=weights, spatial=SPATIAL, count_weights=(0.0,) * many + (1.0,), separable=part
    )
    kinds = recipe.kinds() if part else ()
    kept = tuple(kind for kind in kinds if torch.rand((), generator=generator).item() < 0.5)
    alike = torch.rand((), generator=generator).item() < LOOK_ALIKE * (1 if recipe.steps else OF_CLEAN)
    return Plan(recipe, kept, look=sample_clean(generator) if alike else Recipe())


def encode_prior(networks: Networks, lq: Tensor) -> Encoded:
    """Encode damaged pictures `B 3 H W`, -1..1, with gradients."""
    return encode_batch(networks.prior, networks.daem, lq)


@torch.no_grad()
def encode_for_fusion(
    networks: Networks, clean: Tensor, generator: torch.Generator, **mix
) -> tuple[Tensor, Tensor, Tensor]:
    """Damage clean pictures and encode what `fusion` learns from; `mix` are keywords of `damage`.

    Returns the target's latent `B 16 h w`, the damaged picture's deepest LQ feature `B C h w`, and the
    severities to remove, `B K`.
    """
    batch = damage(clean, generator, **mix)
    encoded = encode_prior(networks, batch.lq)
    return networks.vae.encode(batch.target), encoded.features[-1], encoded.severities * batch.remove


def repair(
    networks: Networks,
    encoded: Encoded,
    lq: Tensor,
    latent: Tensor,
    remove: Tensor | None = None,
    noise: torch.Generator | None = None,
) -> tuple[Tensor, list[Routing]]:
    """Decode `latent`, `B 16 h w`, with DAEM: the pictures `B 3 H W`, and each level's routing, deepest
    first.

    remove: as in `Batch` (default: everything). noise: perturbs the routers' logits.
    """
    return decode_encoded(networks.vae, networks.daem, latent, encoded, lq, remove, noise=noise)


def fused_velocity(
    networks: Networks, x: Tensor, sigma: Tensor, tokens: Tensor, condition: Tensor | None
) -> Tensor:
    """The denoiser's velocity at noise level `sigma` (`B`), with DAFF where there is a condition; see
    `predict_velocity`."""
    return predict_velocity(networks.unet, networks.daff, x, sigma, tokens, condition)


@torch.no_grad()
def sample(
    networks: Networks,
    encoded: Encoded,
    steps: int,
    generator: torch.Generator,
    remove: Tensor | None = None,
) -> Tensor:
    """Sample the restored latent `B 16 h w` from pure noise, in equal steps of sigma; see `sample_euler`.
    remove: as in `Batch`."""
    assert networks.prior.tokens is not None
    severities = encoded.severities if remove is None else encoded.severities * remove
    tokens = networks.prior.tokens(severities)
    condition = networks.daff.embed(encoded.features[-1])
    batch, _, height, width = encoded.features[-1].shape
    shape = (batch, networks.vae.config.latent_channels, height, width)
    noise = distributed.normal(shape, generator, condition.device)
    return sample_euler(lambda x, sigma: fused_velocity(networks, x, sigma, tokens, condition), noise, steps)


@torch.no_grad()
def start_latent(
    networks: Networks, batch: Batch, encoded: Encoded, choice: str, generator: torch.Generator
) -> Tensor:
    """The latent to decode, `B 16 h w`.

    choice: "none" is zeros; "lq" and "target" are the latents of the damaged picture and of the target;
    "noised" is the target's with noise; a number samples in so many steps.
    """
    if choice.isdigit():
        return sample(networks, encoded, int(choice), generator, batch.remove)
    if choice == "none":
        height, width = batch.lq.shape[2] // FACTOR, batch.lq.shape[3] // FACTOR
        return batch.lq.new_zeros(len(batch.lq), networks.vae.config.latent_channels, height, width)
    latent = networks.vae.encode(batch.lq if choice == "lq" else batch.target)
    if choice != "noised":
        return latent
    return with_noise(latent, 0.1, 0.8, generator)


def with_noise(latent: Tensor, low: float, high: float, generator: torch.Generator) -> Tensor:
    """A latent `B C h w` on its way to noise: every row at its own sigma, uniform in `low`..`high`."""
    sigma = (low + (high - low) * distributed.uniform((len(latent), 1, 1, 1), generator)).to(latent)
    noise = distributed.normal(latent.shape, generator, latent.device).to(latent)
    return (1 - sigma) * latent + sigma * noise
