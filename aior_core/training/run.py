"""From the options of the command line to trained stages, and to the file that ships."""

from __future__ import annotations

import argparse
import functools
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import torch
from torch import Tensor

from ..atomic import atomic_write_text
from ..models.config import CompactConfig
from ..weights import describe, load_weights, part, save_weights
from . import checkpoint, data, distributed, loop, own_pictures
from .networks import COMPACT, Networks, build
from .pairs import Pairs
from .plan import Plan, StageBudget, scaled
from .stages import EXPORTS, STAGES, Stage, StageRun
from .stages.tone import train_tone

say: Callable[[str], None] = functools.partial(print, flush=True)


def merge(files: Sequence[Path], take: Sequence[str]) -> dict[str, Tensor]:
    """The averaged weights of several checkpoints or shipped files, in fp32; later files win over earlier
    ones.

    files: a folder stands for the checkpoints of the stages in it. take: `take[i]` are the comma-separated
    prefixes of the weights that are taken from file i, or "all"; by default `EXPORTS` of the stage after
    which the file is named, and everything of other files. Raises ValueError for a folder without
    checkpoints, and for folders together with `take`.
    """
    merged: dict[str, Tensor] = {}
    if take and any(file.is_dir() for file in files):
        raise ValueError(
            "training: --take counts files, but --from names a folder; name its checkpoints one by one"
        )
    for index, file in enumerate(found for named in files for found in _checkpoints(named)):
        if checkpoint.is_checkpoint(file):
            weights = checkpoint.load(file)[0]
        else:
            weights = {key: value.float() for key, value in load_weights(file)[0].items()}
        prefixes = _prefixes(file, take[index] if index < len(take) else None)
        merged |= {key: value for key, value in weights.items() if key.startswith(prefixes)}
    return merged


def _prefixes(file: Path, take: str | None) -> tuple[str, ...]:
    """The prefixes of what is taken from `file`; `("",)` for everything."""
    if take == "all" or (take is None and file.stem not in EXPORTS):
        return ("",)
    names = EXPORTS[file.stem] if take is None else take.split(",")
    return tuple(f"{name}." for name in names)


def _checkpoints(named: Path) -> list[Path]:
    if not named.is_dir():
        return [named]
    candidates = [named / f"{stage}.safetensors" for stage in EXPORTS]
    found = [path for path in candidates if path.exists()]
    if not found:
        names = ", ".join(path.name for path in candidates)
        raise ValueError(f"training: {named} holds no checkpoints; expected {names} or some of them")
    return found


@dataclass(frozen=True)
class Pictures:
    """What a run trains on, what it validates on (nothing where no picture is held out), and real pairs."""

    photographs: data.Photographs
    held_out: data.Photographs
    pairs: Pairs | None


def load_pictures(options: argparse.Namespace) -> Pictures:
    """Decode the pictures that `--data` and `--pairs` name. Raises ValueError when there is nothing to train
    on, and when `--pairs` holds no pairs."""
    pairs = None
    if options.pairs:
        own = own_pictures.load(own_pictures.find(options.pairs), options.seed)
        if own.pairs is None:
            raise ValueError(
                f"training: {options.pairs} holds no pairs; expected damaged pictures in its sub-folder lq/ "
                "and clean ones in gt/"
            )
        pairs = own.pairs
        say(f"training: {own.describe()} in {options.pairs}")
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
    """Train one stage as the command line says; returns the networks with the averaged weights."""
    first = distributed.rank() == 0
    networks = build(config, seed=options.seed)
    # Other processes may run on machines without the files; they get their weights from the first process.
    given = merge(options.start, options.take) if first or options.stage == "tone" else {}
    networks.load_state_dict(networks.state_dict() | given)
    pictures = pictures or load_pictures(options)
    if options.stage == "tone":
        train_tone(
            networks, pictures.photographs, options.out, minutes=options.minutes, seed=options.seed, say=say
        )
        return networks
    stage = configured_stage(options)
    path = options.out / f"{stage.name}.safetensors"
    run = _stage_run(options, networks, config, pictures, device, path)
    if first:
        counts = f"{len(run.photographs.pictures)} photographs, {len(run.held_out.pictures)} for validation"
        say(f"{stage.name}: {counts}, on {device}, {distributed.world()} process(es)")
    stage = stage.prepare(run, given, resumed=path.exists())
    draw = stage.batches(run)
    settings = loop.Options(
        options.out,
        options.minutes,
        options.seed,
        device,
        options.batch_scale,
        learning_rate_scale=options.learning_rate,
        decay_share=options.decay_share,
        pair_share=options.pair_share,
        save_seconds=options.save_seconds,
        session_minutes=options.session,
        cuda_graphs=draw is not None and device == "cuda" and distributed.world() == 1,
    )
    loop.train(
        networks,
        stage,
        run.photographs,
        settings,
        validate=stage.validation(run.held_out) if run.held_out.pictures else None,
        say=say,
        pairs=run.pairs,
        draw=draw,
    )
    if first and is_finished(path, options.minutes, normalised=False):
        written = stage.finish(run)
        if written:
            checkpoint.amend(path, {"normalised": True}, written)
    return networks


