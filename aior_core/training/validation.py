"""A quick look at the validation pictures while training: PSNR per damage, and which experts each damage goes to."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..degradations import DEGRADATIONS, Recipe, apply_recipe, preset_recipe
from ..metrics import psnr
from .data import Photographs, centre_crop
from .experts import shares
from .networks import Networks
from .restoration import encode_prior, repair, sample
from .run_log import Logs

PRESETS = {name: (each.name, *watched) for each in DEGRADATIONS for name, watched in each.validation.items()}


def _decibels(picture: Tensor, reference: Tensor) -> float:
    """Mean PSNR of what a viewer would see: the picture clamped."""
    return psnr(picture.clamp(-1, 1), reference).mean().item()


@torch.no_grad()
def autoencoder_psnr(networks: Networks, photographs: Photographs, size: int = 192) -> dict[str, float]:
    crops = [centre_crop(p, size) for p in photographs.pictures]
    return {
        "plain": sum(_decibels(networks.vae.decode(networks.vae.encode(c)), c) for c in crops) / len(crops)
    }


def restoration_psnr(
    photographs: Photographs, *, size: int = 192, count: int = 8, steps: tuple[int, ...] = (0,)
) -> Callable[[Networks], Logs]:
    """A function of the networks: dB of the result per damage, averaged over `count` pictures; steps 0 starts from the LQ latent.

    Beside them, as `experts DAMAGE`, the share of those pictures that each expert got, `levels E`.
    """
    crops = [
        centre_crop(p, size)
        for p in photographs.pictures[:: max(1, len(photographs.pictures) // count)][:count]
    ]

    @torch.no_grad()
    def measure(networks: Networks) -> Logs:
        numbers: Logs = {}
        histograms = {}
        device = next(networks.vae.parameters()).device
        for name, (kind, severity, params) in {**PRESETS, "clean": (None, 0.0, {})}.items():
            recipes = [
                preset_recipe(kind, severity, 1000 + i, **params) if kind else Recipe()
                for i in range(len(crops))
            ]
            routes = []
            for n in steps:
                total = 0.0
                for crop, recipe in zip(crops, recipes):
                    lq = apply_recipe(crop, recipe).to(device)
                    encoded = encode_prior(networks, lq)
                    generator = torch.Generator().manual_seed(7)
                    latent = sample(networks, encoded, n, generator) if n else networks.vae.encode(lq)
                    repaired, routings = repair(networks, encoded, lq, latent)
                    total += _decibels(repaired, crop)
                    routes.append(shares(routings))
                numbers[name if len(steps) == 1 else f"{name}@{n}"] = total / len(crops)
            histograms[f"experts {name}"] = torch.stack(routes).mean(dim=0)
        return numbers | histograms

    return measure
