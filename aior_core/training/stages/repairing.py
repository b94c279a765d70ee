"""What the stages that decode with DAEM share: their losses, and which latent they decode."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...metrics.perceptual import learned_distance
from ...models.daem_level import Routing
from ...pipeline.encode import Encoded
from .. import distributed, experts, losses
from ..data import Photographs
from ..networks import Networks
from ..restoration import Batch
from ..run_log import Logs
from ..validation import restoration_psnr
from .base import Stage, Validate

HEAD_WEIGHT, BALANCE_WEIGHT, PLAIN_WEIGHT = 0.08, 5e-3, 0.3


def plain_decoder_loss(networks: Networks, clean: Tensor) -> Tensor:
    """The loss of decoding without the experts: the same decoder is the pack's plain VAE, and has to remain
    it."""
    with torch.no_grad():
        latent = networks.vae.encode(clean)
    return PLAIN_WEIGHT * losses.reconstruction(networks.vae.decode(latent), clean)


def balance_loss(routings: list[Routing], top_k: int) -> Tensor:
    """The load balance of the whole batch of all processes, summed over the decoder's levels; 0 for a batch
    of one sample."""
    whole = [
        replace(r, logits=distributed.gather(r.logits), noisy=distributed.gather(r.noisy)) for r in routings
    ]
    each = [losses.balance(r, top_k) if len(r.logits) > 1 else r.logits.new_zeros(()) for r in whole]
    return sum(each[1:], each[0])


def head_loss(encoded: Encoded, batch: Batch) -> Tensor:
    """The loss of the degradation head against what was done to the pictures; real pairs do not count."""
    return losses.severity(
        encoded.presence_logits,
        encoded.severity_logits,
        encoded.map_logits,
        batch.severities,
        batch.maps,
        batch.known,
    )


def repair_loss(
    repaired: Tensor, routings: list[Routing], encoded: Encoded, batch: Batch, top_k: int
) -> tuple[Tensor, Logs]:
    """The loss of `detail`: the picture, the degradation head, and the balance of the experts' load."""
    fit = losses.restoration(repaired, batch.target, ssim_weight=0)
    head = head_loss(encoded, batch)
    balance = balance_loss(routings, top_k)
    logs: Logs = {
        "fit": fit.detach(),
        "head": head.detach(),
        "balance": balance.detach(),
        "experts": experts.shares(routings),
    }
    return fit + HEAD_WEIGHT * head + BALANCE_WEIGHT * balance, logs


def perceptual_loss(repaired: Tensor, target: Tensor, choice: str, weight: float) -> Tensor | float:
    """`weight` times ST-LPIPS of pictures that were sampled in four steps, 0 for others.

    One step gives the mean of all plausible pictures. Four may look better at a small cost in fidelity.
    """
    return weight * learned_distance(repaired, target).mean() if weight and choice == "4" else 0.0


@dataclass(frozen=True)
class SampledStage(Stage):
    """A stage that decodes latents as people will get them: mostly sampled ones.

    perceptual: the weight of ST-LPIPS on pictures that were sampled in four steps.
    """

    perceptual: float = 0.0

    def choose(self, generator: torch.Generator) -> str:
        """Which latent a batch is decoded from: the target's for 8 % of the batches ("target"), the damaged
        picture's for 5 % ("lq"), zeros for 15 % ("none"), one sampled in one step for 30 % ("1") and in four
        steps for 42 % ("4")."""
        roll = torch.rand((), generator=generator).item()
        for below, choice in ((0.08, "target"), (0.13, "lq"), (0.28, "none"), (0.58, "1")):
            if roll < below:
                return choice
        return "4"

    def with_perceptual(self, weight: float) -> Stage:
        return replace(self, perceptual=weight)

    def validation(self, held_out: Photographs) -> Validate | None:
        return restoration_psnr(held_out, count=4, steps=(0, 1, 4))
