"""Snow of the published sets, by numbers: how much is hidden, and the size and motion of flakes."""

import math

import pytest
import torch
from aior_pack.aior_core.degradations.draw import Draw
from aior_pack.aior_core.degradations.fields import stream
from aior_pack.aior_core.degradations.published.snow import STYLES

SIDE = 192
BLACK = torch.zeros(1, 3, SIDE, SIDE)
STILL = {"motion": 0.0, "fringe": 0.0, "light": [1.0, 1.0, 1.0], "crowd": 1.0, "size": 1.0, "soft": 1.0}


def drawn(name, severity, seed=0, **instead):
    return STYLES[name].draw(Draw(stream(seed)), severity) | instead


def opacity(severity, seed=0, **instead):
    """White snow on black is its opacity, `H W`."""
    params = drawn("snow100k", severity, seed, **(STILL | instead))
    return STYLES["snow100k"].apply(BLACK, params, seed)[0, 0]


@pytest.mark.parametrize("sizes", [[1.0, 0.0, 0.0], [1.0, 0.6, 0.0], [1.0, 0.6, 0.6]])
def test_what_is_hidden_is_what_severity_says(sizes):
    for severity, expected in ((0.3, 0.11), (1.0, 0.37)):
        squares = [opacity(severity, seed, sizes=sizes).square().mean() for seed in range(6)]
        hidden = torch.stack(squares).mean().sqrt().item()
        assert hidden == pytest.approx(expected, rel=0.35)


def test_flakes_of_every_size_have_that_size():
    lengths = []
    for sizes in ([1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]):
        layer = opacity(0.4, 3, sizes=sizes)
        layer = layer - layer.mean()
        spectrum = torch.fft.rfft2(layer).abs().square()
        around = torch.fft.irfft2(spectrum, s=layer.shape)
        around = around / around[0, 0]
        lengths.append(((around[0, :40] + around[:40, 0]) / 2 < 0.5).nonzero()[0].item())
    assert lengths[0] <= 2 < lengths[1] <= 4 < lengths[2] <= 12


def test_motion_draws_flakes_out_in_its_direction():
    still = opacity(0.4, 5, sizes=[0.0, 1.0, 0.0], angle=0.0)
    moved = opacity(0.4, 5, sizes=[0.0, 1.0, 0.0], angle=0.0, motion=4.0)

    def steps(layer, dim):
        return layer.diff(dim=dim).abs().mean().item()

    assert steps(moved, 0) < 0.5 * steps(moved, 1)
    assert steps(still, 0) == pytest.approx(steps(still, 1), rel=0.1)
    assert moved.mean().item() == pytest.approx(still.mean().item(), rel=0.15)


def test_the_parts_of_the_set_have_one_two_and_three_sizes():
    parts = {sum(size > 0 for size in drawn("snow100k", 0.5, seed)["sizes"]) for seed in range(30)}
    moving = [drawn("snow100k", 0.5, seed)["motion"] > 0 for seed in range(60)]
    assert parts == {1, 2, 3} and 15 < sum(moving) < 45


def test_a_fringe_shifts_red_and_blue_apart():
    params = drawn("snow100k", 0.5, 2, **(STILL | {"fringe": 2.0}))
    red, green, blue = STYLES["snow100k"].apply(BLACK, params, 2)[0]
    assert torch.equal(red, green.roll(2, -1)) and torch.equal(blue, green.roll(-2, -1))


def test_the_veil_of_csd_lifts_black_where_nothing_falls():
    params = drawn("csd", 0.8, 4, **(STILL | {"sizes": [0.0, 0.0, 0.0], "veil": 1.0, "air": [0.8, 0.8, 0.8]}))
    veiled = STYLES["csd"].apply(BLACK, params, 4)[0, 0]
    nearest, farthest = (0.8 * (1 - math.exp(-0.8 * (0.3 + 0.7 * depth))) for depth in (0.02, 1.0))
    assert (
        nearest - 1e-3 <= veiled.min() < 0.6 * farthest and 0.9 * farthest < veiled.max() <= farthest + 1e-3
    )
    assert STYLES["csd"].apply(BLACK, params | {"veil": 0.0}, 4).abs().max() == 0
