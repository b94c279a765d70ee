"""The room of degradations: same recipe, same picture; severities and labels that mean what they say."""

import io
import json

import numpy as np
import pytest
import torch
from aior_pack.aior_core.degradations import (
    KINDS,
    Recipe,
    Step,
    apply_recipe,
    degrade_batch,
    of,
    preset_recipe,
    primary_from_severity,
    sample_recipe,
    severity_from_primary,
)
from PIL import Image


def scene(height=96, width=120, seed=0):
    """Return `1 3 H W` in -1..1 with what photographs have: a gradient, flat regions with edges, coloured
    texture.
    """
    generator = torch.Generator().manual_seed(seed)
    rows = torch.linspace(0, 1, height)[:, None].expand(height, width)
    columns = torch.linspace(0, 1, width)[None].expand(height, width)
    picture = torch.stack((0.25 + 0.4 * rows, 0.5 - 0.2 * columns, 0.65 - 0.4 * rows))
    for _ in range(12):
        y, x, size = torch.rand(3, generator=generator).tolist()
        inside = ((rows - y) ** 2 + (columns - x) ** 2) < (0.05 + 0.15 * size) ** 2
        picture = torch.where(inside, torch.rand(3, 1, 1, generator=generator) * 0.8 + 0.05, picture)
    texture = torch.randn(3, height // 2, width // 2, generator=generator)
    texture = torch.nn.functional.interpolate(texture[None], size=(height, width), mode="bicubic")[0]
    return (picture + 0.03 * texture * rows).clamp(0, 1)[None] * 2 - 1


def psnr(a, b):
    return (10 * torch.log10(4 / (a - b).pow(2).mean().clamp_min(1e-12))).item()


def recipes(count, seed=7, **options):
    generator = torch.Generator().manual_seed(seed)
    return [sample_recipe(generator, **options) for _ in range(count)]


@pytest.mark.parametrize("kind", KINDS)
def test_same_recipe_same_picture_and_global_rng_untouched(kind):
    picture = scene()
    recipe = preset_recipe(kind, 0.6, 11)
    before = torch.get_rng_state()
    first = apply_recipe(picture, recipe)
    torch.rand(5)
    torch.set_rng_state(before)
    second = apply_recipe(picture, recipe)
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)
    assert first.shape == picture.shape and first.dtype == picture.dtype
    assert first.isfinite().all() and first.abs().max() <= 1


@pytest.mark.parametrize("kind", ["noise", "rain", "snow", "haze", "low_light"])
def test_another_seed_gives_another_picture(kind):
    picture = scene()
    assert not torch.equal(
        apply_recipe(picture, preset_recipe(kind, 0.6, 1)), apply_recipe(picture, preset_recipe(kind, 0.6, 2))
    )


def test_json_round_trip_reproduces_every_picture_exactly():
    picture = scene(64, 64)
    seen = set()
    for recipe in recipes(60, spatial=0.5):
        text = recipe.to_json()
        again = Recipe.from_json(text)
        assert again == recipe and again.to_json() == text
        assert torch.equal(apply_recipe(picture, again), apply_recipe(picture, recipe))
        seen.update(recipe.kinds())
    assert seen == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_severity_zero_is_identity_and_the_way_there_is_continuous(kind):
    picture = scene()
    assert (apply_recipe(picture, preset_recipe(kind, 0.0, 3)) - picture).abs().max() <= 2 / 255
    # Halved chroma is lost at any quality, so with it JPEG does not fade out.
    style = {"subsampling": "4:4:4"} if kind == "jpeg" else {}
    faint = apply_recipe(picture, preset_recipe(kind, 0.01, 3, **style))
    assert psnr(faint, picture) > 35


@pytest.mark.parametrize(
    "kind, style",
    [(kind, {}) for kind in KINDS]
    + [("blur", {"shape": shape}) for shape in ("disc", "motion")]
    + [("noise", {"model": model}) for model in ("poisson", "grey")]
    + [("low_resolution", {"kernel": kernel}) for kernel in ("area", "bilinear")]
    + [("jpeg", {"subsampling": "4:4:4"})],
)
def test_more_severity_is_more_damage(kind, style):
    picture = scene()
    scores = [
        np.mean(
            [
                psnr(apply_recipe(picture, preset_recipe(kind, severity, seed, **style)), picture)
                for seed in range(3)
            ]
        )
        for severity in (0.15, 0.4, 0.7, 1.0)
    ]
    assert all(better > worse + 0.2 for better, worse in zip(scores, scores[1:])), scores


