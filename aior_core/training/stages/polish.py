"""The stage `polish`: decoder and DAEM learn more about damage of single pixels, and keep the rest as it is.

A few samples at the end of training teach a small network what they show and cost it everything else, haze
and rain first. So only noise, blur, low resolution and JPEG are trained against the clean picture here.
Weather, darkness and clean pictures are held to what the weights made of them when the stage began. That
costs nothing as long as nothing changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...degradations import Recipe, Step, preset_recipe, sample_recipe, shares
from ...models.config import CompactConfig
from .. import distributed, losses
from ..data import Photographs
from ..networks import Networks, build
from ..restoration import Plan, damaged, draw_plan, encode_prior, repair, start_latent
from ..run_log import Logs
from ..validation import restoration_psnr
from .base import ANCHOR, Stage, StageRun, Validate

LOCAL = shares("polish")
"""Shares of the kinds that are trained against the clean picture."""
LOCAL_SHARE = 0.6
LOCAL_COUNTS = (0.0, 0.75, 0.25)
HELD = shares("hold")
"""Shares of the kinds whose results are held. Haze is the most frequent: what is taken for haze in pale
pictures is what changes first."""
CLEAN_SHARE = 0.06
STRONG_SHARE, STRONG_QUALITY = 0.4, (10, 20)
"""Share of the JPEG damages whose quality is drawn from a low range: there most is left to learn."""
HOLD_WEIGHT, PLAIN_SHARE = 2.0, 1 / 8
SCALE = 1 / 30
"""Losses in decibels are scaled to gradients as large as those of other stages, which the loop clips at 1."""


def draw_polish_plan(generator: torch.Generator) -> tuple[Plan, bool]:
    """Draw what is done to one clean picture, and whether it is trained against the clean picture (True) or
    held (False)."""
    local, rare, place = torch.rand(3, generator=generator).tolist()
    if local < LOCAL_SHARE:
        steps = sample_recipe(generator, weights=LOCAL, spatial=0.1, count_weights=LOCAL_COUNTS).steps
        if rare < STRONG_SHARE:
            steps = tuple(_strong_jpeg(each, place) if each.kind == "jpeg" else each for each in steps)
        return Plan(Recipe(steps)), True
    return (Plan() if rare < CLEAN_SHARE else draw_plan(generator, weights=HELD)), False


def _strong_jpeg(jpeg: Step, place: float) -> Step:
    """The same step with a quality from `STRONG_QUALITY`, at `place` 0..1 of that range."""
    low, high = STRONG_QUALITY
    changed = preset_recipe(
        "jpeg",
        1.0,
        jpeg.seed,
        quality=int(low + (high - low) * place),
        subsampling=jpeg.params["subsampling"],
    ).steps[0]
    return replace(changed, mask=jpeg.mask)


@dataclass(frozen=True)
class PolishStage(Stage):
    """before: the networks as they were when the stage began; LQ encoder, denoiser and DAFF are still the
    same. None for the networks themselves, which holds nothing."""

    before: Networks | None = None

    def choose(self, generator: torch.Generator) -> str:
        """Which latent is decoded: the damaged picture's for 35 % of the batches ("lq"), one sampled in one
        step for 15 % ("1") and in four steps for half ("4"); and whether the batch trains plain decoding
        too."""
        start, plain = torch.rand(2, generator=generator).tolist()
        latent = "lq" if start < 0.35 else "1" if start < 0.5 else "4"
        return latent + (" and plain" if plain < PLAIN_SHARE else "")

    def step(
        self,
        networks: Networks,
        clean: Tensor,
        generator: torch.Generator,
        *,
        choice: str | None = None,
        **batch,
    ) -> tuple[Tensor, Logs]:
        before = self.before or networks
        count = distributed.world() * len(clean)
        plans, trained = zip(*(draw_polish_plan(generator) for _ in range(count)), strict=True)
        rows = distributed.rows(count)
        made = damaged(clean, list(plans[rows]))
        local = torch.tensor(trained[rows], dtype=torch.float32, device=clean.device)
        start, *plain = (choice or self.choose(generator)).split(" and ")
        with torch.no_grad():
            encoded = encode_prior(before, made.lq)
            latent = start_latent(before, made, encoded, start, generator)
            taught, _ = repair(before, encoded, made.lq, latent, made.remove)
            target_latent = before.vae.encode(made.target) if plain else None
        repaired, _ = repair(networks, encoded, made.lq, latent, made.remove)
        held = losses.drifted(repaired, taught, made.target)
        loss = (local * losses.local(repaired, made.target) + HOLD_WEIGHT * (1 - local) * held).mean()
        gained = losses.decibels(taught, made.target) - losses.decibels(repaired.detach(), made.target)
        logs: Logs = {
            "gained": _weighted_mean(gained, local),
            "held": _weighted_mean(held, 1 - local).detach(),
        }
        if target_latent is not None:
            loss = loss + losses.decibels(networks.vae.decode(target_latent), made.target).mean()
        return SCALE * loss, logs

    def prepare(self, run: StageRun, given: Mapping[str, Tensor], *, resumed: bool) -> Stage:
        return replace(self, before=frozen_copy(run.networks, run.config, run.device))

    def validation(self, held_out: Photographs) -> Validate | None:
        return restoration_psnr(held_out, count=4, steps=(0, 4))


def frozen_copy(networks: Networks, config: CompactConfig, device: str) -> Networks:
    """A copy of the networks that is never trained; every process gets the first one's."""
    # Built anew: the fast forward functions are bound to the layers that they were made for. `copy.deepcopy`
    # would leave the copied layers computing with the weights of the original.
    frozen = build(config)
    frozen.load_state_dict(networks.state_dict())
    frozen = frozen.to(device)
    distributed.broadcast_tensors(frozen.state_dict().values())
    return frozen


def _weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    return (values * weights).sum() / weights.sum().clamp_min(1)


def _crops(progress: float, step: int) -> tuple[int, int]:
    return (192, 2) if step % 4 == 3 else (128, 4)


POLISH = PolishStage(
    "polish",
    trains=("vae.decoder", "daem"),
    learning_rate=7.0e-5,
    crops=_crops,
    exports=("vae.decoder", "daem"),
    fixed=(*ANCHOR, "daem.curve", "daem.kept"),
    muon=False,
)
