"""From the command line's options to a trained stage, or to the file that ships."""

from __future__ import annotations

import argparse
import functools
import json
from pathlib import Path

import torch
from torch import Tensor

from ..weights import describe, load_weights, part, save_weights
from . import checkpoint, data, loop, validation
from .networks import Networks, build
from .stages import STAGES
from .upcycle import reset_router, share_first_expert

TAKEN = {
    "autoencoder": "vae",
    "detail": "vae,prior,daem",
    "prior": "unet,prior.tokens",
    "fusion": "daff,unet,prior.tokens",
    "joint": "vae,daem",
}
"""What a stage's checkpoint, named after it, is taken for unless `--take` says otherwise: the rest of it is as it was."""


def merge(files: list[Path], take: list[str]) -> dict[str, Tensor]:
    """The averaged weights of several checkpoints or shipped files, later ones over earlier.

    `take[i]`, by default what `TAKEN` says, limits file i to some prefixes.
    """
    merged: dict[str, Tensor] = {}
    for index, file in enumerate(files):
        ema = checkpoint.load(file)[0] if checkpoint.is_checkpoint(file) else {k: v.float() for k, v in load_weights(file)[0].items()}
        wanted = take[index] if index < len(take) else TAKEN.get(file.stem, "all")
        prefixes = ("",) if wanted == "all" else tuple(prefix + "." for prefix in wanted.split(","))
        merged |= {k: v for k, v in ema.items() if k.startswith(prefixes)}
    return merged


def run_stage(options: argparse.Namespace, device: str) -> Networks:
    """Train one stage as the command line says."""
    stage = STAGES[options.stage]
    networks = build(seed=options.seed)
    started = merge(options.start, options.take)
    networks.load_state_dict(networks.state_dict() | started)
    photographs = data.load(data.find_pictures(options.data, validation=False))
    held_out = data.load(data.find_pictures(options.data, validation=True))
    print(f"{stage.name}: {len(photographs.pictures)} photographs, {len(held_out.pictures)} for validation, on {device}", flush=True)
    resuming = (options.out / f"{stage.name}.safetensors").exists()
    if stage.name == "detail" and not resuming and not any(key.startswith("prior.trunk.") for key in started):
        networks.prior.trunk.load_state_dict(networks.vae.encoder.trunk.state_dict())
    validate = {
        "autoencoder": functools.partial(validation.autoencoder_psnr, photographs=held_out),
        "detail": validation.restoration_psnr(held_out, size=160, count=5),
        "fusion": validation.restoration_psnr(held_out, count=4, steps=(1, 4)),
        "joint": validation.restoration_psnr(held_out, count=4, steps=(0, 1, 4)),
    }.get(stage.name)
    settings = loop.Options(options.out, options.minutes, options.seed, device, options.batch_scale)
    loop.train(networks, stage, photographs, settings, validate=validate, say=functools.partial(print, flush=True))
    if stage.name == "autoencoder":
        normalise_latents(networks, photographs, device)
        path = options.out / "autoencoder.safetensors"
        ema, _, state, generator = checkpoint.load(path)
        rng = torch.Generator()
        rng.set_state(generator)
        checkpoint.save(path, networks, {k: v for k, v in ema.items() if k.startswith(("vae.encoder.", "vae.decoder."))}, state, rng)
    return networks


@torch.no_grad()
def normalise_latents(networks: Networks, photographs: data.Photographs, device: str) -> None:
    """Set the autoencoder's latent mean and deviation per channel from 256 clean crops."""
    generator = torch.Generator().manual_seed(11)
    latents = torch.cat([networks.vae.encoder(data.draw_batch(photographs, 16, 128, generator).to(device))[0] for _ in range(16)])
    networks.vae.latent_mean.copy_(latents.mean(dim=(0, 2, 3)))
    networks.vae.latent_std.copy_(latents.std(dim=(0, 2, 3)))


def upcycle(files: list[Path], take: list[str], gates: list[float], target: Path) -> None:
    """Write a checkpoint in which all experts of a level are the first one and no router has decided yet: start `detail` from it."""
    networks = build()
    networks.load_state_dict(networks.state_dict() | merge(files, take))
    share_first_expert(networks.daem)
    for level, gate in zip(networks.daem.levels, gates or [1 / len(level.experts) for level in networks.daem.levels], strict=True):
        reset_router(level, gate)
    checkpoint.save(target, networks, {}, {"step": 0, "seconds": 0.0}, torch.Generator().manual_seed(0))


def export(files: list[Path], take: list[str], target: Path, note: str) -> None:
    """Write what the nodes load: fp16 shards whose metadata holds the settings, the previews' colours and `note`."""
    from ..architecture.config import CompactConfig
    from ..host.vae import CompactVAE, fit_preview

    state = merge(files, take)
    config = CompactConfig()
    factors, bias = fit_preview(CompactVAE(part(state, "vae"), config.autoencoder))
    colours = [[round(x, 5) for x in row] for row in (*factors, bias)]
    for path in save_weights(target, state, {**describe(config), "latent_rgb": json.dumps(colours), "training": note}):
        print(f"{path.name}: {path.stat().st_size / 2**20:.1f} MiB")