@pytest.mark.parametrize("model", ["gaussian", "poisson", "grey"])
def test_noise_has_the_sigma_it_states(model):
    flat = torch.zeros(1, 3, 128, 128)
    noisy = apply_recipe(flat, preset_recipe("noise", 25 / 60, 5, model=model))
    assert ((noisy - flat).std() * 127.5).item() == pytest.approx(25.0, rel=0.02)
    if model == "grey":
        assert torch.equal(noisy[:, 0], noisy[:, 1])


def test_unclipped_noise_is_left_alone():
    white = torch.ones(1, 3, 64, 64)
    assert apply_recipe(white, preset_recipe("noise", 0.5, 5)).max() == 1
    free = apply_recipe(white, preset_recipe("noise", 0.5, 5, clip=False))
    assert free.max() > 1.1
    assert (free - white).mean().abs() < 0.01


def test_blur_shapes_spread_a_point_alike():
    point = -torch.ones(1, 3, 65, 65)
    point[..., 32, 32] = 1
    axis = torch.arange(65.0) - 32
    for shape in ("gaussian", "disc", "motion"):
        light = (apply_recipe(point, preset_recipe("blur", 0.6, 5, shape=shape, bend=0.0))[0, 0] + 1) / 2
        assert light.sum().item() == pytest.approx(1.0, abs=1e-3)
        spread = ((axis[:, None] ** 2 + axis[None] ** 2) * light).sum().sqrt().item() / 2**0.5
        assert spread == pytest.approx(0.6 * 3.2, rel=0.12), shape


@pytest.mark.parametrize("quality", [10, 30, 50, 75, 90])
@pytest.mark.parametrize("subsampling", ["4:2:0", "4:4:4"])
@pytest.mark.parametrize("size", [(96, 128), (83, 101)])
def test_jpeg_agrees_with_pillow(quality, subsampling, size):
    picture = ((scene(*size) + 1) * 127.5).round() / 127.5 - 1
    ours = apply_recipe(picture, preset_recipe("jpeg", 0.5, 0, quality=quality, subsampling=subsampling))
    pixels = ((picture[0].permute(1, 2, 0) + 1) * 127.5).round().byte().numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(
        file, "JPEG", quality=quality, subsampling=2 if subsampling == "4:2:0" else 0
    )
    theirs = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)[None].float() / 127.5 - 1
    assert abs(psnr(ours, picture) - psnr(theirs, picture)) < 0.3
    assert psnr(ours, theirs) > psnr(theirs, picture) + 6  # the same artefacts, not only as many


def test_low_resolution_matches_pillow_bicubic():
    picture = scene(96, 128)
    ours = apply_recipe(picture, preset_recipe("low_resolution", 1.0, 0, scale=4, kernel="bicubic"))
    pixels = ((picture[0].permute(1, 2, 0) + 1) * 127.5).round().byte().numpy()
    small = Image.fromarray(pixels).resize((32, 24), Image.BICUBIC).resize((128, 96), Image.BICUBIC)
    theirs = torch.from_numpy(np.array(small)).permute(2, 0, 1)[None].float() / 127.5 - 1
    assert abs(psnr(ours, picture) - psnr(theirs, picture)) < 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_severity_and_primary_parameter_convert_both_ways(kind):
    for severity in (0.0, 0.2, 0.5, 1.0):
        value = primary_from_severity(kind, severity)
        assert severity_from_primary(kind, value) == pytest.approx(severity, abs=0.006)
        assert preset_recipe(kind, severity, 0).steps[0].params[of(kind).primary] == value


