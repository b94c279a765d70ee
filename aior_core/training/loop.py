"""The training loop of every stage: bounded by time, resumable, in one process or several."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from torch import Tensor

from . import checkpoint, distributed, experts
from .batches import Draw, DrawState, StatefulDraw, fresh_crops
from .cuda_graphs import CudaGraphSteps, Gradients, eager_steps
from .data import Photographs
from .ema import EMA
from .networks import Networks
from .optimizer import Optimizers
from .pairs import Pairs
from .run_log import Logs, RunLog
from .stages import Stage, Step
from .timing import Meter, SaveTimer

DECAY_SHARE = 0.6
SAVE_SECONDS = 120.0
PAIR_SHARE = 0.25
MAX_NORM = 1.0
GPU_GENERATOR = "gpu_generator"


@dataclass(frozen=True)
class Options:
    """How a stage is run.

    out: the folder of the checkpoint `STAGE.safetensors` and of the logs. minutes: training time in all, that
    of an interrupted run included. seed: of everything that is random. device: "cpu" or "cuda". batch_scale:
    multiplies the stage's samples per batch, those of all processes together. validate_seconds: time between
    validations. ema_decay: of the weights' moving average. learning_rate_scale: multiplies the stage's rate.
    decay_share: the last part of the time, 0..1, in which the learning rate falls. pair_share: share of real
    pairs among the samples, where there are any. save_seconds: time between checkpoints. report_seconds: time
    between reports. session_minutes: leave the run unfinished after this time; the next call resumes it.
    cuda_graphs: capture steps as CUDA graphs, which needs a source of batches that gives tensors only.
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
    cuda_graphs: bool = False


@dataclass(frozen=True)
class Progress:
    """How far a run is: steps done, `seconds` used of `budget`, and the mean losses since the last report."""

    stage: str
    step: int
    seconds: float
    budget: float
    losses: dict[str, float]


def trained_parameters(
    networks: Networks, prefixes: tuple[str, ...], fixed: tuple[str, ...] = ()
) -> dict[str, Tensor]:
    """The parameters whose names start with one of `prefixes` and with none of `fixed`. They require
    gradients; all others stop requiring them."""
    chosen: dict[str, Tensor] = {}
    for name, part in networks.parts().items():
        for key, parameter in part.named_parameters():
            full = f"{name}.{key}"
            wanted = _starts_with_any(full, prefixes) and not _starts_with_any(full, fixed)
            parameter.requires_grad_(wanted)
            if wanted:
                chosen[full] = parameter
    return chosen


def _starts_with_any(name: str, prefixes: tuple[str, ...]) -> bool:
    return any(name.startswith(prefix + ".") for prefix in prefixes)


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
    step: Step | None = None,
) -> Networks:
    """Train `stage` until `options.minutes` are used up; resume where `options.out` holds an unfinished run.

    A killed run resumes from its last checkpoint as if it had never stopped: with the weights, their average,
    the optimizers' state, the place in the schedule, the random generators and the next batch. It loses the
    work of at most `options.save_seconds`.

    Returns the networks with the averaged weights. validate: returns dB per damage, and histograms as
    `RunLog.validated` takes them. watch: called after every step; False ends the run as if its time were up,
    and an exception is raised again after the run is saved unfinished. pairs: real pairs, mixed in where the
    stage allows it. draw: the source of batches instead of fresh crops and pairs. step: takes the place of
    `stage.step`, for instance a wrapper of it.

    Under `torchrun` all processes call this alike. The weights, files and clock of the first one count, and
    only the first one reports, watches and validates. Raises RuntimeError when a gradient is not finite,
    ValueError when the checkpoint belongs to a stage that trains other parameters.
    """
    source = draw or fresh_crops(
        photographs, pairs if stage.pairs else None, options.pair_share, options.device
    )
    return _Run(networks, stage, options, source, step or stage.step, validate, say, watch).run()


