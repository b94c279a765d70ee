"""Looks of the kinds.

Each gets stronger with severity, comes back from JSON, refuses hostile numbers, and says where it is.
"""

import copy
import json
import math

import numpy as np
import pytest
import torch
from aior_pack.aior_core.degradations import (
    DEGRADATIONS,
    Recipe,
    apply_recipe,
    of,
    preset_recipe,
    recipe_labels,
)
from aior_pack.aior_core.degradations.draw import Draw
from aior_pack.aior_core.degradations.photograph import (
    develop,
    draw_camera,
    measured_noise,
    require_camera,
    undevelop,
)
from aior_pack.aior_core.degradations.recipe import Step
from aior_pack.aior_core.degradations.sampling import sampled, styled_step

LOOKS = [(each.name, name) for each in DEGRADATIONS for name in each.styles]


def scene(height=96, width=112, seed=0):
    """Return `1 3 H W` in -1..1: ramps, discs of plain colour, soft texture."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = (
        torch.linspace(0, 1, height)[:, None].expand(height, width),
        torch.linspace(0, 1, width)[None].expand(height, width),
    )
    picture = torch.stack((0.25 + 0.4 * rows, 0.5 - 0.2 * columns, 0.6 - 0.3 * rows))
    for _ in range(10):
        y, x, size = torch.rand(3, generator=generator).tolist()
        inside = ((rows - y) ** 2 + (columns - x) ** 2) < (0.05 + 0.15 * size) ** 2
        picture = torch.where(inside, torch.rand(3, 1, 1, generator=generator) * 0.5 + 0.2, picture)
    return picture[None] * 2 - 1


def recipe(kind, style, severity, seed):
    draw = Draw(torch.Generator().manual_seed(seed))
    camera = draw_camera(draw, dark=kind == "low_light") if of(kind).styles[style].linear else None
    return Recipe((styled_step(kind, style, severity, draw, camera=camera),), camera)


def psnr(a, b):
    return (10 * torch.log10(4 / (a - b).square().mean().clamp_min(1e-9))).item()


@pytest.mark.slow
@pytest.mark.parametrize("kind, style", LOOKS)
def test_more_severity_is_more_damage_and_none_is_hardly_any(kind, style):
    picture, (low, high) = scene(), of(kind).styles[style].severities
    seeds = range(8)
    scores = [
        np.mean(
            [
                psnr(apply_recipe(picture, recipe(kind, style, low + (high - low) * share, seed)), picture)
                for seed in seeds
            ]
        )
        for share in (0.0, 0.5, 1.0)
    ]
    assert scores[0] > scores[1] + 0.3 and scores[1] > scores[2] + 0.3, scores
    faint = np.mean(
        [psnr(apply_recipe(picture, recipe(kind, style, 0.005, seed)), picture) for seed in seeds]
    )
    # A messenger's copy is smaller at any quality, and files halve chroma.
    assert faint > {("jpeg", "messenger"): 24, ("jpeg", "camera"): 33}.get((kind, style), 36)


@pytest.mark.parametrize("kind, knee", [("blur", 0.8), ("low_light", 0.8), ("haze", 0.7)])
def test_the_label_follows_the_severity_that_is_asked_for_and_saturates_at_one(kind, knee):
    """What goes beyond severity 1 of the plain form counts as 1: the meaning of a label never changes."""
    primary, asked = of(kind).primary, [share / 20 for share in range(1, 21)]
    for style in (name for name, look in of(kind).styles.items() if look.severities[1] > knee):
        camera = draw_camera(Draw(torch.Generator().manual_seed(2)))
        made = [
            styled_step(kind, style, severity, Draw(torch.Generator().manual_seed(1)), camera=camera)
            for severity in asked
        ]
        labels = [step.severity for step in made]
        values = [step.params[primary] for step in made if primary in step.params]
        assert labels == sorted(labels) and labels[-1] == 1.0
        assert values == sorted(values)
        for severity, label in zip(asked, labels):
            assert (
                label == pytest.approx(severity, abs=1e-4) if severity <= knee else severity <= label <= 1.0
            )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["haze", "rain", "snow", "low_light"])
def test_weather_and_darkness_in_a_camera_cost_as_much_as_the_plain_form(kind):
    """The same severity means the same damage, whatever tone curve the camera has."""
    for severity in (0.2, 0.5, 0.8):
        losses = {"camera": [], "plain": []}
        for seed in range(24):
            picture = scene(seed=seed)
            draw = Draw(torch.Generator().manual_seed(seed))
            _, params = sampled(kind, draw)
            params[of(kind).primary] = of(kind).value(severity)
            plain = Recipe((Step(kind, severity, seed, params),))
            for name, made in (("plain", plain), ("camera", recipe(kind, "camera", severity, seed))):
                losses[name].append(psnr(apply_recipe(picture, made), picture))
        assert np.median(losses["camera"]) == pytest.approx(np.median(losses["plain"]), abs=2.0), severity


@pytest.mark.parametrize("kind, style", LOOKS)
def test_same_recipe_same_picture_also_from_json(kind, style):
    picture, before = scene(48, 56), torch.get_rng_state()
    for seed in range(4):
        made = recipe(kind, style, 0.5, seed)
        again = Recipe.from_json(made.to_json())
        assert again == made and again.to_json() == made.to_json()
        first, second = apply_recipe(picture, made), apply_recipe(picture, again)
        both = apply_recipe(picture.expand(2, -1, -1, -1), made)
        # Sums in another order may flip a rounding.
        assert (both[0] - both[1]).abs().max() < 1e-5 and (both[:1] - first).abs().mean() < 1e-3
        assert (
            torch.equal(first, second)
            and first.shape == picture.shape
            and first.isfinite().all()
            and first.abs().max() <= 1
        )
        severities, maps = recipe_labels(made, 48, 56)
        seen = severities[of(kind).number].item()
        if of(kind).styles[style].averaged:
            assert seen == pytest.approx(maps[of(kind).number].mean().item(), abs=1e-5)
        else:
            assert seen == pytest.approx(made.steps[0].severity, abs=1e-6)
        assert maps.shape == (len(DEGRADATIONS), 6, 7) and maps.min() >= 0 and maps.max() <= 1
        assert maps[of(kind).number].max().item() == pytest.approx(made.steps[0].severity, abs=1e-5)
    assert torch.equal(torch.get_rng_state(), before)


def leaves(tree, path=()):
    """Yield where numbers stand in dicts and lists."""
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        if isinstance(value, (dict, list)):
            yield from leaves(value, (*path, key))
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            yield (*path, key)


@pytest.mark.parametrize("kind, style", LOOKS)
def test_hostile_numbers_are_refused_or_do_no_harm(kind, style):
    made = json.loads(recipe(kind, style, 0.5, 1).to_json())
    places = [("params", *path) for path in leaves(made["steps"][0]["params"])]
    # Of a table of 64 steps the first, of everything else all.
    places = [place for place in places if not isinstance(place[-1], int) or place[-1] == 0]
    for place in places:
        for value in (float("nan"), 1e9, -1e9, "5", None, [], {}, [[[[[[[1]]]]]]]):
            hostile = copy.deepcopy(made)
            at = hostile["steps"][0]
            for key in place[:-1]:
                at = at[key]
            at[place[-1]] = value
            try:
                read = Recipe.from_json(json.dumps(hostile))
            except ValueError as error:
                assert "degradations: " in str(error) or "camera: " in str(error)
            else:
                assert torch.isfinite(apply_recipe(torch.zeros(1, 3, 24, 24), read)).all(), (place, value)
    lacking = copy.deepcopy(made)
    lacking["steps"][0]["params"] = {"style": style}
    with pytest.raises(ValueError, match="degradations: "):
        Recipe.from_json(json.dumps(lacking))


def test_a_style_that_is_none_is_refused():
    step = json.loads(preset_recipe("rain", 0.5, 1).to_json())["steps"][0]
    for style in ("rain99", 3, [], None):
        bad = {**step, "params": {"style": style}}
        with pytest.raises(ValueError, match="degradations: (rain has no style|a step of rain lacks)"):
            Recipe.from_json(json.dumps({"steps": [bad]}))


def test_a_camera_alone_gives_the_picture_back():
    picture = torch.rand(1, 3, 40, 44, generator=torch.Generator().manual_seed(0))
    for seed in range(20):
        camera = draw_camera(Draw(torch.Generator().manual_seed(seed)))
        require_camera(camera)
        assert (develop(undevelop(picture, camera), camera) - picture).abs().max() < 1 / 255


def test_recipes_whose_camera_is_none_are_refused():
    made = json.loads(recipe("noise", "camera", 0.3, 2).to_json())
    for camera in (
        None,
        {},
        [],
        {"color": {}, "tone": {}},
        {**made["camera"], "more": 1},
        {**made["camera"], "tone": {"curve": "odd"}},
        {**made["camera"], "color": {**made["camera"]["color"], "matrix": [0.0] * 9}},
    ):
        with pytest.raises(ValueError):
            Recipe.from_json(json.dumps({**made, "camera": camera}))


def test_the_label_of_camera_noise_is_what_is_measured():
    for seed in range(12):
        draw = Draw(torch.Generator().manual_seed(seed))
        camera = draw_camera(draw)
        step = styled_step("noise", "camera", draw.uniform(1 / 60, 0.5), draw, camera=camera)
        found = measured_noise(step.params, camera, 1000 + seed, side=256) * 255 / 60
        assert step.severity == pytest.approx(found, rel=0.1), seed


def test_blur_and_noise_in_the_camera_are_one_pass_in_linear_light():
    """A lamp keeps its light through the blur: sums of linear light stay, not sums of display values."""
    lamp = torch.full((1, 3, 65, 65), -1.0)
    lamp[..., 30:35, 30:35] = 1.0
    for seed in range(6):
        draw = Draw(torch.Generator().manual_seed(seed))
        camera = {**draw_camera(draw), "white": 0.0}
        psf = {"psf": {"shape": "disc", "sigma": 2.0}, "things": [], "defocus": None}
        step = Step("blur", 0.6, 1, {"style": "camera", "sigma": 2.0, "optics": psf})
        seen = (apply_recipe(lamp, Recipe((step,), camera)) + 1) / 2
        assert undevelop(seen, camera).sum(dim=(2, 3)).tolist()[0] == pytest.approx([25.0] * 3, rel=0.01)


def test_a_mask_and_its_rest_are_the_whole_picture():
    picture = scene()
    for kind in ("half", "field", "boxes"):
        mask = {"seed": 5, "kind": kind}
        part, rest = (
            apply_recipe(picture, Recipe((Step(**{**vars(step), "mask": where}),)))
            for step in preset_recipe("low_light", 0.5, 3).steps
            for where in (mask, {**mask, "rest": True})
        )
        whole = apply_recipe(picture, preset_recipe("low_light", 0.5, 3))
        assert torch.allclose((part - picture) + (rest - picture), whole - picture, atol=1e-5)
        assert not torch.equal(part, picture) and not torch.equal(rest, picture)


def test_camera_noise_in_one_part_leaves_the_rest_as_it_was():
    picture = scene()
    draw = Draw(torch.Generator().manual_seed(1))
    camera = draw_camera(draw)
    step = styled_step("noise", "camera", 0.4, draw, camera=camera, mask={"seed": 5, "kind": "boxes"})
    changed = (apply_recipe(picture, Recipe((step,), camera)) - picture).abs().amax(dim=1)[0]
    maps = recipe_labels(Recipe((step,), camera), *picture.shape[2:])[1][0]
    mask = torch.nn.functional.interpolate(maps[None, None], scale_factor=8)[0, 0]
    assert changed[mask == 0].max() < 1e-6 and math.isclose(maps.max().item(), step.severity, abs_tol=1e-5)
    assert changed[mask == maps.max()].mean() > 0.05
