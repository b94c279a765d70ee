"""Blur in linear light: spreads, energy, lamps, moving things, distance; and the exposure that follows."""

import json
import math

import pytest
import torch
from aior_pack.aior_core.degradations.blur import convolve
from aior_pack.aior_core.degradations.camera import curves, exposure, optics, psf
from aior_pack.aior_core.degradations.draw import Draw


def drawing(seed: int) -> Draw:
    return Draw(torch.Generator().manual_seed(seed))


def light(height=80, width=96, seed=0, batch=1):
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", psf.SHAPES)
@pytest.mark.parametrize("sigma", [0.3, 0.6, 1.0, 2.5, 8.0, 20.0])
def test_every_shape_has_the_spread_that_it_is_given(shape, sigma):
    for seed in range(4):
        kernel = psf.point_spread(psf.draw_psf(drawing(seed), sigma, shape), seed)
        assert psf.spread(kernel) == pytest.approx(sigma, rel=0.03)
        assert kernel.sum().item() == pytest.approx(1.0, abs=1e-5) and kernel.min() >= 0.0
        assert kernel.shape[0] == kernel.shape[1] and kernel.shape[0] % 2 == 1
        middle = kernel.shape[0] // 2
        axis = torch.arange(kernel.shape[0]) - middle
        assert abs((kernel.sum(0) * axis).sum().item()) < 0.05 * max(1.0, sigma)


def test_paths_reach_64_pixels_and_more():
    kernel = psf.point_spread(
        {"shape": "path", "sigma": 13.1, "angle": 0.0, "bend": 0.0, "shake": 0.0, "rest": 0.0}, 0
    )
    columns = (kernel.sum(0) > 0).nonzero()
    assert (columns.max() - columns.min()).item() >= 62
    sigmas = [psf.draw_psf(drawing(seed), shape="path")["sigma"] for seed in range(200)]
    assert max(sigmas) > 12.0 and min(sigmas) < 0.6


@pytest.mark.parametrize("side", [3, 9, 11, 41, 151])
def test_convolution_is_convolution_for_kernels_of_all_sizes(side):
    picture = light(40, 52)
    kernel = torch.rand(side, side, generator=torch.Generator().manual_seed(side))
    kernel /= kernel.sum()
    reach = side // 2
    padded = torch.nn.functional.pad(picture.double(), (reach,) * 4, mode="replicate")
    weights = kernel.double().flip(0, 1)[None, None].expand(3, 1, side, side)
    expected = torch.nn.functional.conv2d(padded, weights, groups=3)
    assert (convolve(picture, kernel) - expected).abs().max() < 1e-5


@pytest.mark.parametrize("shape", psf.SHAPES)
def test_a_lamp_far_above_white_keeps_its_energy(shape):
    scene = torch.full((1, 3, 160, 160), 0.02)
    scene[..., 78:82, 78:82] = 40.0
    params = {**optics.NO_OPTICS, "psf": psf.draw_psf(drawing(2), 8.0, shape)}
    blurred = optics.apply_optics(scene, params, seed=5)
    assert blurred.sum().item() == pytest.approx(scene.sum().item(), rel=1e-4)
    # If the lamp were clipped before the blur, as display values are, next to nothing of it would be left.
    clipped = optics.apply_optics(scene.clamp(0.0, 1.0), params, seed=5)
    assert blurred.max() > 0.25 and clipped.max() < 0.1 * blurred.max()


def test_blur_in_linear_light_is_not_blur_of_display_values():
    edge = torch.zeros(1, 3, 32, 64)
    edge[..., 32:] = 1.0
    params = {**optics.NO_OPTICS, "psf": {"shape": "gaussian", "sigma": 4.0, "stretch": 1.0, "angle": 0.0}}
    middle = curves.tone(optics.apply_optics(edge, params, 0), curves.SRGB)[0, 0, 16, 31:33].mean().item()
    assert middle == pytest.approx(0.735, abs=0.01)  # half of the light is sRGB 0.735, not 0.5


def test_things_have_their_own_blur_and_the_map_says_so():
    thing = {"outline": "box", "centre": [0.5, 0.5], "size": [0.2, 0.2], "angle": 0.0}
    path = {"shape": "path", "sigma": 5.0, "angle": 0.0, "bend": 0.0, "shake": 0.0, "rest": 0.0}
    params = {"psf": None, "things": [{**thing, "psf": path}], "defocus": None}
    scene = light(100, 100)
    out = optics.apply_optics(scene, params, 3)
    field = optics.blur_map(params, 3, 100, 100)
    assert (out - scene)[..., :20, :].abs().max() < 1e-5 and field[:20].max() < 1e-5
    inside = (slice(None), slice(None), slice(42, 58), slice(42, 58))
    assert out[inside].std() < 0.5 * scene[inside].std()
    assert field[50, 50].item() == pytest.approx(5.0, rel=0.03) and 0.3 < field.mean() < 1.5