def configured_stage(options: argparse.Namespace) -> Stage:
    """The stage that the command line names, with its options for that stage."""
    stage = STAGES[options.stage]
    if options.selective is not None and stage.damages:
        stage = stage.with_damage(selective=options.selective)
    return stage.with_perceptual(options.perceptual)


def _stage_run(
    options: argparse.Namespace,
    networks: Networks,
    config: CompactConfig,
    pictures: Pictures,
    device: str,
    path: Path,
) -> StageRun:
    """What the stage needs to know of this run. Its clock starts now, at the seconds that the checkpoint
    used."""
    begun = monotonic() - (checkpoint.state(path)["seconds"] if path.exists() else 0.0)

    def progress() -> float:
        return min(1.0, (monotonic() - begun) / (60 * options.minutes))

    return StageRun(
        networks,
        config,
        pictures.photographs,
        pictures.held_out,
        pictures.pairs,
        device,
        options.seed,
        options.pair_share,
        options.batch_scale,
        options.workers,
        progress,
    )


def is_finished(path: Path, minutes: float, *, normalised: bool = True) -> bool:
    """Whether a stage's checkpoint has used its minutes. An autoencoder's also has to hold the mean and
    deviation of its latents, unless `normalised` is False."""
    if not path.exists():
        return False
    state = checkpoint.state(path)
    complete = not normalised or path.stem != "autoencoder" or state.get("normalised", False)
    return state["seconds"] >= 60 * minutes and complete


def follow(plan: Plan, options: argparse.Namespace, device: str, *, config: CompactConfig = COMPACT) -> bool:
    """Run the stages of a plan one after the other and export the result into `--out`. Each stage starts from
    `--from` and the stages before it. Returns whether the plan is finished.

    With `--from` the plan's `repeat` is run. Finished stages in `--out` are skipped, an unfinished one is
    resumed; `--session` limits the minutes of this call. Raises ValueError when `--out` belongs to another
    plan, or when a repeat's weights are not complete.
    """
    budgets = plan.repeat if options.start else plan.fresh
    budgets = scaled(budgets, options.minutes) if options.minutes else budgets
    deadline = monotonic() + 60 * options.session
    if distributed.rank() == 0:
        _lock_plan(options, budgets)
        if options.start:
            _require_complete(options, config)
    pictures = None
    files = [*options.start, *(options.out / f"{budget.stage}.safetensors" for budget in budgets)]
    for index, budget in enumerate(budgets):
        path = options.out / f"{budget.stage}.safetensors"
        if distributed.broadcast_object(is_finished(path, budget.minutes)):
            _say_first(f"{budget.stage}: finished before, not run again")
            continue
        pictures = pictures or load_pictures(options)
        changes = {
            "stage": budget.stage,
            "minutes": budget.minutes,
            "start": files[: len(options.start) + index],
            "session": _minutes_left(deadline),
        }
        run_stage(argparse.Namespace(**(vars(options) | changes)), device, pictures=pictures, config=config)
        if not distributed.broadcast_object(is_finished(path, budget.minutes)):
            _say_first(f"{budget.stage}: the session's time is up; the same command goes on")
            return False
    if distributed.rank() == 0:
        note = options.note or _note(options, budgets)
        export(files, options.take, options.target / options.name, note, config=config)
    return True


