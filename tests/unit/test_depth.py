"""Depth from geometry: all kinds, edges that follow the picture, and depth pictures that are given."""

import json
import math

import pytest
import torch
from aior_pack.aior_core.degradations import depth
from aior_pack.aior_core.degradations.draw import Draw
from aior_pack.aior_core.degradations.fields import stream


def drawing(seed: int) -> Draw:
    return Draw(torch.Generator().manual_seed(seed))


def test_depths_of_all_kinds_are_depths():
    kinds = set()
    for seed in range(80):
        params = depth.draw_depth(drawing(seed))
        kinds.add(params["kind"])
        far = depth.make_depth(json.loads(json.dumps(params)), seed, 60, 90)
        assert far.shape == (60, 90) and 0.0 <= far.min() and far.max() <= 1.0 and far.std() > 0.01
        assert torch.equal(far, depth.make_depth(params, seed, 60, 90))
    assert kinds == set(depth.KINDS)
    assert {depth.draw_depth(drawing(seed), ("wall", "room"))["kind"] for seed in range(40)} == {
        "wall",
        "room",
    }


def test_ground_is_near_below_and_far_at_the_horizon():
    params = {"kind": "ground", "horizon": 0.4, "tilt": 0.0, "rough": 0.0, "nearest": 0.0}
    far = depth.make_depth(params, 0, 100, 40)
    assert far[:40].min() == 1.0 and far[-1].max() < 0.1
    # Along a flat ground the distance is one over the angle below the horizon.
    assert (far[60, 0] / far[80, 0]).item() == pytest.approx((80 / 99 - 0.4) / (60 / 99 - 0.4), rel=1e-4)


@pytest.mark.parametrize("scene", depth.SCENES)
def test_the_depth_of_a_scene_is_geometry(scene):
    upper, spread = 0.0, []
    for seed in range(12):
        far = depth.invented_depth(96, 128, stream(seed), scene)
        assert far.shape == (96, 128) and 0.02 <= far.min() and far.max() <= 1
        upper += (far[:20].mean() - far[-20:].mean()).item() / 12
        spread.append(far.std().item())
    assert min(spread) > 0.03
    if scene == "outdoor":
        assert upper > 0.4


def test_edges_move_to_those_of_the_picture_and_none_is_invented():
    steps = torch.full((1, 1, 128, 128), 0.3)
    steps[..., 70:] = 0.9
    picture = torch.full((1, 3, 128, 128), 0.2)
    picture[..., 64:] = 0.8
    moved = depth.follow_edges(steps, picture)[0, 0]
    steepest = moved.mean(0).diff()
    assert steepest.argmax() == 63 and steepest.max() > 0.1
    # Light and dark of equal distance stay at equal distance: pale is not far.
    level = depth.follow_edges(torch.full((1, 1, 128, 128), 0.5), picture)
    assert (level - 0.5).abs().max() < 1e-3
    opposite = depth.follow_edges(steps, 1.0 - picture)[0, 0]
    assert (opposite - moved).abs().max() < 1e-3


def test_a_given_depth_is_resized_and_stretched():
    given = torch.zeros(10, 12)
    given[:, 6:] = 7.0
    far = depth.given_depth(given, 40, 48)
    assert far.shape == (1, 1, 40, 48) and far.min() == 0.0 and far.max() == 1.0
    with pytest.raises(ValueError, match="finite numbers"):
        depth.given_depth(torch.full((4, 4), math.nan), 8, 8)
    with pytest.raises(ValueError, match="shape"):
        depth.given_depth(torch.zeros(1, 3, 4, 4), 8, 8)


def test_a_given_depth_leaves_what_is_drawn_afterwards_as_it_is():
    picture = torch.rand(1, 3, 32, 32, generator=stream(1))
    for scene in depth.SCENES:
        first, second = stream(5), stream(5)
        invented = depth.seen_depth(picture, first, scene)
        given = depth.seen_depth(picture, second, scene, torch.rand(1, 1, 32, 32, generator=stream(2)))
        assert not torch.equal(invented, given) and given.min() >= depth.NEAREST
        assert torch.equal(torch.rand(3, generator=first), torch.rand(3, generator=second))
