"""The camera's sensor: the variance of its noise, its mosaic, and what the development makes of both."""

import json
import math
from pathlib import Path

import pytest
import torch
from aior_pack.aior_core.degradations.camera import curves, development, sensor
from aior_pack.aior_core.degradations.camera.demosaic import DEMOSAICS, PATTERNS, demosaic, mosaic
from aior_pack.aior_core.degradations.draw import Draw

PROFILES = Path(__file__).resolve().parents[3] / "shared" / "data" / "camera" / "noise_profiles.json"


def drawing(seed: int) -> Draw:
    return Draw(torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("level", [0.02, 0.1, 0.25, 0.6])
def test_variance_is_a_times_light_plus_b_in_every_channel(level):
    params = {**sensor.NO_SENSOR, "a": [2e-4, 1e-3, 5e-4], "b": [1e-5, 2e-6, 4e-5]}
    raw = torch.full((2, 3, 256, 256), level)
    noise = sensor.apply_sensor(raw, params, seed=3) - raw
    for channel, (a, b) in enumerate(zip(params["a"], params["b"])):
        part = noise[:, channel]
        assert part.var().item() == pytest.approx(a * level + b, rel=0.03)
        assert abs(part.mean().item()) < 4.0 * math.sqrt((a * level + b) / part.numel())


def test_few_photons_are_skewed_as_a_poisson_count_is():
    count = 9.0
    params = {**sensor.NO_SENSOR, "a": [0.01] * 3}
    raw = torch.full((1, 3, 256, 256), 0.01 * count)
    noise = (sensor.apply_sensor(raw, params, seed=1) - raw).double()
    skewness = (noise**3).mean() / noise.var() ** 1.5
    assert skewness.item() == pytest.approx(1.0 / math.sqrt(count), abs=0.04)


def test_rows_hot_pixels_and_bits():
    raw = torch.full((1, 3, 128, 128), 0.3)
    quiet = {**sensor.NO_SENSOR, "b": [1e-6] * 3}
    rows = sensor.apply_sensor(raw, {**quiet, "rows": 2.0}, 5).mean((1, 3)).std().item()
    assert rows == pytest.approx(2e-3, rel=0.25)
    hot = sensor.apply_sensor(raw, {**quiet, "hot": 0.01}, 5)
    assert ((hot - raw) > 0.05).float().mean().item() == pytest.approx(0.01, rel=0.3)
    coarse = sensor.apply_sensor(
        torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(2)), {**quiet, "bits": 4}, 5
    )
    assert len(coarse.unique()) <= 16


def test_full_sites_stay_full_and_the_seed_decides():
    params = {**sensor.draw_sensor(drawing(3), iso=6400), "demosaic": "bilinear"}
    raw = torch.rand(2, 3, 33, 47, generator=torch.Generator().manual_seed(1)) * 2.0
    first, again, other = (sensor.apply_sensor(raw, params, seed) for seed in (8, 8, 9))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert first.shape == raw.shape and first.max() <= 1.0
    assert torch.allclose(sensor.apply_sensor(raw[:1], params, 8), first[:1])


def test_negative_noise_is_refused():
    with pytest.raises(ValueError, match="a of the sensor"):
        sensor.apply_sensor(torch.zeros(1, 3, 8, 8), {**sensor.NO_SENSOR, "a": [1e-4, -1e-4, 1e-4]}, 0)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("method", DEMOSAICS[1:])
@pytest.mark.parametrize("size", [(32, 48), (31, 45)])
def test_demosaicing_keeps_flat_areas_and_grey_ramps(pattern, method, size):
    flat = torch.tensor([0.2, 0.5, 0.7]).view(1, 3, 1, 1).expand(1, 3, *size)
    # The filters of Malvar mix colours by Laplacians, which are not zero on the mosaic of a coloured area;
    # all else is exact.
    assert (demosaic(mosaic(flat, pattern), pattern, method) - flat).abs().max() < 1e-5
    ramp = torch.linspace(0.0, 1.0, size[1]).expand(1, 3, *size)
    back = demosaic(mosaic(ramp, pattern), pattern, method)
    assert (back - ramp)[..., 4:-4, 4:-4].abs().max() < 1e-5


def test_unknown_patterns_and_methods_are_named():
    with pytest.raises(ValueError, match="xtrans"):
        mosaic(torch.zeros(1, 3, 8, 8), "xtrans")
    with pytest.raises(ValueError, match="demosaicing 'best'"):
        demosaic(torch.zeros(1, 1, 8, 8), "rggb", "best")
    with pytest.raises(ValueError, match="2 x 2"):
        demosaic(torch.zeros(1, 1, 2, 2), "rggb", "bilinear")


def test_raw_and_back_is_exact():
    light = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(4))
    for seed in range(20):
        color = development.draw_color(drawing(seed))
        back = development.from_raw(development.to_raw(light, color), color)
        assert (back - light).abs().max() < 2e-5


def test_tone_curves_are_undone_to_an_eighth_of_a_level():
    display = torch.arange(256).div(255.0).expand(1, 3, 4, 256)
    names = set()
    for seed in range(60):
        params = curves.draw_tone(drawing(seed))
        names.add(params["curve"])
        light = curves.untone(display, params)
        assert light.min() >= 0.0 and light.max() <= 1.0
        assert (curves.tone(light, params) - display).abs().max() * 255.0 < 0.125
        assert (light.diff(dim=-1) > -1e-6).all()
    assert names == set(curves.CURVES)


def test_noise_reduction_leaves_a_clean_picture_alone_when_told_of_no_noise():
    picture = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(6))
    denoise = {**development.draw_finish(drawing(1))["denoise"], "noise": []}
    developed = development.develop_light(picture, curves.SRGB, denoise)
    assert torch.equal(developed, curves.tone(picture, curves.SRGB))


def test_chroma_loses_more_noise_than_luma():
    planes = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(7)) * 0.05
    params = {"luma": 0.3, "chroma": 0.6, "soft": 0.0, "smooth": 1.5, "levels": 2, "noise": [0.05] * 9}
    left = development.reduce_noise(planes, params).std((0, 2, 3)) / planes.std((0, 2, 3))
    assert left[1] < 0.5 * left[0] and left[0] < 0.9


@pytest.mark.skipif(not PROFILES.is_file(), reason="the published camera profiles are not on this machine")
def test_sensors_spread_as_published_profiles_do():
    profiles = [
        p
        for p in json.loads(PROFILES.read_text())["profiles"]
        if min(p["a"]) > 0 and 100 <= p["iso"] <= 51200
    ]
    real = torch.tensor([math.log(p["a"][1]) - 0.87 * math.log(p["iso"] / 1600.0) for p in profiles])
    ours = []
    for seed in range(2000):
        params = sensor.draw_sensor(drawing(seed))
        ours.append(math.log(params["a"][1]) - 0.87 * math.log(params["iso"] / 1600.0))
    ours = torch.tensor(ours)
    for share, most in ((0.05, 0.35), (0.25, 0.3), (0.5, 0.25), (0.75, 0.3), (0.95, 0.4)):
        assert abs(ours.quantile(share) - real.quantile(share)) < most
    assert ours.min() < real.quantile(0.02) and ours.max() > real.quantile(0.99)
