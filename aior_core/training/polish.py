"""The stage `polish`: decoder and DAEM learn what damages pixels by its squared error, and go on making of all else what they made before.

Few samples at the end teach a small network what they show and cost it the rest, haze and rain first. So only noise, blur, low resolution and JPEG have a truth here.
Weather, darkness and clean pictures are held to what the weights made of them when the stage began, which asks nothing as long as nothing changed.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..degradations import Recipe, Step, preset_recipe, sample_recipe, shares
from ..models.config import CompactConfig
from . import distributed, losses
from .networks import Networks, build
from .restoration import Plan, damaged, draw_plan, encode_prior, repair, start_latent

LOCAL = shares("polish")
LOCAL_SHARE = 0.6
LOCAL_COUNTS = (0.0, 0.75, 0.25)
HELD = shares("hold")
"""Haze above all: what is taken for it in pale pictures is what changes first."""
CLEAN_SHARE = 0.06
STRONG_SHARE, STRONG = 0.4, (10, 20)
"""Of all JPEG, how much has a quality in which range: there most is left to learn."""
HOLD, PLAINLY = 2.0, 1 / 8
SCALE = 1 / 30
"""Of decibels, so that gradients are as large as other stages', which the loop clips at 1."""


def draw(generator: torch.Generator) -> tuple[Plan, bool]:
    """What becomes of one clean picture, and whether the truth counts for it."""
    local, rare, place = torch.rand(3, generator=generator).tolist()
    if local < LOCAL_SHARE:
        steps = sample_recipe(generator, weights=LOCAL, spatial=0.1, count_weights=LOCAL_COUNTS).steps
        if rare < STRONG_SHARE:
            steps = tuple(_strong(each, place) if each.kind == "jpeg" else each for each in steps)
        return Plan(Recipe(steps)), True
    return (Plan() if rare < CLEAN_SHARE else draw_plan(generator, weights=HELD)), False


def _strong(jpeg: Step, place: float) -> Step:
    """The same of a quality within `STRONG`, at `place` 0..1 of it."""
    low, high = STRONG
    changed = preset_recipe(
        "jpeg",
        1.0,
        jpeg.seed,
        quality=int(low + (high - low) * place),
        subsampling=jpeg.params["subsampling"],
    ).steps[0]
    return replace(changed, mask=jpeg.mask)


def choose(generator: torch.Generator) -> str:
    """A third of the batches start from the LQ picture's latent, half from one sampled in four steps; an eighth of all teach the plain decoder too."""
    start, plain = torch.rand(2, generator=generator).tolist()
    return ("lq" if start < 0.35 else "1" if start < 0.5 else "4") + (" and plain" if plain < PLAINLY else "")


def step(
    networks: Networks,
    clean: Tensor,
    generator: torch.Generator,
    *,
    before: Networks | None = None,
    choice: str | None = None,
) -> tuple[Tensor, dict[str, float | Tensor]]:
    """`before`: the networks as the stage began, of which LQ encoder, denoiser and DAFF are the same (default: `networks`, nothing is held then)."""
    before = before or networks
    count = distributed.world() * len(clean)
    plans, true = zip(*(draw(generator) for _ in range(count)), strict=True)
    own = distributed.rows(count)
    batch, local = (
        damaged(clean, list(plans[own])),
        torch.tensor(true[own], dtype=torch.float32, device=clean.device),
    )
    start, *plain = (choice or choose(generator)).split(" and ")
    with torch.no_grad():
        encoded = encode_prior(before, batch.lq)
        latent = start_latent(before, batch, encoded, start, generator)
        taught, _ = repair(before, encoded, batch.lq, latent, batch.remove)
        wished = before.vae.encode(batch.target) if plain else None
    repaired, _ = repair(networks, encoded, batch.lq, latent, batch.remove)
    held = losses.drifted(repaired, taught, batch.target)
    loss = (local * losses.local(repaired, batch.target) + HOLD * (1 - local) * held).mean()
    gained = losses.decibels(taught, batch.target) - losses.decibels(repaired.detach(), batch.target)
    logs = {"gained": _mean(gained, local), "held": _mean(held, 1 - local).detach()}
    if plain:
        loss = loss + losses.decibels(networks.vae.decode(wished), batch.target).mean()
    return SCALE * loss, logs


def as_they_are(networks: Networks, config: CompactConfig, device: str) -> Networks:
    """A copy that stays as it is; in every process one of the first's."""
    # Built anew: what makes layers fast is bound to those it was made for, and copied layers would compute with their weights.
    kept = build(config)
    kept.load_state_dict(networks.state_dict())
    kept = kept.to(device)
    distributed.share(kept.state_dict().values())
    return kept


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    return (values * weights).sum() / weights.sum().clamp_min(1)
