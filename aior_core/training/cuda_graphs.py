"""Steps of a stage as CUDA graphs: captured once per shape and choice, then replayed.

A step of `detail` launches some four thousand kernels, and a processor needs longer to launch them than the
GPU needs to run them. A graph is one launch. Measured on an H200: eleven steps of a megapixel a second, with
the GPU busy 98 % of the time; an H100 that waited for its processor made not quite four steps of two
megapixels.

Everything that changes from step to step has to stay at the same address. So inputs are copied to fixed
tensors, gradients stay allocated, and random numbers come from one GPU generator that is registered with
every graph.
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
from .run_log import Logs

Step = Callable[..., tuple[Tensor, Logs]]
Choose = Callable[[torch.Generator], str | None]

Gradients = Callable[[Tensor, torch.Generator, dict[str, Any]], tuple[Tensor, Logs]]
"""`gradients(clean, generator, batch)` runs a step forward and backward and adds to the parameters'
gradients. Returns the loss and the logs, both detached."""


def eager_steps(networks: Parts, step: Step, device: str) -> Gradients:
    """Steps as PyTorch runs them, one kernel after the other."""

    def gradients(clean: Tensor, generator: torch.Generator, batch: dict[str, Any]) -> tuple[Tensor, Logs]:
        with autocast(device):
            loss, logs = step(networks, clean, generator, **batch)
        loss.backward()
        return loss.detach(), logs

    return gradients


class CudaGraphSteps:
    """`Gradients` of a step whose inputs are tensors only, which means that damage was made in advance.

    choose: what the step would draw its `choice` with; a graph is captured for each choice and shape.
    Gradients may be zeroed between steps, but not set to None.
    """

    def __init__(self, networks: Parts, step: Step, choose: Choose, seed: int):
        self.choose = choose
        self.gradients = eager_steps(networks, step, "cuda")
        self.generator = torch.Generator("cuda").manual_seed(seed)
        self.pool = torch.cuda.graph_pool_handle()
        self.constants = CachedConstants()
        self.graphs: dict[tuple, tuple[torch.cuda.CUDAGraph, list[Tensor], tuple[Tensor, Logs]]] = {}

    def __call__(
        self, clean: Tensor, generator: torch.Generator, batch: dict[str, Any]
    ) -> tuple[Tensor, Logs]:
        inputs, choice = {"clean": clean} | batch, self.choose(generator)
        given = list(tensors(inputs))
        key = choice, *(tensor.shape for tensor in given)
        if key not in self.graphs:
            return self._capture(key, inputs, {} if choice is None else {"choice": choice})
        graph, held, result = self.graphs[key]
        torch._foreach_copy_(held, given)
        graph.replay()
        return result

    def _capture(self, key: tuple, inputs: dict[str, Any], choice: dict[str, str]) -> tuple[Tensor, Logs]:
        """Run the step eagerly, which compiles its kernels and allocates all gradients; then capture one like
        it."""
        held = copied(inputs)
        batch = {name: value for name, value in held.items() if name != "clean"} | choice
        with self.constants:
            result = self.gradients(held["clean"], self.generator, batch)
            graph = torch.cuda.CUDAGraph()
            graph.register_generator_state(self.generator)
            # Other threads load pictures meanwhile; their calls to CUDA do not belong to the graph.
            with torch.cuda.graph(graph, pool=self.pool, capture_error_mode="thread_local"):
                captured = self.gradients(held["clean"], self.generator, batch)
        self.graphs[key] = graph, list(tensors(held)), captured
        return result


class CachedConstants(TorchFunctionMode):
    """Inside, `torch.tensor` of plain numbers makes each tensor once: a graph cannot copy numbers from the
    CPU."""

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
    """The tensors in a tensor, a dictionary or a dataclass, always in the same order, each only once."""
    seen: set[int] = set()
    for tensor in _all_tensors(value):
        if id(tensor) not in seen:
            seen.add(id(tensor))
            yield tensor


def _all_tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
        return
    if isinstance(value, dict):
        parts = list(value.values())
    else:
        parts = [getattr(value, field.name) for field in fields(value)]
    for part in parts:
        yield from _all_tensors(part)


def copied(value: Any, made: dict[int, Tensor] | None = None) -> Any:
    """A copy of a tensor, a dictionary or a dataclass with tensors of its own. A tensor that occurs twice
    occurs twice in the copy. made: copies so far, by the identity of the original."""
    made = {} if made is None else made
    if isinstance(value, Tensor):
        return made.setdefault(id(value), value.clone())
    if is_dataclass(value) and not isinstance(value, type):
        changes = {field.name: copied(getattr(value, field.name), made) for field in fields(value)}
        return replace(value, **changes)
    return {name: copied(part, made) for name, part in value.items()}
