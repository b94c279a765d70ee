"""Weather in a camera: haze by Koschmieder's law, and rain and snow that hide a share of the light."""

import math

import pytest
import torch
from aior_pack.aior_core.degradations import of
from aior_pack.aior_core.degradations.camera import haze, particles
from aior_pack.aior_core.degradations.depth import draw_depth, make_depth
from aior_pack.aior_core.degradations.draw import Draw


def drawing(seed: int) -> Draw:
    return Draw(torch.Generator().manual_seed(seed))


def light(height=96, width=120, seed=0):
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed)) * 0.5


def test_airlight_goes_from_yellow_to_blue_and_thickness_widely():
    drawn = [haze.draw_haze(drawing(seed)) for seed in range(300)]
    warmth = torch.tensor([params["air"][0] / params["air"][2] for params in drawn])
    levels = torch.tensor([params["air"][1] for params in drawn])
    assert warmth.min() < 0.9 and warmth.max() > 1.2 and 0.95 < warmth.median() < 1.05
    assert levels.min() < 0.25 and levels.max() > 0.9
    through = torch.exp(-torch.tensor([params["beta"] for params in drawn]))
    assert through.min() < 0.12 and through.max() > 0.85


def far_things(seed):
    """Return `1 1 H W` of a drawn geometry."""
    return make_depth(draw_depth(drawing(seed)), seed, 96, 120)[None, None]


@pytest.mark.parametrize("kind", ["haze", "rain", "snow"])
def test_more_weather_takes_more_of_the_light(kind):
    look, part = of(kind).styles["camera"], "air" if kind == "haze" else "fall"
    for seed in range(6):
        params, depth = look.draw(drawing(seed), 0.5, None), far_things(seed)
        covers, losses = [], []
        for amount in (0.0, 0.1, 0.3, 0.6, 1.0):
            name = "beta" if kind == "haze" else "amount"
            changed = {**params, part: {**params[part], name: amount}}
            covers.append(look.truth(changed, seed, 96, 120, depth=depth).mean().item())
            losses.append(((look.apply(light(), changed, seed, depth=depth) - light()) ** 2).mean().item())
        assert covers[0] == pytest.approx(0.0, abs=1e-6) and losses[0] < 1e-12
        assert covers == sorted(covers) and losses == sorted(losses)


@pytest.mark.parametrize("kind", ["rain", "snow"])
def test_what_falls_brightens_and_hides_only_its_share(kind):
    look = of(kind).styles["camera"]
    for seed in range(12):
        params, dark, depth = look.draw(drawing(seed), 0.7, None), light() * 0.5, far_things(seed)
        out = look.apply(dark, params, seed, depth=depth)
        cover = look.truth(params, seed, 96, 120, depth=depth)
        air = torch.tensor(params["fall"]["light"]).view(1, 3, 1, 1)
        assert torch.allclose(out, dark + (air - dark) * cover, atol=1e-5)
        assert (out - dark).min() > -1e-6 and 0.0 <= cover.min() and cover.max() <= 1.0


def test_haze_is_the_law_of_koschmieder():
    depth = torch.zeros(1, 1, 40, 48)
    depth[..., 24:] = 1.0
    params = {**haze.draw_haze(drawing(2), 2.0), "glow": 0.0, "patches": 0.0, "split": 0.0}
    out = haze.lay_haze(light(40, 48), params, 0, depth)
    assert torch.allclose(out[..., :24], light(40, 48)[..., :24], atol=1e-6)
    air, passed = torch.tensor(params["air"]).view(3, 1, 1), math.exp(-2.0)
    expected = light(40, 48)[0, :, :, 24:] * passed + air * (1.0 - passed)
    assert torch.allclose(out[0, :, :, 24:], expected, atol=1e-5)


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


@pytest.mark.parametrize("value", [-0.1, 1e6, math.nan])
def test_impossible_amounts_are_refused(value):
    with pytest.raises(ValueError, match="amount of rain"):
        particles.particle_cover(
            {**particles.draw_rain(drawing(0)), "amount": value}, 0, 8, 8, torch.ones(1, 1, 8, 8)
        )
    with pytest.raises(ValueError, match="beta of haze"):
        haze.transmission({**haze.draw_haze(drawing(0)), "beta": value}, 0, torch.ones(1, 1, 8, 8))
    with pytest.raises(ValueError, match="'hail'"):
        particles.particle_cover(
            {**particles.draw_rain(drawing(0)), "kind": "hail"}, 0, 8, 8, torch.ones(1, 1, 8, 8)
        )
