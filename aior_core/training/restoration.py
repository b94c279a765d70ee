"""What every restoring stage shares: damaged batches, and the way from a damaged picture to a repaired one."""

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
from . import distributed
from .networks import Networks
from .pairs import Real

SELECTIVE = 0.2
SPATIAL = 0.2
LOOK_ALIKE, OF_CLEAN = 0.08, 4
"""How often a clean picture gets what looks like damage and is none, and how many times as often where it is not damaged otherwise."""
COUNTS = (0.05, 0.52, 0.25, 0.18)
SELECTIVE_COUNTS = (0.0, 0.35, 0.5, 0.15)
"""Where a part is to be kept: more mixtures, as a single damage that is kept leaves nothing to repair."""
WEIGHTS = shares("training")
WEIGHTS_OF_THREE = shares("training of three")
"""Of three damages at once: bad weather comes together. Of noisy pictures of rain a third are hazy with these, and an eighth were with `WEIGHTS`. The
head then gave validation's hazy ones 0.40 in the mean, 0.59 now, and none that is clear more than 0.40, 0.58 now: haze with rain and noise gained
2.6 dB by it, rain with noise lost 0.6."""


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
    """What becomes of one clean picture: its recipe, the kinds whose damage the target keeps, whether it is half of a real pair, and what is
    done to the clean picture itself before that is no damage."""

    recipe: Recipe = Recipe()
    kept: tuple[str, ...] = ()
    real: bool = False
    look: Recipe = Recipe()


def damage(
    clean: Tensor, generator: torch.Generator, *, selective: float = SELECTIVE, weights: Mapping[str, float] | None = None,
    real: Real | None = None, made: Batch | None = None,
) -> Batch:  # fmt: skip
    """Damage `clean` with one recipe a sample; in a share of `selective` a part of the damage stays in the target.

    `weights`: how often each kind occurs (default: `WEIGHTS`, of three at once `WEIGHTS_OF_THREE`; kinds not named do not).
    `real`: rows that come damaged already. `made`: what was made of it before, see `ahead`; nothing is drawn then.
    """
    if made is not None:
        return made
    count = distributed.world() * len(clean)
    plans = [draw_plan(generator, selective=selective, weights=weights) for _ in range(count)]
    rows = (False,) * count if real is None else real.rows
    plans = [Plan(real=True) if is_real else plan for is_real, plan in zip(rows, plans, strict=True)]
    return damaged(clean, plans[distributed.rows(count)], None if real is None else real.lq)


def damaged(clean: Tensor, plans: list[Plan], lq: Tensor | None = None) -> Batch:
    """`clean` (`B 3 H W`, -1..1) damaged by one plan each; where a plan is of a real pair, the damaged picture is that row of `lq`."""
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
            bad[rows], known[rows] = lq[rows], 0
    layout = {"memory_format": torch.channels_last}
    return Batch(bad.contiguous(**layout), target.contiguous(**layout), severities, maps, remove, known)


def draw_plan(
    generator: torch.Generator, *, selective: float = SELECTIVE, weights: Mapping[str, float] | None = None
) -> Plan:
    """A recipe as training mixes them, `weights` as in `damage`; in a share of `selective` each of its kinds stays in the target by a toss."""
    part = torch.rand((), generator=generator).item() < selective
    counts = SELECTIVE_COUNTS if part else COUNTS
    many = torch.multinomial(torch.tensor(counts), 1, generator=generator).item()
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

    Returns the target's latent `B 16 h w`, the damaged picture's deepest LQ feature `B C h w`, and the severities to remove, `B K`.
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
    """Decode `latent`, `B 16 h w`, with DAEM: the pictures `B 3 H W`, and each level's routing, deepest first.

    remove: as in `Batch` (default: everything). noise: perturbs the routers' logits.
    """
    return decode_encoded(networks.vae, networks.daem, latent, encoded, lq, remove, noise=noise)


def fused_velocity(
    networks: Networks, x: Tensor, sigma: Tensor, tokens: Tensor, condition: Tensor | None
) -> Tensor:
    """The denoiser's velocity at noise level `sigma` (`B`), with DAFF where there is a condition; see `predict_velocity`."""
    return predict_velocity(networks.unet, networks.daff, x, sigma, tokens, condition)


@torch.no_grad()
def sample(
    networks: Networks,
    encoded: Encoded,
    steps: int,
    generator: torch.Generator,
    remove: Tensor | None = None,
) -> Tensor:
    """Sample the restored latent `B 16 h w` from pure noise, in equal steps of sigma; see `sample_euler`. remove: as in `Batch`."""
    severities = encoded.severities if remove is None else encoded.severities * remove
    tokens = networks.prior.tokens(severities)
    condition = networks.daff.embed(encoded.features[-1])
    batch, _, height, width = encoded.features[-1].shape
    shape = (batch, networks.unet.in_channels, height, width)
    noise = distributed.normal(shape, generator, condition.device)
    return sample_euler(lambda x, sigma: fused_velocity(networks, x, sigma, tokens, condition), noise, steps)


@torch.no_grad()
def start_latent(
    networks: Networks, batch: Batch, encoded: Encoded, choice: str, generator: torch.Generator
) -> Tensor:
    """What is decoded, `B 16 h w`: "none", the "lq" or "target" picture's, the latter "noised", or what so many steps make ("1", "4")."""
    if choice.isdigit():
        return sample(networks, encoded, int(choice), generator, batch.remove)
    if choice == "none":
        return batch.lq.new_zeros(
            len(batch.lq), networks.unet.in_channels, batch.lq.shape[2] // 8, batch.lq.shape[3] // 8
        )
    latent = networks.vae.encode(batch.lq if choice == "lq" else batch.target)
    if choice != "noised":
        return latent
    sigma = (0.1 + 0.7 * distributed.uniform((len(latent), 1, 1, 1), generator)).to(latent)
    return (1 - sigma) * latent + sigma * distributed.normal(latent.shape, generator, latent.device).to(
        latent
    )
