"""One time-boxed, resumable training loop for every stage."""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from . import checkpoint, distributed, experts
from .averages import Average
from .data import Photographs, draw_batch
from .networks import Networks
from .optimizer import Optimizers
from .pairs import Pairs, draw_mixed
from .record import Record
from .recorded import Recorded, unrecorded
from .stages import Logs, Stage

DECAY_SHARE = 0.6
SAVE_SECONDS = 120.0
PAIR_SHARE = 0.25
Draw = Callable[[int, int, torch.Generator], tuple[Any, dict]]
"""`draw(count, side, generator)`: this process's part of a batch of `count`, as the stage's step takes it for `clean`, and its keywords."""


@dataclass(frozen=True)
class Options:
    """`minutes` of training in all, those of an interrupted run counted in; `device` "cpu" or "cuda".

    A batch holds `batch_scale` times the stage's samples, those of all processes together. `decay_share`: the last part of the time, in
    which the learning rate falls. `pair_share`: of the samples, where there are real pairs. `session_minutes`: leave after so much time,
    unfinished; the next call goes on. `recorded`: steps as CUDA graphs, where all that is drawn are tensors.
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


def trained_parameters(networks: Networks, prefixes: tuple[str, ...], fixed: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """The parameters whose names start with one of `prefixes` and none of `fixed`; all others stop asking for gradients."""
    chosen = {}
    for name, part in networks.parts().items():
        for key, parameter in part.named_parameters():
            full = f"{name}.{key}"
            inside, outside = (any(full.startswith(prefix + ".") for prefix in names) for names in (prefixes, fixed))
            wanted = inside and not outside
            parameter.requires_grad_(wanted)
            if wanted:
                chosen[full] = parameter
    return chosen


class Meter:
    """Averages since the last report, each over the steps that had it."""

    def __init__(self):
        self.begun = time.monotonic()
        self.steps, self.samples, self.sums, self.counts = 0, 0, defaultdict(float), Counter()

    def add(self, logs: Logs, samples: int) -> None:
        self.steps, self.samples = self.steps + 1, self.samples + samples
        self.counts.update(logs.keys())
        for key, value in logs.items():
            self.sums[key] = self.sums[key] + value

    def averages(self) -> Logs:
        means = {key: value / self.counts[key] for key, value in self.sums.items()}
        return {key: mean.item() if isinstance(mean, Tensor) and mean.ndim == 0 else mean for key, mean in means.items()}

    def per_second(self, count: int) -> float:
        return count / max(1e-9, time.monotonic() - self.begun)


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
    """Train `stage` for `options.minutes`, resuming from `options.out` where there is an unfinished run of it.

    Returns the networks with the averaged weights. `validate` gives dB per damage, and may give histograms as `Record.validated` takes
    them. `watch` is called after every step; when it returns False the run ends as if its time were up, and when it raises, the same is
    saved before the error goes on. `pairs` are mixed in where the stage restores. `draw` takes the place of fresh crops and pairs. Under
    `torchrun` all processes call this alike; the first one's weights, files and clock count, and only it says, watches and validates.
    Raises RuntimeError when the loss is no longer finite.
    """
    first = distributed.rank() == 0
    path = options.out / f"{stage.name}.safetensors"
    generator = torch.Generator().manual_seed(options.seed + 1)
    averaged, state = {}, {"step": 0, "seconds": 0.0}
    if first and path.exists():
        averaged, state = checkpoint.resume(path, networks, generator)
        say(f"{stage.name}: resumed at step {state['step']}, {state['seconds'] / 60:.1f} of {options.minutes:g} minutes used")
    networks.to(options.device)
    parameters = trained_parameters(networks, stage.trains, stage.fixed)
    average = Average(parameters, stage.ema_decay or options.ema_decay, averaged)
    distributed.share([*networks.state_dict().values(), *average.values.values()])
    state, generator_state = distributed.agree((state, generator.get_state()))
    generator.set_state(generator_state)
    record = Record(options.out, stage.name, state["step"], say) if first else None
    slow = [parameter for key, parameter in parameters.items() if key.startswith(stage.slow)] if stage.slow else []
    optimizer = Optimizers(list(parameters.values()), stage.learning_rate, muon=stage.muon, slow=slow, in_place=options.recorded)
    if options.recorded:
        gradients = Recorded(networks, stage, torch.randint(2**62, (), generator=generator).item())
    else:
        gradients = unrecorded(networks, stage, options.device)

    def require_finite(norm: Tensor) -> None:
        if not torch.isfinite(norm):
            raise RuntimeError(f"training {stage.name}: gradient is {norm.item()} at step {step}; lower the learning rate and resume from {path}")

    def report(meter: Meter, elapsed: float, rate: float) -> None:
        averages, speed = meter.averages(), meter.per_second(meter.samples)
        text = "  ".join(f"{k} {experts.line(v) if isinstance(v, Tensor) else f'{v:.4f}'}" for k, v in averages.items())
        say(f"{stage.name} {elapsed / 60:6.2f} min  step {step}  {meter.per_second(meter.steps):.2f} steps/s  {speed:.1f} samples/s  {text}")
        record.trained(step, elapsed, speed, rate, averages)

    def save(elapsed: float) -> None:
        # A GPU is not asked after every step, as it would wait for its processor; what it was asked last holds for all before.
        if meter.steps:
            require_finite(meter.sums["norm"])
        checkpoint.save(path, networks, average.values, {"step": step, "seconds": elapsed}, generator)
        record.draw()

    def look(elapsed: float) -> None:
        numbers = validate(networks)
        decibels = "  ".join(f"{k} {v:.2f}" for k, v in numbers.items() if not isinstance(v, Tensor))
        say(f"{stage.name} {elapsed / 60:6.2f} min  validation  {decibels}")
        for name, shares in numbers.items():
            if isinstance(shares, Tensor):
                say(f"{stage.name} {elapsed / 60:6.2f} min  {name:<20} {experts.line(shares)}")
        record.validated(step, elapsed, numbers)

    draw = draw or fresh(photographs, pairs if stage.restores else None, options.pair_share, options.device)
    budget, step, meter, rate = 60 * options.minutes, state["step"], Meter(), 0.0
    begun = time.monotonic() - state["seconds"]
    saved = validated = time.monotonic()
    stopped, failure = False, None
    while True:
        elapsed, stopped = distributed.of_first(time.monotonic() - begun, stopped)
        if stopped or elapsed >= budget or elapsed - state["seconds"] >= 60 * options.session_minutes:
            break
        progress = elapsed / budget
        rate = stage.learning_rate * options.learning_rate_scale * stage.schedule(progress, step - state["step"], options.decay_share)
        size, count = stage.crops(progress, step)
        samples = -(-count * options.batch_scale // distributed.world()) * distributed.world()
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
        if time.monotonic() - saved > options.save_seconds:
            save(elapsed)
            saved = time.monotonic()
        if validate and time.monotonic() - validated > options.validate_seconds:
            with average.in_place():
                look(elapsed)
            validated = time.monotonic()
    paused = not stopped and elapsed < budget
    if first and meter.steps:
        report(meter, elapsed, rate)
    if first and paused:
        save(elapsed)
    average.put()
    if first and not paused:
        save(max(budget, elapsed))
    if failure:
        raise failure
    if first and validate and not paused:
        look(elapsed)
        record.draw()
    return networks


def fresh(photographs: Photographs, pairs: Pairs | None, pair_share: float, device: str) -> Draw:
    """Clean crops, never the same, with what to tell the step about real pairs among them."""

    def draw(count: int, size: int, generator: torch.Generator) -> tuple[Tensor, dict]:
        rows = distributed.rows(count)
        if pairs is None:
            return draw_batch(photographs, count, size, generator, rows=rows).to(device), {}
        clean, real = draw_mixed(photographs, pairs, pair_share, count, size, generator, rows=rows)
        return clean.to(device), {"real": real.to(device)}

    return draw
