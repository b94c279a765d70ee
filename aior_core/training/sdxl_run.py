"""The command line for SDXL: reads a checkpoint, trains one stage, and writes the file that Load AIOR
Restorer reads."""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import comfy.model_base
import comfy.sd
import torch
from torch import Tensor, nn

from ..degradations import apply_recipe, preset_recipe
from ..metrics import psnr
from ..models.config import DAEMConfig, DAFFConfig, PriorConfig, RestorerConfig
from ..models.daem import DAEM
from ..models.daff import DAFF
from ..models.family import SDXL
from ..models.layers import initialise
from ..models.lq_encoder import PriorEncoder
from ..weights import config_from, describe, is_published, load_checkpoint, save_weights, split_published
from . import checkpoint, data, distributed, loop
from .restoration import damage
from .run import is_finished, load_pictures
from .sdxl import (
    SDXL_STAGES,
    Base,
    SDXLNetworks,
    SDXLStage,
    checkpointed,
    copy_encoder,
    predicted_noise,
    repair_sdxl,
)
from .sdxl_cache import Cache, Sources
from .stages import FixedCrops, Logs
from .validation import PRESETS

HEAD = 64
"""Width of DAFF's attention heads, as published."""
VALIDATION_TIMESTEPS = (100, 300, 500, 700, 900)
Validate = Callable[[SDXLNetworks], Logs]


def load_base(path: Path, size: int, prompt: str, device: str) -> Base:
    """Read an SDXL checkpoint, and encode the prompt and the empty prompt for pictures of `size`. Raises
    ValueError for another kind of checkpoint."""
    dtype = {"dtype": torch.bfloat16} if device == "cuda" else {}
    model, clip, vae, _ = comfy.sd.load_checkpoint_guess_config(
        str(path), model_options=dtype, disable_dynamic=True
    )
    if not isinstance(model.model, comfy.model_base.SDXL) or clip is None or vae is None:
        raise ValueError(
            f"training: {path.name} is no whole SDXL checkpoint; expected one with UNet, text encoders and "
            "autoencoder"
        )
    said = [clip.encode_from_tokens(clip.tokenize(text), return_pooled=True) for text in (prompt, "")]
    return make_base(model.model, vae.first_stage_model, *said, size=size)


def make_base(
    model: comfy.model_base.SDXL,
    vae: nn.Module,
    said: tuple[Tensor, Tensor],
    nothing: tuple[Tensor, Tensor],
    *,
    size: int,
) -> Base:
    """A base from ComfyUI's model and autoencoder. said, nothing: tokens and pooled vector of the prompt and
    of the empty prompt."""
    labels = [
        model.encode_adm(pooled_output=pooled, width=size, height=size).float()
        for _, pooled in (said, nothing)
    ]
    model.diffusion_model.requires_grad_(False)
    vae.requires_grad_(False)
    return Base(
        model.diffusion_model,
        vae,
        model.model_sampling.sigmas.float(),
        model.latent_format.scale_factor,
        said[0].float(),
        labels[0],
        nothing[0].float(),
        labels[1],
    )


