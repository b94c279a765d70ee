"""One time-boxed, resumable training loop for every stage."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from . import checkpoint
from .data import Photographs, draw_batch
from .networks import Networks
from .stages import Stage

WARM_UP = 100
DECAY_SHARE = 0.35
SAVE_SECONDS = 120.0


@dataclass(frozen=True)
class Options:
    """`minutes` of training in all, those of an interrupted run counted in; `device` "cpu" or "cuda"."""

    out: Path
    minutes: float
    seed: int = 0
    device: str = "cpu"
    batch_scale: int = 1
    validate_seconds: float = 600.0
    ema_decay: float = 0.999
    learning_rate_scale: float = 1.0


def schedule(progress: float, step: int) -> float:
    """Warm-up by steps, then constant, then 1 - sqrt over the last part of the time."""
    warm = min(1.0, (step + 1) / WARM_UP)
    if progress <= 1 - DECAY_SHARE:
        return warm
    return warm * max(0.02, 1 - math.sqrt((progress - 1 + DECAY_SHARE) / DECAY_SHARE))


class Average:
    """Exponential moving average of the trained parameters, fp32; short runs average over a tenth of what they did."""

    def __init__(self, parameters: dict[str, Tensor], decay: float):
        self.decay, self.values = decay, {k: v.detach().clone() for k, v in parameters.items()}

    @torch.no_grad()
    def update(self, parameters: dict[str, Tensor], step: int) -> None:
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.values.values()), [parameters[k].detach() for k in self.values], weight)


class swapped:
    """Within it the networks hold the averaged weights."""

    def __init__(self, parameters: dict[str, Tensor], values: dict[str, Tensor]):
        self.parameters, self.values = parameters, values

    def _swap(self) -> None:
        for key, value in self.values.items():
            held = self.parameters[key].data.clone()
            self.parameters[key].data.copy_(value)
            value.copy_(held)

    def __enter__(self) -> None:
        self._swap()

    def __exit__(self, *error) -> None:
        self._swap()


def trained_parameters(networks: Networks, prefixes: tuple[str, ...]) -> dict[str, Tensor]:
    """The parameters whose names start with one of `prefixes`; all others stop asking for gradients."""
    chosen = {}
    for name, part in networks.parts().items():
        for key, parameter in part.named_parameters():
            full = f"{name}.{key}"
            wanted = any(full.startswith(prefix + ".") for prefix in prefixes)
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
    validate: Callable[[Networks], dict[str, float]] | None = None,
    say: Callable[[str], None] = print,
) -> Networks:
    """Train `stage` for `options.minutes`, resuming from `options.out` where there is an unfinished run of it.

    Returns the networks with the averaged weights. Raises RuntimeError when the loss is no longer finite.
    """
    path = options.out / f"{stage.name}.safetensors"
    generator = torch.Generator().manual_seed(options.seed + 1)
    step, used = 0, 0.0
    if path.exists():
        ema, raw, state, generator_state = checkpoint.load(path)
        networks.load_state_dict(ema | raw)
        generator.set_state(generator_state)
        step, used = state["step"], state["seconds"]
        say(f"{stage.name}: resumed at step {step}, {used / 60:.1f} of {options.minutes:g} minutes used")
    networks.to(options.device)
    parameters = trained_parameters(networks, stage.trains)
    average = Average(parameters, options.ema_decay)
    if path.exists():
        average.values = {k: ema[k].to(options.device) for k in parameters}
    optimizer = torch.optim.AdamW(parameters.values(), lr=stage.learning_rate, betas=(0.9, 0.99), weight_decay=1e-4, fused=True)
    budget, begun = 60 * options.minutes, time.monotonic() - used
    saved = validated = reported = time.monotonic()
    sums: dict[str, float] = defaultdict(float)
    first = warm = step
    while (elapsed := time.monotonic() - begun) < budget:
        progress = elapsed / budget
        for group in optimizer.param_groups:
            group["lr"] = stage.learning_rate * options.learning_rate_scale * schedule(progress, step - warm)
        size, count = stage.crops(progress, step)
        clean = draw_batch(photographs, count * options.batch_scale, size, generator).to(options.device)
        with torch.autocast(options.device, dtype=torch.bfloat16):
            loss, logs = stage.step(networks, clean, generator)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters.values(), 1.0)
        if not torch.isfinite(norm):
            raise RuntimeError(f"training {stage.name}: gradient is {norm.item()} at step {step}; lower the learning rate and resume from {path}")
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        average.update(parameters, step)
        step += 1
        for key, value in (logs | {"loss": loss.item(), "norm": norm.item()}).items():
            sums[key] += value
        now = time.monotonic()
        if now - reported > 30:
            done = step - first
            text = "  ".join(f"{k} {v / done:.4f}" for k, v in sums.items())
            say(f"{stage.name} {elapsed / 60:6.2f} min  step {step}  {done / (now - reported):.2f} steps/s  {text}")
            sums, first, reported = defaultdict(float), step, now
        if now - saved > SAVE_SECONDS:
            checkpoint.save(path, networks, average.values, {"step": step, "seconds": now - begun}, generator)
            saved = now
        if validate and now - validated > options.validate_seconds:
            with swapped(parameters, average.values):
                report(validate(networks), stage, elapsed, say)
            validated = time.monotonic()
    for key, value in average.values.items():
        parameters[key].data.copy_(value)
    checkpoint.save(path, networks, average.values, {"step": step, "seconds": max(budget, time.monotonic() - begun)}, generator)
    if validate:
        report(validate(networks), stage, budget, say)
    return networks


def report(numbers: dict[str, float], stage: Stage, elapsed: float, say: Callable[[str], None]) -> None:
    say(f"{stage.name} {elapsed / 60:6.2f} min  validation  " + "  ".join(f"{k} {v:.2f}" for k, v in numbers.items()))
