"""Training in several processes under `torchrun`: they do together what one would do with the whole batch.

Every process draws the random numbers of the whole batch from the same generator and works on its own rows, so that crops, recipes and
noise are those of one process. Without `torchrun` there is one process, and nothing here does anything. (The one difference: in `joint`
all processes share the noise of the routers.)
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import Tensor
from torch import distributed as dist

PATIENCE = timedelta(hours=1)
"""How long the others wait for the first process, which alone validates and saves."""


@contextmanager
def processes(device: str) -> Iterator[None]:
    """Join the processes that `torchrun` started; `device` "cuda" gives each a GPU of its own."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if device == "cuda" else "gloo", timeout=PATIENCE)
    yield
    # Not after an error: the others may be waiting in the middle of a step, and leaving is what tells torchrun to end them.
    dist.destroy_process_group()


def world() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is; 0 saves, logs, validates and watches the clock."""
    return dist.get_rank() if dist.is_initialized() else 0


def rows(count: int) -> slice:
    """This process's rows of a batch of `count`, a multiple of the number of processes."""
    own = count // world()
    return slice(rank() * own, (rank() + 1) * own)


def whole(count: float) -> int:
    """The samples of a batch of about `count`: at least as many, at least one a process, and as many for each process."""
    return world() * max(1, math.ceil(count / world()))


def normal(shape: Iterable[int], generator: torch.Generator, device: torch.device | str = "cpu") -> Tensor:
    """This process's rows, of `shape`, of a normal draw for the whole batch.

    A GPU draws for itself, from a seed that `generator` gives: a processor takes longer for the noise of a batch than a GPU for its step.
    A generator of a GPU's draws there, whatever `device` says.
    """
    count, *rest = shape
    if generator.device.type != "cpu":
        device = generator.device
    elif torch.device(device).type != "cpu":
        seed = torch.randint(2**62, (), generator=generator).item()
        generator = torch.Generator(device).manual_seed(seed)
    return torch.randn(world() * count, *rest, generator=generator, device=device)[rows(world() * count)]


def uniform(shape: Iterable[int], generator: torch.Generator) -> Tensor:
    """This process's rows, of `shape`, of a draw from 0..1 for the whole batch, where `generator` is."""
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
        # Every process has the whole batch's loss, but hears of its own rows only, and the mean of the gradients divides again.
        return world() * grad[rows(len(grad))]


def gather(own: Tensor) -> Tensor:
    """`b ...` of every process -> `B ...` of the whole batch, for losses that are no mean over samples; gradients pass through."""
    return own if world() == 1 else _Gather.apply(own)


def average_gradients(parameters: list[Tensor]) -> None:
    """Give every process the mean gradient. What no process used keeps none, so that AdamW leaves it alone as it would in one."""
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
    """The mean over the processes of numbers and tensors that all of them have under the same names."""
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


def of_first(*numbers: float) -> list[float]:
    """The first process's numbers: clocks differ, and all must leave the loop in the same step."""
    if world() == 1:
        return list(numbers)
    shared = torch.tensor(numbers, dtype=torch.float64, device=_device())
    dist.broadcast(shared, 0)
    return shared.tolist()


def agree(value):
    """The first process's picklable object."""
    if world() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, 0, device=torch.device(_device()))
    return box[0]


@torch.no_grad()
def share(tensors: Iterable[Tensor]) -> None:
    """Overwrite the tensors of every process with the first one's."""
    if world() == 1:
        return
    for tensor in tensors:
        held = tensor.detach().contiguous()
        dist.broadcast(held, 0)
        tensor.copy_(held)


def spread(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The first process's tensors, on the CPU, for all; what the others give is not looked at."""
    if world() == 1:
        return tensors
    described = agree({name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()})
    found = {}
    for name, (shape, dtype) in described.items():
        held = tensors[name].contiguous() if rank() == 0 else torch.empty(shape, dtype=dtype)
        # As bytes: not every backend sends every dtype.
        sent = held.reshape(-1).view(torch.uint8).to(_device())
        dist.broadcast(sent, 0)
        found[name] = sent.cpu().view(dtype).reshape(shape)
    return found


def _device() -> str:
    return "cuda" if dist.get_backend() == "nccl" else "cpu"