def test_an_explicit_primary_parameter_decides_the_severity():
    assert preset_recipe("jpeg", 0.2, 0, quality=10).steps[0].severity == pytest.approx(1.0)
    assert preset_recipe("noise", 0.9, 0, sigma=15).steps[0].severity == pytest.approx(0.25)
    assert preset_recipe("low_resolution", 0.1, 0, scale=4).steps[0].severity == pytest.approx(1.0)


def test_sampled_recipes_keep_their_ranges_and_shares():
    drawn = recipes(3000)
    counts = np.bincount([len(recipe.steps) for recipe in drawn], minlength=4) / len(drawn)
    assert np.allclose(counts, (0.05, 0.60, 0.25, 0.10), atol=0.03)
    steps = [step for recipe in drawn for step in recipe.steps]
    noise = [step for step in steps if step.kind == "noise"]
    single = [recipe.steps[0].kind for recipe in drawn if len(recipe.steps) == 1]
    assert single.count("noise") / len(single) == pytest.approx(0.28, abs=0.03)
    plain = np.mean([step.params["model"] == "gaussian" for step in noise])
    assert plain == pytest.approx(0.6, abs=0.06)  # half by rule, a fifth of the rest by choice
    masked = np.mean([any(step.mask for step in recipe.steps) for recipe in drawn])
    assert masked == pytest.approx(0.15 * 0.95, abs=0.025)
    for step in steps:
        json.dumps(step.params)
        assert 0 < step.severity <= 1
        assert severity_from_primary(step.kind, step.params[of(step.kind).primary]) == pytest.approx(
            step.severity, abs=0.006
        )
        if step.kind == "jpeg":
            assert 10 <= step.params["quality"] <= 90
        if step.kind == "low_resolution":
            assert 2 - 1e-4 <= step.params["scale"] <= 4
        if step.kind == "noise":
            assert 1 <= step.params["sigma"] <= 60


def test_half_of_all_jpeg_is_coarse():
    """A third is drawn from quality 10 to 30, and so is a quarter of the others."""
    qualities = [
        recipe.steps[0].params["quality"]
        for recipe in recipes(600, weights={"jpeg": 1.0}, count_weights=(0, 1))
    ]
    assert np.mean([quality <= 30 for quality in qualities]) == pytest.approx(0.5, abs=0.06)
    assert min(qualities) >= 10 and max(qualities) > 85


def test_mixtures_are_in_physical_order_without_repeats():
    rank = {
        "haze": 0,
        "rain": 0,
        "snow": 0,
        "low_light": 1,
        "blur": 2,
        "low_resolution": 3,
        "noise": 4,
        "jpeg": 5,
    }
    weather = set()
    for recipe in recipes(800, count_weights=(0, 0, 0, 1)):
        order = [rank[step.kind] for step in recipe.steps]
        assert order == sorted(order) and len(recipe.kinds()) == 3
        weather.add(tuple(kind for kind in recipe.kinds() if kind in ("rain", "haze")))
    assert {("rain", "haze"), ("haze", "rain")} <= weather


def test_sampling_follows_its_generator_and_its_kinds():
    assert recipes(20, seed=3) == recipes(20, seed=3)
    assert recipes(20, seed=3) != recipes(20, seed=4)
    only = recipes(50, kinds=("rain", "jpeg"), count_weights=(0, 0, 0, 1))
    assert all(set(recipe.kinds()) == {"rain", "jpeg"} for recipe in only)
    heavy = recipes(50, weights={"haze": 1.0}, count_weights=(0, 1))
    assert all(recipe.kinds() == ("haze",) for recipe in heavy)


def test_only_and_without_keep_parameters_and_seeds():
    picture = scene(64, 64)
    recipe = Recipe(preset_recipe("rain", 0.6, 5).steps + preset_recipe("noise", 0.3, 6).steps)
    assert recipe.only(["rain"]) == preset_recipe("rain", 0.6, 5) == recipe.without(["noise"])
    assert recipe.only(KINDS) == recipe and recipe.without(KINDS) == Recipe()
    rainy = apply_recipe(picture, recipe.only(["rain"]))
    in_two_goes = apply_recipe(rainy, recipe.only(["noise"]))
    assert torch.allclose(in_two_goes, apply_recipe(picture, recipe), atol=1e-5)
    assert torch.equal(apply_recipe(picture, Recipe()), picture)


