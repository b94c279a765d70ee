"""The air of a scene: depths, haze by Koschmieder's law, rain and snow that only add light's share."""

import json
import math

import pytest
import torch
from aior_pack.aior_core.degradations.camera import depth, particles, scene
from aior_pack.aior_core.degradations.draw import Draw


def drawing(seed: int) -> Draw:
    return Draw(torch.Generator().manual_seed(seed))


def light(height=96, width=120, seed=0):
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed)) * 0.5


def test_depths_of_all_kinds_are_depths():
    kinds = set()
    for seed in range(80):
        params = depth.draw_depth(drawing(seed))
        kinds.add(params["kind"])
        far = depth.make_depth(json.loads(json.dumps(params)), seed, 60, 90)
        assert far.shape == (60, 90) and 0.0 <= far.min() and far.max() <= 1.0 and far.std() > 0.01
        assert torch.equal(far, depth.make_depth(params, seed, 60, 90))
    assert kinds == set(depth.KINDS)
    assert {depth.draw_depth(drawing(seed), indoor=True)["kind"] for seed in range(40)} == {"wall", "room"}


def test_ground_is_near_below_and_far_at_the_horizon():
    params = {"kind": "ground", "horizon": 0.4, "tilt": 0.0, "rough": 0.0, "nearest": 0.0}
    far = depth.make_depth(params, 0, 100, 40)
    assert far[:40].min() == 1.0 and far[-1].max() < 0.1
    # Along a flat ground the distance is one over the angle below the horizon.
    assert (far[60, 0] / far[80, 0]).item() == pytest.approx((80 / 99 - 0.4) / (60 / 99 - 0.4), rel=1e-4)


def test_drawn_depth_follows_the_edges_of_the_picture():
    geometry = torch.linspace(0.0, 1.0, 100)[None, None, None, :].expand(1, 1, 80, 100).contiguous()
    picture = torch.zeros(1, 3, 80, 100)
    picture[..., 50:] = 1.0
    follows = depth.follow_edges(geometry, picture)
    step = (follows[..., 50] - follows[..., 49]).mean()
    assert step > 5.0 * (follows[..., 40] - follows[..., 39]).abs().mean()
    assert (depth.follow_edges(geometry, torch.full((1, 3, 80, 100), 0.5)) - geometry).abs()[
        ..., 15:-15
    ].max() < 0.02
    # A brighter thing is as often nearer as farther: the geometry decides.
    assert (
        depth.follow_edges(1.0 - geometry, picture)[..., 50]
        - depth.follow_edges(1.0 - geometry, picture)[..., 49]
    ).mean() < 0.0


def test_a_given_depth_takes_the_place_of_the_geometry():
    given = torch.zeros(10, 12)
    given[:, 6:] = 7.0
    params = {
        **scene.NO_SCENE,
        "depth": depth.draw_depth(drawing(1)),
        "haze": {**scene.draw_haze(drawing(2), 2.0), "glow": 0.0, "patches": 0.0, "split": 0.0},
    }
    far = scene.scene_depth(params, 0, 40, 48, given)
    assert far.shape == (1, 1, 40, 48) and far.min() == 0.0 and far.max() == 1.0
    out = scene.apply_scene(light(40, 48), params, 0, given)
    assert torch.allclose(out[..., :16], light(40, 48)[..., :16], atol=1e-5)
    air = torch.tensor(params["haze"]["air"]).view(3, 1, 1)
    passed = math.exp(-2.0)
    expected = light(40, 48)[0, :, :, 40:] * passed + air * (1.0 - passed)
    assert torch.allclose(out[0, :, :, 40:], expected, atol=1e-4)
    with pytest.raises(ValueError, match="finite numbers"):
        depth.given_depth(torch.full((4, 4), math.nan), 8, 8)
    with pytest.raises(ValueError, match="shape"):
        depth.given_depth(torch.zeros(1, 3, 4, 4), 8, 8)


def test_airlight_goes_from_yellow_to_blue_and_thickness_widely():
    drawn = [scene.draw_haze(drawing(seed)) for seed in range(300)]
    warmth = torch.tensor([params["air"][0] / params["air"][2] for params in drawn])
    levels = torch.tensor([params["air"][1] for params in drawn])
    assert warmth.min() < 0.9 and warmth.max() > 1.2 and 0.95 < warmth.median() < 1.05
    assert levels.min() < 0.25 and levels.max() > 0.9
    through = torch.exp(-torch.tensor([params["beta"] for params in drawn]))
    assert through.min() < 0.12 and through.max() > 0.85


