"""From the command line's options to trained stages, or to the file that ships."""

from __future__ import annotations

import argparse
import functools
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ..models.config import CompactConfig
from ..weights import describe, load_weights, part, save_weights
from . import checkpoint, data, distributed, draws, loop, own_pictures, polish, tone, validation
from .files import write_text
from .maps import Memory
from .networks import COMPACT, Networks, build
from .pairs import Pairs
from .plan import Plan, StageBudget, in_all
from .prefetch import Prefetcher, Source, asking
from .replay_buffer import Latents
from .seeds import seeded
from .stages import STAGES, Stage, fusion_loss

TAKEN = {
    "autoencoder": "vae",
    "detail": "vae,prior,daem",
    "prior": "unet,prior.tokens",
    "together": "vae,prior,daem,daff,unet",
    "fusion": "daff,unet,prior.tokens",
    "polish": "vae.decoder,daem",
    "joint": "vae,prior.head,daem",
    "tone": "daem.curve",
    "keep": "daem.kept",
    "maps": "prior.head.places",
}
"""What a stage's checkpoint, named after it, is taken for unless `--take` says otherwise: the rest of it is as it was."""


KEPT, REUSED = 1536, 6
"""Of `fusion`: encoded crops that are kept, and how often each is learnt from."""


def merge(files: list[Path], take: list[str]) -> dict[str, Tensor]:
    """The averaged weights of several checkpoints or shipped files, later ones over earlier.

    `take[i]`, by default what `TAKEN` says, limits file i to some prefixes. A folder stands for the checkpoints of its stages.
    Raises ValueError for a folder without checkpoints, and for folders together with `take`.
    """
    merged: dict[str, Tensor] = {}
    if take and any(file.is_dir() for file in files):
        raise ValueError(
            "training: --take counts files, but --from names a folder; name its checkpoints one by one"
        )
    for index, file in enumerate(found for named in files for found in _checkpoints(named)):
        ema = (
            checkpoint.load(file)[0]
            if checkpoint.is_checkpoint(file)
            else {k: v.float() for k, v in load_weights(file)[0].items()}
        )
        wanted = take[index] if index < len(take) else TAKEN.get(file.stem, "all")
        prefixes = ("",) if wanted == "all" else tuple(prefix + "." for prefix in wanted.split(","))
        merged |= {k: v for k, v in ema.items() if k.startswith(prefixes)}
    return merged


def _checkpoints(named: Path) -> list[Path]:
    if not named.is_dir():
        return [named]
    found = [named / f"{stage}.safetensors" for stage in TAKEN if (named / f"{stage}.safetensors").exists()]
    if not found:
        raise ValueError(
            f"training: {named} holds no checkpoints; expected {', '.join(f'{stage}.safetensors' for stage in TAKEN)} or some of them"
        )
    return found


@dataclass(frozen=True)
class Pictures:
    """What a stage sees; `held_out` has no pictures where nothing is kept for validation."""

    photographs: data.Photographs
    held_out: data.Photographs
    pairs: Pairs | None


def load_pictures(options: argparse.Namespace) -> Pictures:
    """Decode what `--data` and `--pairs` name. Raises ValueError when there is nothing to train on, or no pairs in `--pairs`."""
    pairs = None
    if options.pairs:
        own = own_pictures.load(own_pictures.find(options.pairs), options.seed)
        if own.pairs is None:
            raise ValueError(
                f"training: {options.pairs} holds no pairs; expected damaged pictures in its sub-folder lq/ and clean ones in gt/"
            )
        pairs = own.pairs
        print(f"training: {own.describe()} in {options.pairs}", flush=True)
    photographs = data.load(data.find_pictures(options.data, validation=False))
    held_out = data.load(data.find_pictures(options.data, validation=True) if distributed.rank() == 0 else [])
    return Pictures(photographs, held_out, pairs)


