"""One time-boxed, resumable training loop for every stage."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from . import checkpoint, distributed, experts
from .cuda_graphs import CudaGraphSteps, unrecorded
from .data import Photographs
from .draws import Draw, Remembered, Remembers, fresh
from .ema import EMA
from .networks import Networks
from .optimizer import Optimizers
from .pace import Meter, Watchful
from .pairs import Pairs
from .run_log import RunLog
from .stages import Logs, Stage

DECAY_SHARE = 0.6
SAVE_SECONDS = 120.0
PAIR_SHARE = 0.25
GPU_GENERATOR = "gpu_generator"


@dataclass(frozen=True)
class Options:
    """`minutes` of training in all, those of an interrupted run counted in; `device` "cpu" or "cuda".

    A batch holds `batch_scale` times the stage's samples, those of all processes together. `decay_share`: the
    last part of the time, in which the learning rate falls. `pair_share`: of the samples, where there are
    real pairs. `session_minutes`: leave after so much time, unfinished; the next call goes on. `recorded`:
    steps as CUDA graphs, where all that is drawn are tensors.
    """

    out: Path
    minutes: float
    seed: int = 0
    device: str = "cpu"
    batch_scale: int = 1
    validate_seconds: float = 600.0
    ema_decay: float = 0.999
    learning_rate_scale: float = 1.0
    decay_share: float = DECAY_SHARE
    pair_share: float = PAIR_SHARE
    save_seconds: float = SAVE_SECONDS
    report_seconds: float = 30.0
    session_minutes: float = math.inf
    recorded: bool = False


@dataclass(frozen=True)
class Progress:
    """How far a run is: `seconds` used of `budget`, and the losses averaged since the last report."""

    stage: str
    step: int
    seconds: float
    budget: float
    losses: dict[str, float]


def trained_parameters(
    networks: Networks, prefixes: tuple[str, ...], fixed: tuple[str, ...] = ()
) -> dict[str, Tensor]:
    """The parameters whose names start with one of `prefixes` and none of `fixed`; all others stop asking for
    gradients."""
    chosen = {}
    for name, part in networks.parts().items():
        for key, parameter in part.named_parameters():
            full = f"{name}.{key}"
            inside, outside = (
                any(full.startswith(prefix + ".") for prefix in names) for names in (prefixes, fixed)
            )
            wanted = inside and not outside
            parameter.requires_grad_(wanted)
            if wanted:
                chosen[full] = parameter
    return chosen


def train(
    networks: Networks,
    stage: Stage,
    photographs: Photographs,
    options: Options,
    *,
    validate: Callable[[Networks], Logs] | None = None,
    say: Callable[[str], None] = print,
    watch: Callable[[Progress], bool] | None = None,
    pairs: Pairs | None = None,
    draw: Draw | None = None,
) -> Networks:
    """Train `stage` for `options.minutes`, resuming from `options.out` where there is an unfinished run of
    it.

    A run that was killed goes on from its last checkpoint as if it had never stopped: with the weights,
    averages and optimizers' state of that moment, its place in the schedule, its random generators and the
    next batch. It loses the work of `options.save_seconds` at most.

    Returns the networks with the averaged weights. `validate` gives dB per damage, and may give histograms as
    `RunLog.validated` takes them. `watch` is called after every step; when it returns False the run ends as
    if its time were up, and when it raises, the run is saved unfinished before the error goes on. `pairs` are
    mixed in where the stage restores. `draw` takes the place of fresh crops and pairs. Under `torchrun` all
    processes call this alike; the first one's weights, files and clock count, and only it says, watches and
    validates. Raises RuntimeError when the loss is no longer finite, ValueError when the checkpoint is of a
    stage that trains something else.
    """
    first = distributed.rank() == 0
    path = options.out / f"{stage.name}.safetensors"
    generator = torch.Generator().manual_seed(options.seed + 1)
    averaged, extras, state = {}, {}, {"step": 0, "seconds": 0.0, "warmed_from": 0}
    if first and path.exists():
        averaged, state = checkpoint.resume(path, networks, generator)
        extras = checkpoint.extras(path)
        say(
            f"{stage.name}: resumed at step {state['step']}, "
            f"{state['seconds'] / 60:.1f} of {options.minutes:g} minutes used"
        )
        if "warmed_from" not in state:
            say(
                f"{stage.name}: {path} is of an older version and holds no optimizer state; "
                "the learning rate warms up once more"
            )
    networks.to(options.device)
    parameters = trained_parameters(networks, stage.trains, stage.fixed)
    average = EMA(parameters, stage.ema_decay or options.ema_decay, averaged)
    distributed.share([*networks.state_dict().values(), *average.values.values()])
    state, generator_state = distributed.agree((state, generator.get_state()))
    extras = distributed.spread(extras)
    generator.set_state(generator_state)
    record = RunLog(options.out, stage.name, state["step"], say) if first else None
    slow = (
        [parameter for key, parameter in parameters.items() if key.startswith(stage.slow)]
        if stage.slow
        else []
    )
    optimizer = Optimizers(
        list(parameters.values()), stage.learning_rate, muon=stage.muon, slow=slow, in_place=options.recorded
    )
    try:
        optimizer.restore(parameters, _under("optimizer/", extras))
    except ValueError as error:
        raise ValueError(
            f"training {stage.name}: {path}: {error}. "
            "Go on with the options it began with, or give another --out."
        ) from error
    gradients = unrecorded(networks, stage, options.device)
    if options.recorded:
        gradients = CudaGraphSteps(
            networks,
            stage,
            0 if GPU_GENERATOR in extras else torch.randint(2**62, (), generator=generator).item(),
        )
        if GPU_GENERATOR in extras:
            gradients.generator.set_state(extras[GPU_GENERATOR])
    draw = draw or fresh(photographs, pairs if stage.restores else None, options.pair_share, options.device)
    if isinstance(draw, Remembers) and state["step"]:
        held = state.get("draw")
        draw.go_on(state["step"], Remembered(held, _under("draw/", extras)) if held else None)
    del extras

    def require_finite(norm: Tensor) -> None:
        if not torch.isfinite(norm):
            raise RuntimeError(
                f"training {stage.name}: gradient is {norm.item()} at step {step}; "
                f"lower the learning rate and resume from {path}"
            )

    def report(meter: Meter, elapsed: float, rate: float) -> None:
        averages, speed = meter.averages(), meter.per_second(meter.samples)
        text = "  ".join(
            f"{k} {experts.line(v) if isinstance(v, Tensor) else f'{v:.4f}'}" for k, v in averages.items()
        )
        say(
            f"{stage.name} {elapsed / 60:6.2f} min  step {step}  {meter.per_second(meter.steps):.2f} steps/s"
            f"  {speed:.1f} samples/s  {text}"
        )
        record.trained(step, elapsed, speed, rate, averages)

    def save(elapsed: float, finished: bool) -> None:
        """All processes call this: each gives what its source of batches remembers. The first one writes."""
        # A finished run does not need its batches any more; with more minutes later it draws new ones.
        remembered = draw.remembered() if isinstance(draw, Remembers) and not finished else None
        if not first:
            return
        # A GPU is not asked after every step, as it would wait for its processor. A later answer holds for
        # all steps before.
        if meter.steps:
            require_finite(meter.sums["norm"])
        held = {f"optimizer/{key}": value for key, value in optimizer.state(parameters).items()}
        if options.recorded:
            held[GPU_GENERATOR] = gradients.generator.get_state()
        if remembered:
            held |= {f"draw/{key}": value for key, value in remembered.tensors.items()}
        numbers = {"step": step, "seconds": elapsed, "warmed_from": warmed_from, "validated": validated}
        numbers["draw"] = remembered.numbers if remembered else None
        checkpoint.save(path, networks, average.values, numbers, generator, held)
        record.draw()

    def look(elapsed: float) -> None:
        numbers = validate(networks)
        decibels = "  ".join(f"{k} {v:.2f}" for k, v in numbers.items() if not isinstance(v, Tensor))
        say(f"{stage.name} {elapsed / 60:6.2f} min  validation  {decibels}")
        for name, shares in numbers.items():
            if isinstance(shares, Tensor):
                say(f"{stage.name} {elapsed / 60:6.2f} min  {name:<20} {experts.line(shares)}")
        record.validated(step, elapsed, numbers)

    budget, step, meter, rate = 60 * options.minutes, state["step"], Meter(), 0.0
    warmed_from, validated = state.get("warmed_from", step), state.get("validated", state["seconds"])
    begun = time.monotonic() - state["seconds"]
    watchful = Watchful(options.save_seconds)
    stopped, failure = False, None
    while True:
        elapsed = time.monotonic() - begun
        looking = bool(
            first and validate and step > state["step"] and elapsed - validated > options.validate_seconds
        )
        due = step > state["step"] and watchful.must_save(looking)
        elapsed, stopped, failed, due = distributed.of_first(elapsed, stopped, failure is not None, due)
        finished = not failed and (bool(stopped) or elapsed >= budget)
        if stopped or finished or elapsed - state["seconds"] >= 60 * options.session_minutes:
            break
        if due:
            save(elapsed, finished=False)
            watchful.saved()
        if looking:
            with watchful.timed("look"), average.in_place():
                look(elapsed)
            validated = elapsed
        with watchful.timed("step"):
            progress = elapsed / budget
            rate = (
                stage.learning_rate
                * options.learning_rate_scale
                * stage.schedule(progress, step - warmed_from, options.decay_share)
            )
            size, count = stage.crops(progress, step)
            samples = distributed.whole(count * options.batch_scale)
            clean, mix = draw(samples, size, generator)
            loss, logs = gradients(clean, generator, mix)
            distributed.average_gradients(list(parameters.values()))
            norm = torch.nn.utils.clip_grad_norm_(parameters.values(), 1.0)
            if not options.recorded:
                require_finite(norm)
            optimizer.step(rate)
            average.update(step)
            step += 1
            meter.add(distributed.mean(logs | {"loss": loss, "norm": norm}), samples)
        if not first:
            continue
        elapsed = time.monotonic() - begun
        if watch:
            losses = {k: float(v) for k, v in meter.averages().items() if k != "experts"}
            try:
                stopped = not watch(Progress(stage.name, step, elapsed, budget, losses))
            except BaseException as error:
                # Raised again when what was learnt is saved; the other processes hear of it as of any stop.
                stopped, failure = True, error
        if time.monotonic() - meter.begun > options.report_seconds:
            report(meter, elapsed, rate)
            meter = Meter()
    if first and meter.steps:
        report(meter, elapsed, rate)
    save(max(budget, elapsed) if finished else elapsed, finished)
    average.put()
    if failure:
        raise failure
    if first and validate and finished:
        look(elapsed)
        record.draw()
    return networks


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Those whose names start with `prefix`, without it."""
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