def test_batch_equals_single():
    pictures = torch.cat([scene(70, 59, seed) for seed in range(6)])
    drawn = recipes(6, seed=2, spatial=0.5)
    lq, severities, maps = degrade_batch(pictures, drawn)
    assert lq.shape == pictures.shape and severities.shape == (6, 8) and maps.shape == (6, 8, 9, 8)
    for index, recipe in enumerate(drawn):
        assert torch.equal(lq[index], apply_recipe(pictures[index : index + 1], recipe)[0])
    both = apply_recipe(pictures[:1].repeat(2, 1, 1, 1), drawn[0])
    # Not bit for bit: the rounding of powers depends on where a pixel lies in memory.
    assert (both[0] - both[1]).abs().max() <= 1e-6


def test_maps_say_where_and_how_much():
    picture = scene(64, 64)
    step = preset_recipe("noise", 0.5, 3).steps[0]
    for kind in ("half", "field"):
        masked = Step(step.kind, step.severity, step.seed, step.params, {"seed": 9, "kind": kind})
        lq, severities, maps = degrade_batch(picture, [Recipe((masked,))])
        error = (
            torch.nn.functional.avg_pool2d((lq - picture).pow(2).mean(1, keepdim=True), 8)[0, 0].sqrt()
            / 2
            * 255
            / 60
        )
        assert maps[0, 0].max() > 0.45 and maps[0, 0].min() < 0.1
        assert torch.corrcoef(torch.stack((error.flatten(), maps[0, 0].flatten())))[0, 1] > 0.9
        assert severities[0, 0].item() == pytest.approx(maps[0, 0].mean().item(), abs=1e-5)
        assert severities[0, 1:].abs().max() == 0 and maps[0, 1:].abs().max() == 0
    plain, severities, maps = degrade_batch(picture, [preset_recipe("snow", 0.6, 3)])
    assert (
        severities[0, KINDS.index("snow")] == pytest.approx(0.6)
        and maps[0, KINDS.index("snow")].unique().numel() == 1
    )


def test_a_repeated_kind_counts_with_its_maximum():
    recipe = Recipe(preset_recipe("noise", 0.2, 1).steps + preset_recipe("noise", 0.4, 2).steps)
    _, severities, maps = degrade_batch(scene(64, 64), [recipe])
    assert severities[0, 0].item() == pytest.approx(0.4) and maps[0, 0].max().item() == pytest.approx(0.4)


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (64, 64), (200, 33)])
def test_every_kind_works_at_odd_sizes(size):
    picture = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for kind in KINDS:
        result = apply_recipe(picture, preset_recipe(kind, 1.0, 4))
        assert result.shape == picture.shape and result.isfinite().all() and result.abs().max() <= 1


def test_wrong_input_is_refused_with_a_reason():
    with pytest.raises(ValueError, match="unknown kind 'fog'"):
        preset_recipe("fog", 0.5, 0)
    with pytest.raises(ValueError, match="no parameter 'qualty'"):
        preset_recipe("jpeg", 0.5, 0, qualty=10)
    with pytest.raises(ValueError, match="kernel"):
        preset_recipe("low_resolution", 0.5, 0, kernel="nearest")
    with pytest.raises(ValueError, match="0..1"):
        preset_recipe("haze", 1.5, 0)
    with pytest.raises(ValueError, match="lacks sigma"):
        Step("noise", 0.5, 0, {"model": "gaussian", "clip": True})
    with pytest.raises(ValueError, match="mask"):
        Step(**{**vars(preset_recipe("noise", 0.5, 0).steps[0]), "mask": {"seed": 1, "kind": "circle"}})
    with pytest.raises(ValueError, match="not a recipe"):
        Recipe.from_json("[]")
    with pytest.raises(ValueError, match="B 3 H W"):
        apply_recipe(torch.zeros(3, 8, 8), Recipe())
    with pytest.raises(ValueError, match="2 recipes"):
        degrade_batch(torch.zeros(1, 3, 8, 8), [Recipe(), Recipe()])