def run_stage(
    options: argparse.Namespace,
    device: str,
    *,
    pictures: Pictures | None = None,
    config: CompactConfig = COMPACT,
) -> Networks:
    """Train one stage as the command line says."""
    if options.stage == "tone":
        return _run_tone(options, pictures or load_pictures(options), config)
    first = distributed.rank() == 0
    stage = STAGES[options.stage]
    mix = {} if options.selective is None else {"selective": options.selective}
    if stage.name == "fusion":
        stage = replace(stage, step=fusion_loss)
    elif stage.restores and mix:
        stage = replace(stage, step=functools.partial(stage.step, **mix))
    if stage.name in ("together", "joint") and options.perceptual:
        stage = replace(stage, step=functools.partial(stage.step, perceptual=options.perceptual))
    networks = build(config, seed=options.seed)
    # The other processes may run where the files are not; they get their weights from the first.
    started = merge(options.start, options.take) if first else {}
    networks.load_state_dict(networks.state_dict() | started)
    if stage.name == "polish":
        stage = replace(
            stage, step=functools.partial(stage.step, before=polish.as_they_are(networks, config, device))
        )
    pictures = pictures or load_pictures(options)
    path = options.out / f"{stage.name}.safetensors"
    if first:
        counts = f"{len(pictures.photographs.pictures)} photographs, {len(pictures.held_out.pictures)} for validation"
        print(f"{stage.name}: {counts}, on {device}, {distributed.world()} process(es)", flush=True)
    if (
        stage.name == "detail"
        and not path.exists()
        and not any(key.startswith("prior.trunk.") for key in started)
    ):
        # A copy of the autoencoder's; what the LQ encoder has beyond that starts as the identity.
        networks.prior.trunk.load_state_dict(
            networks.prior.trunk.state_dict() | networks.vae.encoder.trunk.state_dict()
        )
    say = functools.partial(print, flush=True)
    draw = None
    if options.workers and (stage.restores or stage.mix):
        used = checkpoint.state(path)["seconds"] if path.exists() else 0.0
        draw = _made_ahead(options, stage, pictures, stage.mix or mix, device, used)
    if stage.name == "maps":
        draw = Memory(networks, pictures.photographs, device)
    elif stage.name == "fusion":
        fresh = draw or draws.fresh(pictures.photographs, pictures.pairs, options.pair_share, device)
        draw = Latents(networks, fresh, device, kept=KEPT * options.batch_scale, reused=REUSED, **mix)
    settings = loop.Options(
        options.out, options.minutes, options.seed, device, options.batch_scale,
        learning_rate_scale=options.learning_rate, decay_share=options.decay_share, pair_share=options.pair_share,
        save_seconds=options.save_seconds, session_minutes=options.session,
        recorded=draw is not None and device == "cuda" and distributed.world() == 1,
    )  # fmt: skip
    loop.train(
        networks, stage, pictures.photographs, settings,
        validate=_validation(stage, pictures.held_out), say=say, pairs=pictures.pairs, draw=draw,
    )  # fmt: skip
    if stage.name == "autoencoder" and first and is_finished(path, options.minutes, normalised=False):
        normalise_latents(networks, pictures.photographs, device)
        measured = {
            key: value
            for key, value in networks.state_dict().items()
            if key in ("vae.latent_mean", "vae.latent_std")
        }
        checkpoint.amend(path, {"normalised": True}, measured)
    return networks


def _made_ahead(
    options: argparse.Namespace, stage: Stage, pictures: Pictures, mix: Mapping, device: str, used: float
) -> Prefetcher:
    """The draw of a restoring stage, of which `used` seconds are over, whose batches other processes make."""
    begun = time.monotonic() - used

    def progress() -> float:
        return min(1.0, (time.monotonic() - begun) / (60 * options.minutes))

    source = Source(
        pictures.photographs,
        pictures.pairs if stage.restores else None,
        options.pair_share,
        mix,
        options.seed,
        stage.name,
    )
    return Prefetcher(source, asking(stage.crops, options.batch_scale, progress), options.workers, device)


