"""Damage of large pictures: right beyond 2^24 pixels, and in memory that does not grow with what limits
allow.
"""

import time

import pytest
import torch
from aior_pack.aior_core.degradations import apply_recipe, preset_recipe
from aior_pack.aior_core.degradations.blur import convolve
from aior_pack.aior_core.degradations.fields import CHUNK, splat
from aior_pack.aior_core.degradations.kinds.snow import add_snow
from torch.utils._python_dispatch import TorchDispatchMode

MEGAPIXEL = 2**20


class Largest(TorchDispatchMode):
    """Remembers the number of elements of the largest tensor that an operation returned."""

    def __init__(self):
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(tensor, torch.Tensor):
                self.numbers = max(self.numbers, tensor.untyped_storage().nbytes() // tensor.element_size())
        return out


@pytest.mark.slow
def test_flakes_lie_on_every_column_beyond_two_to_the_24_pixels():
    height, width = 32, 640_000
    (step,) = preset_recipe("snow", 0.1, 3, amount=0.02, veil=0.0).steps
    drawn = add_snow(torch.zeros(1, 1, height, width), step.params, step.seed)[0, 0]
    beyond = drawn[-(-(2**24) // width) + 1 :]
    even, odd = beyond[:, ::2].sum().item(), beyond[:, 1::2].sum().item()
    assert even > 1000 and odd == pytest.approx(even, rel=0.05)
    # The flakes are as dense as in the rows before.
    assert beyond.sum().item() == pytest.approx(drawn[: len(beyond)].sum().item(), rel=0.05)


def test_points_beyond_two_to_the_24_pixels_fall_where_they_belong():
    height, width = 33, 600_000
    y, x = torch.tensor([32.0, 31.0, 30.0]), torch.tensor([599_999.0, 599_998.0, 599_997.0])
    canvas = splat(height, width, x, y, torch.ones(3))
    assert canvas.nonzero().tolist() == [[30, 599_997], [31, 599_998], [32, 599_999]]


@pytest.mark.parametrize(
    "kind, params",
    [
        ("snow", {"amount": 4.0, "size": 0.25}),
        ("snow", {"amount": 4.0, "size": 4.0}),
        ("rain", {"amount": 4.0, "length": 4.0}),
        ("rain", {"amount": 4.0, "length": 22.0}),
    ],
)
def test_the_worst_that_limits_allow_takes_bounded_memory(kind, params):
    with Largest() as largest:
        apply_recipe(torch.zeros(1, 3, 512, 512), preset_recipe(kind, 1.0, 1, **params))
    # The picture itself has 0.8 million numbers. The random ones are eight per flake, and there are five
    # flakes per hundred pixels and more.
    assert largest.numbers <= CHUNK + MEGAPIXEL // 2


def test_the_largest_kernels_are_as_exact_as_direct_ones_and_take_seconds():
    generator = torch.Generator().manual_seed(0)
    small = torch.rand(1, 1, 80, 91, generator=generator)
    kernel = torch.rand(41, 41, generator=generator)
    kernel = kernel / kernel.sum()
    padded = torch.nn.functional.pad(small, (20,) * 4, mode="replicate")
    direct = torch.nn.functional.conv2d(padded, kernel.flip(0, 1)[None, None])
    assert (convolve(small, kernel) - direct).abs().max() < 2e-6
    picture, begun = torch.rand(1, 3, 512, 640, generator=generator) * 2 - 1, time.monotonic()
    for shape in ("disc", "motion"):
        blurred = apply_recipe(picture, preset_recipe("blur", 1.0, 1, sigma=32.0, shape=shape))
        assert (
            blurred.mean().item() == pytest.approx(picture.mean().item(), abs=0.02)
            and blurred.std() < picture.std() / 3
        )
    # Direct convolutions would take half a minute.
    assert time.monotonic() - begun < 10