def test_defocus_follows_distance_and_keeps_flat_light():
    depth = torch.linspace(0.0, 1.0, 96).expand(80, 96)
    params = {**optics.NO_OPTICS, "defocus": {"sigma": 4.0, "focus": 1.0, "blades": 6, "angle": 10.0}}
    scene = light()
    out = optics.apply_optics(scene, params, 0, depth)
    near, far = (scene - out)[..., :12].abs().mean(), (scene - out)[..., -12:].abs().mean()
    assert near > 3.0 * far
    flat = torch.full((1, 3, 40, 40), 3.0)
    assert (optics.apply_optics(flat, params, 0, depth[:40, :40]) - flat).abs().max() < 1e-4
    field = optics.blur_map(params, 0, 80, 96, depth)
    assert field[0, 0].item() == pytest.approx(4.0, rel=0.01) and field[0, -1].item() < 0.05
    with pytest.raises(ValueError, match="needs a depth"):
        optics.apply_optics(scene, params, 0)


def test_what_is_drawn_is_json_and_the_seed_decides():
    depth = torch.rand(80, 96, generator=torch.Generator().manual_seed(1))
    kinds = set()
    for seed in range(40):
        params = optics.draw_optics(drawing(seed))
        kinds.add("things" if params["things"] else "defocus" if params["defocus"] else "whole")
        again = json.loads(json.dumps(params))
        out = optics.apply_optics(light(), params, seed, depth)
        assert out.shape == (1, 3, 80, 96) and torch.isfinite(out).all() and out.min() > -1e-4
        assert torch.equal(out, optics.apply_optics(light(), again, seed, depth))
    assert kinds == {"whole", "things", "defocus"}
    assert optics.apply_optics(light(), optics.NO_OPTICS, 0).equal(light())


@pytest.mark.parametrize("stops", [0.5, 2.0, 5.0, 8.0])
def test_exposure_loses_the_stops_that_it_says(stops):
    scene = light()
    out = exposure.apply_exposure(scene, {**exposure.NO_EXPOSURE, "stops": stops})
    assert torch.log2(scene.mean() / out.mean()).item() == pytest.approx(stops, abs=1e-4)
    assert exposure.missing_stops(
        {**exposure.NO_EXPOSURE, "stops": stops}, 8, 8
    ).mean().item() == pytest.approx(stops, abs=1e-4)


def test_lamps_stay_and_corners_fall():
    lamp = {"place": [0.25, 0.5], "reach": 0.15, "strength": 0.8, "color": [1.0, 0.9, 0.7]}
    params = {"stops": 6.0, "lamps": [lamp], "vignette": 0.0}
    scene = torch.ones(1, 3, 60, 120)
    out = exposure.apply_exposure(scene, params)
    assert out[0, 0, 30, 30] > 0.75 and out[0, 0, 30, 115] < 0.04 and out[0, 2, 30, 30] < out[0, 0, 30, 30]
    corners = exposure.missing_stops({"stops": 1.0, "lamps": [], "vignette": 2.0}, 101, 101)
    assert corners[50, 50].item() == pytest.approx(1.0, abs=0.02) and corners[0, 0].item() == pytest.approx(
        3.0, abs=0.1
    )
    assert exposure.apply_exposure(scene, exposure.NO_EXPOSURE) is scene


def test_drawn_exposures_reach_eight_stops():
    drawn = [exposure.draw_exposure(drawing(seed)) for seed in range(300)]
    stops = [params["stops"] for params in drawn]
    assert min(stops) < 0.6 and max(stops) > 7.7
    for params in drawn[:30]:
        assert json.loads(json.dumps(params)) == params
        share = exposure.illumination(params, 20, 30)
        assert 0.0 < share.min() and share.max() <= 1.0


@pytest.mark.parametrize("value", [-1.0, 500.0, math.nan, math.inf])
def test_impossible_numbers_are_refused(value):
    with pytest.raises(ValueError, match="sigma of a blur"):
        psf.point_spread({"shape": "disc", "sigma": value}, 0)
    with pytest.raises(ValueError, match="stops"):
        exposure.apply_exposure(light(), {**exposure.NO_EXPOSURE, "stops": value})
    with pytest.raises(ValueError, match="'star'"):
        psf.point_spread({"shape": "star", "sigma": 1.0}, 0)