def config_for(base: Base) -> RestorerConfig:
    """UniLDiff's widths for SDXL (`docs/method.md`, section 8), or the same proportions for a narrower build.
    DAFF is in the paper's mode."""
    encoder = base.vae.encoder
    widths = tuple(level.block[-1].conv2.out_channels for level in encoder.down)
    blocks = tuple(len(level.block) for level in encoder.down)
    unet_width = base.unet.model_channels
    width = HEAD * max(1, round(3.2 * unet_width / HEAD))
    return RestorerConfig(
        family=SDXL,
        prior=PriorConfig(kind="kl", widths=widths, blocks=blocks, plain=(), place_width=0),
        daff=DAFFConfig(
            mode="paper",
            unet_width=unet_width,
            condition_width=widths[-1],
            width=width,
            heads=width // HEAD,
            mlp_ratio=4.0,
            patch=1,
            condition_norm="group",
        ),
        # No tone curve: it has not been tried with SDXL.
        daem=DAEMConfig(
            decoder_widths=widths,
            skip_widths=widths,
            widths=tuple(max(16, w // 4) for w in widths),
            prior_width=widths[-1],
            tone_width=0,
        ),
    )


def build(
    base: Base, start: list[Path], *, seed: int = 0, with_unet: bool = False
) -> tuple[SDXLNetworks, RestorerConfig]:
    """The restorer on its base.

    start: files whose weights are loaded; later files win. Each is a training checkpoint, a restorer file or
    a published checkpoint. What none of them has starts untrained: the LQ encoder as the base's encoder, and
    the outputs of DAFF and DAEM at zero, so that nothing changes at first. Raises ValueError for a file with
    another config.
    """
    tensors: dict[str, Tensor] = {}
    config = config_for(base)
    for file in start:
        if file.suffix == ".safetensors" and checkpoint.is_checkpoint(file):
            tensors |= checkpoint.load(file)[0]
            continue
        state, metadata = load_checkpoint(file)
        state, metadata = (split_published(state).restorer, {}) if is_published(state) else (state, metadata)
        found = config_from(state, metadata)
        if not isinstance(found, RestorerConfig) or found.family != SDXL:
            raise ValueError(f"training: {file.name} is no restorer for SDXL; give one with --from, or none")
        daem = found.daem or config.daem
        config = replace(config, daff=found.daff, daem=daem, calibration=found.calibration)
        tensors |= {key: value.float() for key, value in state.items()}
    daem = config.daem
    assert daem is not None
    networks = SDXLNetworks(
        PriorEncoder(config.prior),
        DAFF(config.daff),
        DAEM(daem, kinds=config.kinds, calibration=config.calibration),
        base,
        with_unet=with_unet,
    )
    generator = torch.Generator().manual_seed(seed)
    for part in (networks.prior, networks.daff, networks.daem):
        initialise(part, generator)
    copy_encoder(networks.prior, base.vae)
    networks.daem.silence()
    own = networks.state_dict()
    unknown = sorted(key for key in tensors if key not in own and not key.startswith("unet."))
    if unknown:
        raise ValueError(
            f"training: {', '.join(map(str, start))} has what this restorer has not, {unknown[0]} for one"
        )
    networks.load_state_dict(own | {key: value for key, value in tensors.items() if key in own})
    return networks, config


def stage_of(options: argparse.Namespace) -> SDXLStage:
    """The stage that the command line names, with its crops and, where asked for, the UNet among what it
    trains."""
    name = f"fusion-{options.phase}" if options.stage == "fusion" else options.stage
    if name not in SDXL_STAGES:
        raise ValueError(f"training: there is no stage {name} at SDXL's scale; expected fusion or detail")
    stage = replace(SDXL_STAGES[name], crops=FixedCrops(options.crop, options.batch))
    return (
        replace(stage, trains=(*stage.trains, "unet")) if options.train_unet and name == "fusion-b" else stage
    )


def run_sdxl(options: argparse.Namespace, device: str, base: Base | None = None) -> Path | None:
    """Train one stage and write the restorer; returns its file, or None where the session ended before the
    stage did."""
    stage = stage_of(options)
    base = base or load_base(options.checkpoint, options.crop, options.prompt, device)
    networks, config = build(base, options.start, seed=options.seed, with_unet="unet" in stage.trains)
    if device == "cuda":
        checkpointed(base.unet)
    pictures = load_pictures(options)
    settings = loop.Options(
        options.out,
        options.minutes,
        options.seed,
        device,
        options.batch_scale,
        learning_rate_scale=options.learning_rate,
        pair_share=options.pair_share,
        save_seconds=options.save_seconds,
        session_minutes=options.session,
    )
    validate = validation(stage, pictures.held_out, options.crop)
    say = functools.partial(print, flush=True)
    draw = None
    if options.cache:
        sources = Sources(
            pictures.photographs, options.crop, options.seed, pictures.pairs, options.pair_share
        )
        draw = Cache(options.cache, networks, sources, options.cache_crops, device, say).draw
        stage = replace(stage, cached=True)
    # The loop takes any `Parts`; its annotations name those of the compact model.
    loop.train(
        networks,  # type: ignore[arg-type]
        stage,
        pictures.photographs,
        settings,
        validate=validate,  # type: ignore[arg-type]
        say=say,
        pairs=pictures.pairs,
        draw=draw,
    )
    path = options.out / f"{stage.name}.safetensors"
    if distributed.rank() or not is_finished(path, options.minutes):
        return None
    state = {key: value for key, value in networks.state_dict().items() if not key.startswith("unet.")}
    name = options.target / f"{options.name}_{stage.name}"
    given = options.checkpoint.name if options.checkpoint else "a given base"
    note = options.note or f"{stage.name}, {options.minutes:g} minutes on {given}"
    written = save_weights(name, state, {**describe(config), "training": note}, max_bytes=sys.maxsize)[0]
    say(f"{written}: {written.stat().st_size / 2**20:.0f} MiB")
    return written


def validation(stage: SDXLStage, held_out: data.Photographs, size: int) -> Validate | None:
    """A function of the networks: for fusion the L1 of eps, for detail dB per damage; on held-out pictures,
    always the same draws."""
    if not held_out.pictures:
        return None
    crops = [data.centre_crop(picture, size) for picture in held_out.pictures[:8]]
    return functools.partial(noise_error if stage.name.startswith("fusion") else detail_psnr, crops)


@torch.no_grad()
def noise_error(crops: list[Tensor], networks: SDXLNetworks) -> Logs:
    """Mean L1 of the predicted noise over pictures and timesteps. The seed is fixed."""
    base, generator = networks.base, torch.Generator().manual_seed(17)
    errors = []
    for crop in crops:
        batch = damage(crop.to(base.sigmas.device), generator, selective=0)
        latent, condition = (
            base.encode(batch.target),
            networks.daff.embed(networks.prior.trunk(batch.lq)[-1].float()),
        )
        for t in VALIDATION_TIMESTEPS:
            noise = torch.randn(latent.shape, generator=generator).to(latent)
            x = (latent + base.sigmas[t] * noise) / (base.sigmas[t] ** 2 + 1).sqrt()
            words = base.words(torch.zeros(len(latent), dtype=torch.bool, device=latent.device))
            predicted = predicted_noise(
                networks, x, torch.full((len(latent),), t, device=latent.device), condition, *words
            )
            errors.append((predicted.float() - noise).abs().mean().item())
    return {"eps": sum(errors) / len(errors)}


@torch.no_grad()
def detail_psnr(crops: list[Tensor], networks: SDXLNetworks) -> Logs:
    """dB per damage of DAEM on the damaged picture's own latent."""
    numbers: Logs = {}
    for name, (kind, severity, parameters) in PRESETS.items():
        total = 0.0
        for index, crop in enumerate(crops):
            lq = apply_recipe(crop, preset_recipe(kind, severity, 1000 + index, **parameters)).to(
                networks.base.sigmas.device
            )
            picture, _, _ = repair_sdxl(networks, lq, networks.base.encode(lq) / networks.base.scale)
            total += psnr(picture.float().clamp(-1, 1).cpu(), crop).mean().item()
        numbers[name] = total / len(crops)
    return numbers
