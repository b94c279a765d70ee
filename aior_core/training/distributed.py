"""Training in several processes under `torchrun`: together they compute what one process would.

Every process draws the random numbers of the whole batch from the same generator and works on its own rows.
So crops, recipes and noise are those of a single process; only the noise of the routers in `joint` is the
same in all processes. Without `torchrun` there is one process, and the functions here do nothing.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

TIMEOUT = timedelta(hours=1)
"""How long the other processes wait for the first one, which alone validates and saves."""


@contextmanager
def processes(device: str) -> Iterator[None]:
    """Inside, the processes that `torchrun` started are joined; `device` "cuda" gives each its own GPU."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if device == "cuda" else "gloo", timeout=TIMEOUT)
    yield
    # Not after an error: the other processes may wait in the middle of a step, and torchrun ends them only
    # when this process exits.
    dist.destroy_process_group()


def world() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """The number of this process, from 0. Process 0 saves, logs, validates and keeps the time."""
    return dist.get_rank() if dist.is_initialized() else 0


def rows(count: int) -> slice:
    """This process's rows of a batch of `count`, a multiple of the number of processes."""
    own = count // world()
    return slice(rank() * own, (rank() + 1) * own)


def divisible(count: float) -> int:
    """The smallest batch of at least `count` samples that has equally many, and at least one, for each
    process."""
    return world() * max(1, math.ceil(count / world()))


def normal(shape: Iterable[int], generator: torch.Generator, device: torch.device | str = "cpu") -> Tensor:
    """Normal noise of `shape`: this process's rows of one draw for the whole batch.

    On a GPU the GPU draws, from a seed that `generator` gives: a processor needs longer for the noise of a
    batch than a GPU needs for the whole step. A generator of a GPU draws there, whatever `device` says.
    """
    count, *rest = shape
    if generator.device.type != "cpu":
        device = generator.device
    elif torch.device(device).type != "cpu":
        seed = int(torch.randint(2**62, (), generator=generator).item())
        generator = torch.Generator(device).manual_seed(seed)
    return torch.randn(world() * count, *rest, generator=generator, device=device)[rows(world() * count)]


def uniform(shape: Iterable[int], generator: torch.Generator) -> Tensor:
    """Uniform numbers in 0..1 of `shape`: this process's rows of one draw for the whole batch, on the
    generator's device."""
    count, *rest = shape
    return torch.rand(world() * count, *rest, generator=generator, device=generator.device)[
        rows(world() * count)
    ]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, own: Tensor) -> Tensor:
        parts = [torch.empty_like(own, memory_format=torch.contiguous_format) for _ in range(world())]
        dist.all_gather(parts, own.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        # Every process computes the loss of the whole batch but keeps the gradient of its own rows only, and
        # averaging the gradients divides by the number of processes.
        return world() * grad[rows(len(grad))]


def gather(own: Tensor) -> Tensor:
    """`b ...` of every process -> `B ...` of the whole batch, for losses that are no mean over samples. It is
    differentiable."""
    return own if world() == 1 else _Gather.apply(own)


def average_gradients(parameters: list[Tensor]) -> None:
    """Give every process the mean gradient. A parameter that no process used keeps None, so that AdamW skips
    it as it would in a single process."""
    if world() == 1:
        return
    used = torch.tensor([float(p.grad is not None) for p in parameters], device=parameters[0].device)
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    flat = torch.cat([*(g.flatten() for g in gradients), used])
    dist.all_reduce(flat)
    flat /= world()
    pieces = flat[: -len(parameters)].split([p.numel() for p in parameters])
    for parameter, gradient, piece, share in zip(
        parameters, gradients, pieces, flat[-len(parameters) :].tolist()
    ):
        if share:
            parameter.grad = gradient.copy_(piece.view_as(gradient))


def mean(numbers: dict[str, float | Tensor]) -> dict[str, float | Tensor]:
    """The means over all processes of numbers and tensors that all of them have under the same names."""
    if world() == 1:
        return numbers
    flat = torch.cat(
        [
            torch.as_tensor(value, dtype=torch.float64, device=_device()).flatten()
            for value in numbers.values()
        ]
    )
    dist.all_reduce(flat)
    pieces = (flat / world()).cpu().split([torch.as_tensor(value).numel() for value in numbers.values()])
    return {
        k: p.view_as(v).to(v) if isinstance(v, Tensor) else p.item()
        for (k, v), p in zip(numbers.items(), pieces)
    }


def broadcast_numbers(*numbers: float) -> list[float]:
    """The first process's numbers. Clocks differ, and all processes have to leave the loop in the same
    step."""
    if world() == 1:
        return list(numbers)
    shared = torch.tensor(numbers, dtype=torch.float64, device=_device())
    dist.broadcast(shared, 0)
    return shared.tolist()


def broadcast_object(value: Any) -> Any:
    """The first process's object, which pickle can send."""
    if world() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, 0, device=torch.device(_device()))
    return box[0]


@torch.no_grad()
def broadcast_tensors(tensors: Iterable[Tensor]) -> None:
    """Overwrite the tensors of every process with those of the first one, in place."""
    if world() == 1:
        return
    for tensor in tensors:
        held = tensor.detach().contiguous()
        dist.broadcast(held, 0)
        tensor.copy_(held)


def broadcast_dict(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The first process's tensors, on the CPU. What the other processes pass is ignored."""
    if world() == 1:
        return tensors
    described = broadcast_object({name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()})
    found = {}
    for name, (shape, dtype) in described.items():
        held = tensors[name].contiguous() if rank() == 0 else torch.empty(shape, dtype=dtype)
        # As bytes, because not every backend sends every dtype.
        sent = held.reshape(-1).view(torch.uint8).to(_device())
        dist.broadcast(sent, 0)
        found[name] = sent.cpu().view(dtype).reshape(shape)
    return found


def _device() -> str:
    return "cuda" if dist.get_backend() == "nccl" else "cpu"
