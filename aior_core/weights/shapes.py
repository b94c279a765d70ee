"""Numbers of a network, read from the names and shapes of its tensors."""

from __future__ import annotations

from torch import Tensor

from .shards import listed


def shape_of(tensors: dict[str, Tensor], key: str, dimensions: int) -> tuple[int, ...]:
    """The shape of a tensor. Raises KeyError if it is missing, ValueError if it does not have `dimensions`
    dimensions.
    """
    shape = tuple(tensors[key].shape)
    if len(shape) != dimensions:
        raise ValueError(
            f"The weights' {listed([key])} has the shape {shape[:8]}; expected {dimensions} numbers. "
            "The file is damaged; get it again."
        )
    return shape


def count_modules(tensors: dict[str, Tensor], prefix: str) -> int:
    """How many modules are numbered under `prefix`, from 0 without a gap. `require_fit` reports keys beyond a
    gap as unknown.
    """
    numbers = {key[len(prefix) :].split(".", 1)[0] for key in tensors if key.startswith(prefix)}
    count = 0
    while str(count) in numbers:
        count += 1
    return count


def trunk_widths(tensors: dict[str, Tensor], prefix: str) -> tuple[int, ...]:
    """The widths of the levels of a `models.autoencoder.Trunk`."""
    downs = range(count_modules(tensors, f"{prefix}downs."))
    return (
        shape_of(tensors, f"{prefix}stem.weight", 4)[0],
        *(shape_of(tensors, f"{prefix}downs.{i}.weight", 4)[0] for i in downs),
    )


def block_counts(
    tensors: dict[str, Tensor], prefix: str, levels: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """How many NAF blocks and how many plain blocks each level has."""
    every = [count_modules(tensors, f"{prefix}levels.{i}.") for i in range(levels)]
    plain = [
        sum(f"{prefix}levels.{i}.{j}.conv1.weight" in tensors for j in range(blocks))
        for i, blocks in enumerate(every)
    ]
    return tuple(blocks - p for blocks, p in zip(every, plain)), tuple(plain)