def _say_first(text: str) -> None:
    if distributed.rank() == 0:
        say(text)


def _note(options: argparse.Namespace, budgets: tuple[StageBudget, ...]) -> str:
    spent = ", ".join(f"{budget.stage} {budget.minutes:g}" for budget in budgets)
    return f"plan {options.plan}{', repeated' if options.start else ''}: minutes of {spent}"


def _minutes_left(deadline: float) -> float:
    return max(0.0, deadline - monotonic()) / 60 if math.isfinite(deadline) else math.inf


def _lock_plan(options: argparse.Namespace, budgets: tuple[StageBudget, ...]) -> None:
    """Write `plan.json` into `--out`, so that another plan does not take its checkpoints for its own. Raises
    ValueError when the folder belongs to another plan."""
    path = options.out / "plan.json"
    mine = {
        "plan": options.plan,
        "from": [str(file) for file in options.start],
        "stages": [budget.stage for budget in budgets],
    }
    if path.exists() and json.loads(path.read_text(encoding="utf-8")) != mine:
        raise ValueError(
            f"training: {options.out} holds a run of another plan or from other weights, see {path}; "
            "give another --out, or its options"
        )
    atomic_write_text(path, json.dumps(mine, indent=1) + "\n")


TRAINED_FROM_NOTHING = ("prior.head.places.", "daem.kept.")
"""What a repeat trains from random weights: `--from` need not have it."""


def _require_complete(options: argparse.Namespace, config: CompactConfig) -> None:
    wanted = {key for key in build(config).state_dict() if not key.startswith(TRAINED_FROM_NOTHING)}
    absent = sorted({key.split(".")[0] for key in wanted - merge(options.start, options.take).keys()})
    if absent:
        raise ValueError(
            f"training: --from has no whole {', '.join(absent)}; a repeat needs all parts: an exported file, "
            "or the folder of a finished plan"
        )


def blend(files: Sequence[Path], shares: Sequence[float], target: Path) -> None:
    """Write a checkpoint with the weighted mean of several checkpoints of one run. The mean is often better
    than each of them, when the later ones saw other damages.

    What only some of the files hold is averaged over those. Raises ValueError unless there are at least two
    files and a share for each.
    """
    if len(files) < 2 or len(shares) != len(files):
        raise ValueError(
            f"training: blend takes two or more --from files and a share for each; got {len(files)} files, "
            f"{len(shares)} shares"
        )
    states = [merge([file], ["all"]) for file in files]
    networks = build()
    mean = networks.state_dict()
    for key in mean:
        having = [(share, state[key]) for share, state in zip(shares, states, strict=True) if key in state]
        if having:
            total = sum(share for share, _ in having)
            first, *others = (share * value for share, value in having)
            mean[key] = sum(others, first) / total
    networks.load_state_dict(mean)
    checkpoint.save(target, networks, {}, {"step": 0, "seconds": 0.0}, torch.Generator().manual_seed(0))


def export(
    files: Sequence[Path],
    take: Sequence[str],
    target: Path,
    note: str,
    *,
    config: CompactConfig = COMPACT,
) -> None:
    """Write the file that the nodes load: fp16 shards whose metadata holds the configuration, the colours of
    latent previews, and `note`."""
    from ..host.vae import CompactVAE
    from ..pipeline.preview import fit_preview

    state = merge(files, take)
    factors, bias = fit_preview(CompactVAE(part(state, "vae"), config.autoencoder))
    colours = [[round(x, 5) for x in row] for row in (*factors, bias)]
    metadata = {**describe(config), "latent_rgb": json.dumps(colours), "training": note}
    for path in save_weights(target, state, metadata):
        say(f"{path.name}: {path.stat().st_size / 2**20:.1f} MiB")