def _run_tone(options: argparse.Namespace, pictures: Pictures, config: CompactConfig) -> Networks:
    """The stage `tone`, on the processor: every process looks at pictures, the first one fits."""
    networks = build(config, seed=options.seed)
    networks.load_state_dict(networks.state_dict() | merge(options.start, options.take))
    folder, seconds, say = options.out / "tone", 60 * options.minutes, functools.partial(print, flush=True)

    def source(number: int):
        return tone.looked_at(pictures.photographs, seeded(options.seed, "tone", distributed.rank(), number))

    tone.gather(source, folder, tone.LOOKING * seconds, say)
    distributed.agree(True)
    if distributed.rank() == 0:
        samples, generator = tone.gathered(folder), torch.Generator().manual_seed(options.seed + 1)
        loss = tone.fit(networks.daem.curve, samples, generator)
        say(f"tone: fitted to {len(samples['tones'])} pictures, loss {loss:.3f}")
        fitted = {f"daem.curve.{key}": value for key, value in networks.daem.curve.state_dict().items()}
        checkpoint.save(
            options.out / "tone.safetensors", networks, fitted, {"step": 0, "seconds": seconds}, generator
        )
    return networks


def _validation(stage: Stage, held_out: data.Photographs):
    if not held_out.pictures:
        return None
    return {
        "autoencoder": functools.partial(validation.autoencoder_psnr, photographs=held_out),
        "detail": validation.restoration_psnr(held_out, size=160, count=5),
        "fusion": validation.restoration_psnr(held_out, count=4, steps=(1, 4)),
        "joint": validation.restoration_psnr(held_out, count=4, steps=(0, 1, 4)),
        "together": validation.restoration_psnr(held_out, count=4, steps=(0, 1, 4)),
        "polish": validation.restoration_psnr(held_out, count=4, steps=(0, 4)),
    }.get(stage.name)


def is_finished(path: Path, minutes: float, *, normalised: bool = True) -> bool:
    """Whether a stage's checkpoint has used its minutes and, an autoencoder's, has its latents' mean and deviation too."""
    if not path.exists():
        return False
    state = checkpoint.state(path)
    return state["seconds"] >= 60 * minutes and (
        not normalised or path.stem != "autoencoder" or state.get("normalised", False)
    )


def follow(plan: Plan, options: argparse.Namespace, device: str, *, config: CompactConfig = COMPACT) -> bool:
    """Run a plan's stages, each from `--from` and the stages before it, and export into `--out`; whether it came to its end.

    With `--from` it is a repeat. Finished stages in `--out` are not run again, an unfinished one goes on; `--session` limits the minutes
    of this call. Raises ValueError when `--out` holds another plan, or when a repeat's weights are not whole.
    """
    legs = plan.repeat if options.start else plan.fresh
    legs = in_all(legs, options.minutes) if options.minutes else legs
    left = functools.partial(_minutes_left, time.monotonic() + 60 * options.session)
    if distributed.rank() == 0:
        _claim(options, legs)
        if options.start:
            _require_whole(options, config)
    pictures = None
    for index, leg in enumerate(legs):
        path = options.out / f"{leg.stage}.safetensors"
        if distributed.agree(is_finished(path, leg.minutes)):
            if distributed.rank() == 0:
                print(f"{leg.stage}: finished before, not run again", flush=True)
            continue
        pictures = pictures or load_pictures(options)
        start = [*options.start, *(options.out / f"{before.stage}.safetensors" for before in legs[:index])]
        changes = {"stage": leg.stage, "minutes": leg.minutes, "start": start, "session": left()}
        run_stage(argparse.Namespace(**(vars(options) | changes)), device, pictures=pictures, config=config)
        if not distributed.agree(is_finished(path, leg.minutes)):
            if distributed.rank() == 0:
                print(f"{leg.stage}: the session's time is up; the same command goes on", flush=True)
            return False
    if distributed.rank() == 0:
        files = [*options.start, *(options.out / f"{leg.stage}.safetensors" for leg in legs)]
        spent = ", ".join(f"{leg.stage} {leg.minutes:g}" for leg in legs)
        note = (
            options.note or f"plan {options.plan}{', repeated' if options.start else ''}: minutes of {spent}"
        )
        export(files, options.take, options.target / options.name, note, config=config)
    return True


