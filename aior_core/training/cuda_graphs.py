"""A stage's steps as CUDA graphs: recorded once per shape and choice, then replayed.

A step of `detail` launches some four thousand kernels, for which a processor needs longer than the GPU that runs them. A graph is launched
as one: eleven steps of a megapixel a second on an H200, which is then busy 98 % of the time, where an H100 that waited for its processor
did not quite four of two. What changes from step to step must lie where it lay when it was recorded: inputs are copied there, gradients stay in place, and
random numbers come from a generator of the GPU that every graph knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from .networks import Parts
from .precision import autocast
from .stages import Logs, Stage

Gradients = Callable[[Tensor, torch.Generator, dict[str, Any]], tuple[Tensor, Logs]]
"""`gradients(clean, generator, mix)`: a step without the optimiser's; the loss, and what to log, both without a graph behind them."""


def unrecorded(networks: Parts, stage: Stage, device: str) -> Gradients:
    """Every step by itself, one kernel after the other."""

    def gradients(clean: Tensor, generator: torch.Generator, mix: dict[str, Any]) -> tuple[Tensor, Logs]:
        with autocast(device):
            loss, logs = stage.step(networks, clean, generator, **mix)
        loss.backward()
        return loss.detach(), logs

    return gradients


class CudaGraphSteps:
    """`Gradients` of a stage whose inputs are tensors only (its damage was made before). Gradients may be zeroed, but not taken away."""

    def __init__(self, networks: Parts, stage: Stage, seed: int):
        self.stage = stage
        self.gradients = unrecorded(networks, stage, "cuda")
        self.generator = torch.Generator("cuda").manual_seed(seed)
        self.pool = torch.cuda.graph_pool_handle()
        self.constants = Constants()
        self.graphs: dict[tuple, tuple[torch.cuda.CUDAGraph, list[Tensor], tuple[Tensor, Logs]]] = {}

    def __call__(self, clean: Tensor, generator: torch.Generator, mix: dict[str, Any]) -> tuple[Tensor, Logs]:
        inputs, names = {"clean": clean} | mix, {}
        if self.stage.choose:
            names["choice"] = self.stage.choose(generator)
        given = list(tensors(inputs))
        key = *names.values(), *(tensor.shape for tensor in given)
        if key not in self.graphs:
            return self._first(key, inputs, names)
        graph, held, made = self.graphs[key]
        torch._foreach_copy_(held, given)
        graph.replay()
        return made

    def _first(self, key: tuple, inputs: dict[str, Any], names: dict[str, str]) -> tuple[Tensor, Logs]:
        """Take the step, after which everything in it has been compiled and all gradients exist; then record another of its kind."""
        held = copied(inputs)
        mix = {name: value for name, value in held.items() if name != "clean"} | names
        with self.constants:
            made = self.gradients(held["clean"], self.generator, mix)
            graph = torch.cuda.CUDAGraph()
            graph.register_generator_state(self.generator)
            # Other threads load pictures meanwhile; what they ask of CUDA has nothing to do with the graph.
            with torch.cuda.graph(graph, pool=self.pool, capture_error_mode="thread_local"):
                recorded = self.gradients(held["clean"], self.generator, mix)
        self.graphs[key] = graph, list(tensors(held)), recorded
        return made


class Constants(TorchFunctionMode):
    """Within it a tensor of plain numbers is made once: a graph cannot fetch numbers from the processor."""

    def __init__(self):
        super().__init__()
        self.made: dict[str, Tensor] = {}

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is not torch.tensor or any(isinstance(value, Tensor) for value in args):
            return function(*args, **kwargs)
        key = repr((args, sorted(kwargs.items(), key=lambda item: item[0])))
        if key not in self.made:
            self.made[key] = function(*args, **kwargs)
        return self.made[key]


def tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in a tensor, a dictionary, or a dataclass of tensors, always in the same order; each only once."""
    seen: set[int] = set()
    for tensor in _all(value):
        if id(tensor) not in seen:
            seen.add(id(tensor))
            yield tensor


def _all(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    else:
        parts = (
            value.values()
            if isinstance(value, dict)
            else (getattr(value, field.name) for field in fields(value))
        )
        for part in parts:
            yield from _all(part)


def copied(value: Any, made: dict[int, Tensor] | None = None) -> Any:
    """The same of tensors of its own; one that stands in two places is one again. `made`: what was copied before, by identity."""
    made = {} if made is None else made
    if isinstance(value, Tensor):
        return made.setdefault(id(value), value.clone())
    if is_dataclass(value):
        return replace(
            value, **{field.name: copied(getattr(value, field.name), made) for field in fields(value)}
        )
    return {name: copied(part, made) for name, part in value.items()}
