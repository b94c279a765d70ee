"""Validation during training: the PSNR of each damage, and which experts each damage goes to."""

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
    """Mean PSNR of the picture as a viewer sees it, clamped to -1..1."""
    return psnr(picture.clamp(-1, 1), reference).mean().item()


@torch.no_grad()
def autoencoder_psnr(networks: Networks, photographs: Photographs, size: int = 192) -> Logs:
    """The dB of plain encoding and decoding, averaged over the middle `size` x `size` pixels of the
    pictures."""
    device = next(networks.vae.parameters()).device
    crops = [centre_crop(p, size).to(device) for p in photographs.pictures]
    total = sum(_decibels(networks.vae.decode(networks.vae.encode(c)), c) for c in crops)
    return {"plain": total / len(crops)}


def restoration_psnr(
    photographs: Photographs, *, size: int = 192, count: int = 8, steps: tuple[int, ...] = (0,)
) -> Callable[[Networks], Logs]:
    """A function of the networks that measures the dB of the result for each damage, averaged over `count`
    pictures.

    steps: how many sampling steps make the latent; 0 decodes the damaged picture's latent. The logs are named
    `DAMAGE`, or `DAMAGE@STEPS` where there are several; `experts DAMAGE` is the share of the pictures that
    each expert got, `levels E`.
    """
    every = max(1, len(photographs.pictures) // count)
    crops = [centre_crop(p, size) for p in photographs.pictures[::every][:count]]

    @torch.no_grad()
    def measure(networks: Networks) -> Logs:
        numbers: Logs = {}
        histograms = {}
        for name, recipes in _damages(len(crops)).items():
            routes = []
            for n in steps:
                total = 0.0
                for crop, recipe in zip(crops, recipes):
                    psnr_of_crop, shares_of_crop = _restored(networks, crop, recipe, n)
                    total += psnr_of_crop
                    routes.append(shares_of_crop)
                numbers[name if len(steps) == 1 else f"{name}@{n}"] = total / len(crops)
            histograms[f"experts {name}"] = torch.stack(routes).mean(dim=0)
        return numbers | histograms

    return measure


def _damages(count: int) -> dict[str, list[Recipe]]:
    """A recipe for each of `count` pictures by the name of the damage; always the same, and none for
    "clean"."""
    recipes = {
        name: [preset_recipe(kind, severity, 1000 + i, **params) for i in range(count)]
        for name, (kind, severity, params) in PRESETS.items()
    }
    return {**recipes, "clean": [Recipe()] * count}


def _restored(networks: Networks, crop: Tensor, recipe: Recipe, steps: int) -> tuple[float, Tensor]:
    """Damage a crop `1 3 h w`, restore it, and return its PSNR in dB and the experts' shares `levels E`."""
    lq = apply_recipe(crop, recipe).to(next(networks.vae.parameters()).device)
    encoded = encode_prior(networks, lq)
    if steps:
        latent = sample(networks, encoded, steps, torch.Generator().manual_seed(7))
    else:
        latent = networks.vae.encode(lq)
    repaired, routings = repair(networks, encoded, lq, latent)
    return _decibels(repaired, crop), shares(routings)