@pytest.mark.parametrize("kind", ["haze", "rain", "snow"])
def test_more_weather_takes_more_of_the_light(kind):
    amounts = (0.0, 0.1, 0.3, 0.6, 1.0)
    for seed in range(6):
        params = scene.draw_scene(drawing(seed), **{kind: 1.0})
        name = "beta" if kind == "haze" else "amount"
        covers, losses = [], []
        for amount in amounts:
            changed = {**params, kind: {**params[kind], name: amount}}
            covers.append(scene.weather_cover(changed, seed, 96, 120)[kind].mean().item())
            losses.append(((scene.apply_scene(light(), changed, seed) - light()) ** 2).mean().item())
        assert covers[0] == 0.0 and losses[0] < 1e-12
        assert covers == sorted(covers) and losses == sorted(losses)


@pytest.mark.parametrize("kind", ["rain", "snow"])
def test_what_falls_brightens_and_hides_only_its_share(kind):
    for seed in range(12):
        params = scene.draw_scene(drawing(seed), **{kind: 0.7})
        dark = light() * 0.5
        out = scene.apply_scene(dark, params, seed)
        cover = scene.weather_cover(params, seed, 96, 120)[kind]
        air = torch.tensor(params[kind]["light"]).view(1, 3, 1, 1)
        assert torch.allclose(out, dark + (air - dark) * cover, atol=1e-5)
        assert (out - dark).min() > -1e-6 and 0.0 <= cover.min() and cover.max() <= 1.0


def test_streaks_lie_along_their_direction_and_far_things_hide_behind_near_ones():
    params = {
        **particles.draw_rain(drawing(1), 0.8),
        "angle": 0.0,
        "turn": 0.5,
        "length": 50.0,
        "veil": 0.0,
        "near": 0.0,
    }
    cover = particles.particle_cover(params, 3, 200, 200, torch.ones(1, 1, 200, 200))[0, 0]
    cover = cover - cover.mean()
    down = (cover[12:] * cover[:-12]).mean() / cover.var()
    across = (cover[:, 12:] * cover[:, :-12]).mean() / cover.var()
    assert down > 0.4 and across < 0.1
    near = particles.particle_cover(params, 3, 200, 200, torch.zeros(1, 1, 200, 200))
    far = particles.particle_cover(params, 3, 200, 200, torch.ones(1, 1, 200, 200))
    assert near.mean() < 0.3 * far.mean()


def test_weather_of_large_pictures_needs_no_more_points_at_once(monkeypatch):
    params = {**particles.draw_rain(drawing(1), 0.8), "length": 40.0}
    deep = torch.ones(1, 1, 120, 120)
    whole = particles.particle_cover(params, 3, 120, 120, deep)
    largest = []

    def counting(height, width, x, y, weight, splat=particles.splat):
        largest.append(x.numel())
        return splat(height, width, x, y, weight)

    monkeypatch.setattr(particles, "splat", counting)
    monkeypatch.setattr(particles, "_POINTS", 2000)
    parts = particles.particle_cover(params, 3, 120, 120, deep)
    assert max(largest) <= 2000 and len(largest) > 4
    assert parts.mean().item() == pytest.approx(whole.mean().item(), rel=0.2)


def test_more_weather_can_be_plugged_in_and_nothing_is_nothing():
    seen = []

    def dim(now, far, seed):
        seen.append((far.shape, seed))
        return now * 0.5

    params = {**scene.NO_SCENE, "depth": depth.draw_depth(drawing(1))}
    assert torch.equal(scene.apply_scene(light(), params, 4, weather=(dim,)), light() * 0.5)
    assert seen == [((1, 1, 96, 120), 14)]
    assert scene.apply_scene(picture := light(), scene.NO_SCENE, 4) is picture
    assert scene.weather_cover(scene.NO_SCENE, 4, 8, 8) == {}


@pytest.mark.parametrize("value", [-0.1, 1e6, math.nan])
def test_impossible_amounts_are_refused(value):
    with pytest.raises(ValueError, match="amount of rain"):
        particles.particle_cover(
            {**particles.draw_rain(drawing(0)), "amount": value}, 0, 8, 8, torch.ones(1, 1, 8, 8)
        )
    with pytest.raises(ValueError, match="beta of haze"):
        scene.transmission({**scene.draw_haze(drawing(0)), "beta": value}, 0, torch.ones(1, 1, 8, 8))
    with pytest.raises(ValueError, match="'hail'"):
        particles.particle_cover(
            {**particles.draw_rain(drawing(0)), "kind": "hail"}, 0, 8, 8, torch.ones(1, 1, 8, 8)
        )