def _minutes_left(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic()) / 60 if math.isfinite(deadline) else math.inf


def _claim(options: argparse.Namespace, legs: tuple[StageBudget, ...]) -> None:
    """Write down what runs in a folder, so that no other plan takes its stages for its own."""
    held = options.out / "plan.json"
    mine = {
        "plan": options.plan,
        "from": [str(file) for file in options.start],
        "stages": [leg.stage for leg in legs],
    }
    if held.exists() and json.loads(held.read_text(encoding="utf-8")) != mine:
        raise ValueError(
            f"training: {options.out} holds a run of another plan or from other weights, see {held}; give another --out, or its options"
        )
    write_text(held, json.dumps(mine, indent=1) + "\n")


def _require_whole(options: argparse.Namespace, config: CompactConfig) -> None:
    wanted = {
        key for key in build(config).state_dict() if not key.startswith(("prior.head.places.", "daem.kept."))
    }  # which a repeat trains from nothing
    absent = sorted({key.split(".")[0] for key in wanted - merge(options.start, options.take).keys()})
    if absent:
        raise ValueError(
            f"training: --from has no whole {', '.join(absent)}; a repeat needs all parts: an exported file, or the folder of a finished plan"
        )


@torch.no_grad()
def normalise_latents(networks: Networks, photographs: data.Photographs, device: str) -> None:
    """Set the autoencoder's latent mean and deviation per channel from 256 clean crops."""
    generator = torch.Generator().manual_seed(11)
    latents = torch.cat(
        [
            networks.vae.encoder(data.draw_batch(photographs, 16, 128, generator).to(device))[0]
            for _ in range(16)
        ]
    )
    networks.vae.latent_mean.copy_(latents.mean(dim=(0, 2, 3)))
    networks.vae.latent_std.copy_(latents.std(dim=(0, 2, 3)))


def blend(files: list[Path], shares: list[float], target: Path) -> None:
    """Write a checkpoint with the weighted mean of several of one run's: often better than each, when the later saw other damages.

    What only some of them have is the mean of those. Raises ValueError unless there is a share for each of at least two files.
    """
    if len(files) < 2 or len(shares) != len(files):
        raise ValueError(
            f"training: blend takes two or more --from files and a share for each; got {len(files)} files, {len(shares)} shares"
        )
    states = [merge([file], ["all"]) for file in files]
    networks = build()
    mean = networks.state_dict()
    for key in mean:
        having = [(share, state[key]) for share, state in zip(shares, states, strict=True) if key in state]
        if having:
            mean[key] = sum(share * value for share, value in having) / sum(share for share, _ in having)
    networks.load_state_dict(mean)
    checkpoint.save(target, networks, {}, {"step": 0, "seconds": 0.0}, torch.Generator().manual_seed(0))


def export(
    files: list[Path], take: list[str], target: Path, note: str, *, config: CompactConfig = COMPACT
) -> None:
    """Write what the nodes load: fp16 shards whose metadata holds the settings, the previews' colours and `note`."""
    from ..host.vae import CompactVAE, fit_preview

    state = merge(files, take)
    factors, bias = fit_preview(CompactVAE(part(state, "vae"), config.autoencoder))
    colours = [[round(x, 5) for x in row] for row in (*factors, bias)]
    for path in save_weights(
        target, state, {**describe(config), "latent_rgb": json.dumps(colours), "training": note}
    ):
        print(f"{path.name}: {path.stat().st_size / 2**20:.1f} MiB")