class _Run:
    """One call of `train`. Counts steps from 0; times are seconds of training, earlier sessions included."""

    def __init__(
        self,
        networks: Networks,
        stage: Stage,
        options: Options,
        draw: Draw,
        step: Step,
        validate: Callable[[Networks], Logs] | None,
        say: Callable[[str], None],
        watch: Callable[[Progress], bool] | None,
    ):
        self.networks, self.stage, self.options, self.draw = networks, stage, options, draw
        self.validate, self.say, self.watch = validate, say, watch
        self.first = distributed.rank() == 0
        self.path = options.out / f"{stage.name}.safetensors"
        self.budget = 60 * options.minutes
        self.generator = torch.Generator().manual_seed(options.seed + 1)
        averages, extras, state = self._load_checkpoint()
        networks.to(options.device)
        self.parameters = trained_parameters(networks, stage.trains, stage.fixed)
        self.ema = EMA(self.parameters, stage.ema_decay or options.ema_decay, averages)
        distributed.broadcast_tensors([*networks.state_dict().values(), *self.ema.values.values()])
        state, generator_state = distributed.broadcast_object((state, self.generator.get_state()))
        extras = distributed.broadcast_dict(extras)
        self.generator.set_state(generator_state)
        self.log = RunLog(options.out, stage.name, state["step"], say) if self.first else None
        self.optimizer = self._restored_optimizer(_under("optimizer/", extras))
        self.gradients = self._gradients(step, extras.get(GPU_GENERATOR))
        if isinstance(draw, StatefulDraw) and state["step"]:
            held = state.get("draw")
            draw.restore(state["step"], DrawState(held, _under("draw/", extras)) if held else None)
        self.step = self.first_step = state["step"]
        self.first_seconds = state["seconds"]
        self.warmed_from = state.get("warmed_from", self.step)
        self.validated = state.get("validated", self.first_seconds)
        self.stopped = False
        self.failure: BaseException | None = None
        self.learning_rate = 0.0
        self.meter, self.save_timer = Meter(), SaveTimer(options.save_seconds)
        self.begun = monotonic() - self.first_seconds

    def _load_checkpoint(self) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Any]]:
        """The averaged weights, what else a checkpoint holds, and its numbers; those of a new run without
        one."""
        if not (self.first and self.path.exists()):
            return {}, {}, {"step": 0, "seconds": 0.0, "warmed_from": 0}
        averages, state = checkpoint.resume(self.path, self.networks, self.generator)
        self.say(
            f"{self.stage.name}: resumed at step {state['step']}, "
            f"{state['seconds'] / 60:.1f} of {self.options.minutes:g} minutes used"
        )
        if "warmed_from" not in state:
            self.say(
                f"{self.stage.name}: {self.path} is of an older version and holds no optimizer state; "
                "the learning rate warms up once more"
            )
        return averages, checkpoint.extras(self.path), state

    def _restored_optimizer(self, state: dict[str, Tensor]) -> Optimizers:
        slow = [
            p for key, p in self.parameters.items() if self.stage.slow and key.startswith(self.stage.slow)
        ]
        optimizer = Optimizers(
            list(self.parameters.values()),
            self.stage.learning_rate,
            muon=self.stage.muon,
            slow=slow,
            in_place=self.options.cuda_graphs,
        )
        try:
            optimizer.restore(self.parameters, state)
        except ValueError as error:
            raise ValueError(
                f"training {self.stage.name}: {self.path}: {error}. "
                "Go on with the options it began with, or give another --out."
            ) from error
        return optimizer

    def _gradients(self, step: Step, gpu_generator: Tensor | None) -> Gradients:
        if not self.options.cuda_graphs:
            return eager_steps(self.networks, step, self.options.device)
        new = gpu_generator is None
        seed = int(torch.randint(2**62, (), generator=self.generator).item()) if new else 0
        steps = CudaGraphSteps(self.networks, step, self.stage.choose, seed)
        if gpu_generator is not None:
            steps.generator.set_state(gpu_generator)
        return steps

    def run(self) -> Networks:
        """Train to the end of the time or of the session, or until `watch` stops the run."""
        while True:
            elapsed = monotonic() - self.begun
            validating = self._validation_is_due(elapsed)
            saving = self.step > self.first_step and self.save_timer.is_due(validating)
            elapsed, stopped, failed, saving = distributed.broadcast_numbers(
                elapsed, self.stopped, self.failure is not None, saving
            )
            finished = not failed and (bool(stopped) or elapsed >= self.budget)
            if stopped or finished or elapsed - self.first_seconds >= 60 * self.options.session_minutes:
                return self._end(elapsed, finished)
            if saving:
                self._save(elapsed, finished=False)
                self.save_timer.saved()
            if validating:
                with self.save_timer.timed("validation"), self.ema.applied():
                    self._validate(elapsed)
                self.validated = elapsed
            with self.save_timer.timed("step"):
                self._train_step(elapsed)
            if self.first:
                self._after_step()

    def _validation_is_due(self, elapsed: float) -> bool:
        waited = elapsed - self.validated > self.options.validate_seconds
        return bool(self.first and self.validate and self.step > self.first_step and waited)

    def _train_step(self, elapsed: float) -> None:
        """One batch: gradients, clipping, the optimizers' step, and the average."""
        stage, options = self.stage, self.options
        progress = elapsed / self.budget
        factor = stage.schedule(progress, self.step - self.warmed_from, options.decay_share)
        self.learning_rate = stage.learning_rate * options.learning_rate_scale * factor
        size, count = stage.crops(progress, self.step)
        samples = distributed.divisible(count * options.batch_scale)
        clean, batch = self.draw(samples, size, self.generator)
        loss, logs = self.gradients(clean, self.generator, batch)
        distributed.average_gradients(list(self.parameters.values()))
        norm = torch.nn.utils.clip_grad_norm_(self.parameters.values(), MAX_NORM)
        if not options.cuda_graphs:
            self._require_finite(norm)
        self.optimizer.step(self.learning_rate)
        self.ema.update(self.step)
        self.step += 1
        self.meter.add(distributed.mean(logs | {"loss": loss, "norm": norm}), samples)

    def _require_finite(self, norm: Tensor) -> None:
        if not torch.isfinite(norm):
            raise RuntimeError(
                f"training {self.stage.name}: gradient is {norm.item()} at step {self.step}; "
                f"lower the learning rate and resume from {self.path}"
            )

    def _after_step(self) -> None:
        """In the first process: call `watch`, and report when it is time."""
        elapsed = monotonic() - self.begun
        if self.watch:
            losses = {k: float(v) for k, v in self.meter.means().items() if k != "experts"}
            try:
                progress = Progress(self.stage.name, self.step, elapsed, self.budget, losses)
                self.stopped = not self.watch(progress)
            except BaseException as error:
                # Raised again after the run is saved. Other processes see it as any other stop.
                self.stopped, self.failure = True, error
        if monotonic() - self.meter.begun > self.options.report_seconds:
            self._report(elapsed)
            self.meter = Meter()

    def _end(self, elapsed: float, finished: bool) -> Networks:
        """Save, put the averaged weights in place, and validate a finished run."""
        if self.first and self.meter.steps:
            self._report(elapsed)
        self._save(max(self.budget, elapsed) if finished else elapsed, finished)
        self.ema.copy_to_parameters()
        if self.failure:
            raise self.failure
        if self.log and self.validate and finished:
            self._validate(elapsed)
            self.log.draw()
        return self.networks

    def _report(self, elapsed: float) -> None:
        means, meter = self.meter.means(), self.meter
        text = "  ".join(
            f"{k} {experts.line(v) if isinstance(v, Tensor) else f'{v:.4f}'}" for k, v in means.items()
        )
        samples_per_second = meter.per_second(meter.samples)
        self.say(
            f"{self.stage.name} {elapsed / 60:6.2f} min  step {self.step}"
            f"  {meter.per_second(meter.steps):.2f} steps/s  {samples_per_second:.1f} samples/s  {text}"
        )
        if self.log:
            self.log.trained(self.step, elapsed, samples_per_second, self.learning_rate, means)

    def _validate(self, elapsed: float) -> None:
        assert self.validate is not None and self.log is not None
        numbers = self.validate(self.networks)
        when = f"{self.stage.name} {elapsed / 60:6.2f} min"
        decibels = "  ".join(f"{k} {v:.2f}" for k, v in numbers.items() if not isinstance(v, Tensor))
        self.say(f"{when}  validation  {decibels}")
        for name, shares in numbers.items():
            if isinstance(shares, Tensor):
                self.say(f"{when}  {name:<20} {experts.line(shares)}")
        self.log.validated(self.step, elapsed, numbers)

    def _save(self, elapsed: float, finished: bool) -> None:
        """Write a checkpoint. All processes call this: each contributes the state of its source of batches,
        and the first one writes."""
        # A finished run needs no batches any more; with more minutes later it draws new ones.
        draw = self.draw.state() if isinstance(self.draw, StatefulDraw) and not finished else None
        if self.log is None:
            return
        # With CUDA graphs the norm is not read after every step, as that would make the GPU wait. A sum that
        # is finite now says the same of all steps since the last report.
        if self.meter.steps:
            self._require_finite(torch.as_tensor(self.meter.sums["norm"]))
        extras = {f"optimizer/{key}": value for key, value in self.optimizer.state(self.parameters).items()}
        if isinstance(self.gradients, CudaGraphSteps):
            extras[GPU_GENERATOR] = self.gradients.generator.get_state()
        if draw:
            extras |= {f"draw/{key}": value for key, value in draw.tensors.items()}
        numbers = {
            "step": self.step,
            "seconds": elapsed,
            "warmed_from": self.warmed_from,
            "validated": self.validated,
            "draw": draw.numbers if draw else None,
        }
        checkpoint.save(self.path, self.networks, self.ema.values, numbers, self.generator, extras)
        self.log.draw()


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names start with `prefix`, under names without it."""
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
