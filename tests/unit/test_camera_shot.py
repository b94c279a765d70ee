"""The whole shot: identity with all off, labels that were measured, severities that grow, noise as real files
have it.
"""

import ast
import json
import math
from pathlib import Path

import pytest
import torch
from aior_pack.aior_core.degradations.camera import development, sensor, shot
from aior_pack.aior_core.degradations.draw import Draw


def drawing(seed: int) -> Draw:
    return Draw(torch.Generator().manual_seed(seed))


def scene(height=96, width=112, seed=0):
    """``1 3 H W`` in 0..1, in 8 bits: hills with some black and white, edges, texture."""
    generator = torch.Generator().manual_seed(seed)
    hills = torch.nn.functional.interpolate(
        torch.rand(1, 3, 6, 7, generator=generator) * 1.4 - 0.2, size=(height, width), mode="bicubic"
    )
    hills[..., 20:40, 30:60] *= 0.4
    hills = hills + 0.08 * (torch.rand(1, 1, height, width, generator=generator) - 0.5)
    return (hills.clamp(0.0, 1.0) * 255.0).round() / 255.0


def psnr(first, second):
    return -10.0 * math.log10(max(((first - second) ** 2).mean().item(), 1e-12))


def test_with_every_fault_off_the_picture_comes_back():
    picture = scene()
    assert picture.min() == 0.0 and picture.max() == 1.0
    for seed in range(30):
        params = shot.neutral_shot(drawing(seed))
        out, labels = shot.apply_shot(picture, params, seed)
        assert (out - picture).abs().max().item() * 255.0 <= 1.0
        assert all(labels[name] == 0.0 for name in ("noise", "blur", "low_light", "haze", "rain", "snow"))
        assert labels["jpeg"] is None and labels["low_resolution"] == 1.0
    assert torch.equal(shot.photograph(picture, shot.NO_SHOT, 0), shot.photograph(picture, shot.NO_SHOT, 1))


def test_a_sensor_without_noise_gives_the_picture_back_too():
    picture = scene()
    for seed in range(10):
        quiet = {**shot.neutral_shot(drawing(seed)), "white": 0.0, "sensor": {**sensor.NO_SENSOR, "bits": 16}}
        # Camera RGB of strong colours may be a little above full; there the sensor clips.
        assert (shot.photograph(picture, quiet, 1) - picture).abs().mean().item() * 255.0 < 0.5
        mosaic = {
            **quiet,
            "sensor": {
                **sensor.draw_sensor(drawing(seed)),
                "a": [0.0] * 3,
                "b": [0.0] * 3,
                "hot": 0.0,
                "bits": 16,
            },
            "noise_only": True,
        }
        assert (shot.photograph(picture, mosaic, 1) - picture).abs().max().item() * 255.0 <= 1.0


@pytest.mark.slow
@pytest.mark.parametrize("sigma", [2.0, 6.0, 15.0, 28.0])
def test_the_label_of_noise_is_within_a_tenth_of_what_is_measured(sigma):
    reached = []
    for seed in range(8):
        params = shot.draw_shot(drawing(seed), {"noise": sigma})
        params = {**params, "transport": shot.NO_TRANSPORT, "sensor": {**params["sensor"], "hot": 0.0}}
        grey = torch.full((1, 3, 256, 256), 128.0 / 255.0)
        label = shot.shot_labels(params, seed, 160, 160)["noise"]
        noise = shot.photograph(grey, params, seed + 50)
        measured = noise.var((0, 2, 3)).mean().sqrt().item() * 255.0
        assert label == pytest.approx(measured, rel=0.1)
        reached.append(label / sigma)
    reached = torch.tensor(reached)
    assert (
        reached.min() > 0.8
        and reached.max() < 1.3
        and reached.median().item() == pytest.approx(1.0, abs=0.06)
    )


def neighbour(noise, step):
    return ((noise[..., step:] * noise[..., :-step]).mean((1, 2)) / noise.var((1, 2))).mean().item()


@pytest.mark.slow
def test_noise_of_camera_files_has_the_strength_and_correlation_of_real_noise():
    """Real files: next pixel 0.36 to 0.79 with a mean of 0.65; fourth 0.1 to 0.2; channels 0.35 to 0.75; red
    and blue 1.1 to 1.4.
    """
    smooth = torch.nn.functional.avg_pool2d(scene(144, 144), 17, stride=1)
    rows = []
    for seed in range(64):
        sigma = 1.2 * 22.0 ** (seed / 63.0)
        params = {**shot.draw_shot(drawing(seed), {"noise": sigma}), "noise_only": True}
        noise = (shot.photograph(smooth, params, seed) - smooth)[0] * 255.0
        noise = noise - noise.mean((1, 2), keepdim=True)
        pairs, stds = torch.corrcoef(noise.flatten(1)), noise.std((1, 2))
        channels = (pairs[0, 1] + pairs[1, 2]).item() / 2.0
        ratios = ((stds[0] + stds[2]) / (2.0 * stds[1])).item()
        rows.append([stds.mean().item(), neighbour(noise, 1), neighbour(noise, 4), channels, ratios])
    std, near, far, channels, ratios = torch.tensor(rows).T
    assert std.min() < 1.8 and std.max() > 22.0
    assert 0.55 < near.mean() < 0.75 and near.quantile(0.15) < 0.5 and near.quantile(0.85) > 0.75
    assert 0.08 < far.mean() < 0.25
    assert 0.4 < channels.median() < 0.75 and channels.quantile(0.25) < 0.5 and channels.quantile(0.75) > 0.65
    assert 1.1 < ratios.median() < 1.4


@pytest.mark.slow
def test_noise_of_shots_depends_on_brightness_as_in_camera_files():
    """Medians of 26 real pairs: 0.43 of the mid-tones' noise below 10, 0.61 below 25, 0.57 above 150, 0.32
    above 230.
    """
    shares = []
    for seed in range(16):
        params = {
            **shot.draw_shot(drawing(seed), {"noise": 5.0}),
            "transport": shot.NO_TRANSPORT,
            "noise_only": True,
        }
        stds = []
        for level in (5, 17, 90, 170, 243):
            flat = torch.full((1, 3, 64, 64), level / 255.0)
            stds.append((shot.photograph(flat, params, seed).var((0, 2, 3)).mean().sqrt()).item())
        shares.append([value / stds[2] for value in stds])
    shares = torch.tensor(shares)
    medians = shares.median(0).values
    assert (
        0.3 < medians[0] < 0.8
        and 0.45 < medians[1] < 0.95
        and 0.45 < medians[3] < 0.95
        and 0.15 < medians[4] < 0.5
    )
    # The real ones reach down to these.
    assert shares[:, 0].min() < 0.45 and shares[:, 4].min() < 0.3


@pytest.mark.parametrize("kind, values", [
    ("noise", (2.0, 8.0, 20.0)), ("blur", (0.5, 2.0, 6.0)), ("low_resolution", (1.2, 2.0, 4.0)),
    ("rain", (0.1, 0.5, 1.0)), ("snow", (0.1, 0.5, 1.0)), ("haze", (0.3, 1.0, 2.5)),
    ("low_light", (0.7, 3.0, 7.0)), ("jpeg", (90.0, 50.0, 12.0)),
])  # fmt: skip
def test_more_of_a_fault_costs_more(kind, values):
    picture = scene()
    losses = torch.zeros(len(values))
    for seed in range(6):
        for index, value in enumerate(values):
            losses[index] += (
                psnr(shot.photograph(picture, shot.draw_shot(drawing(seed), {kind: value}), seed), picture)
                / 6.0
            )
    assert losses[0] > losses[1] + 0.5 and losses[1] > losses[2] + 0.5


@pytest.mark.slow
def test_shots_are_json_finite_and_repeatable_in_every_mixture():
    picture = scene(64, 72)
    deep = torch.rand(64, 72, generator=torch.Generator().manual_seed(3))
    wanted = {
        "noise": 8.0,
        "blur": 2.0,
        "low_resolution": 2.0,
        "rain": 0.5,
        "snow": 0.3,
        "haze": 0.8,
        "low_light": 2.0,
        "jpeg": 50.0,
    }
    names = list(wanted)
    for seed in range(24):
        some = {
            name: wanted[name]
            for index, name in enumerate(names)
            if (seed * 37 >> index) & 1 or index == seed % 8
        }
        params = json.loads(json.dumps(shot.draw_shot(drawing(seed), some)))
        given = deep if seed % 2 else None
        out, labels = shot.apply_shot(picture, params, seed, given)
        assert (
            out.shape == picture.shape and torch.isfinite(out).all() and 0.0 <= out.min() and out.max() <= 1.0
        )
        assert torch.equal(out, shot.photograph(picture, params, seed, given))
        assert {name for name in ("noise", "rain", "snow", "haze", "low_light", "blur") if name in some} <= {
            k for k, v in labels.items() if v
        }
        for field in shot.shot_maps(params, seed, 64, 72, given, picture).values():
            assert field.shape == (64, 72) and 0.0 <= field.min() and field.max() <= 1.0 + 1e-6


def test_the_first_of_a_batch_is_what_it_is_alone():
    batch = torch.cat((scene(64, 72), scene(64, 72, seed=1)))
    for seed, some in enumerate(
        ({"noise": 9.0, "blur": 2.0}, {"haze": 1.0, "rain": 0.5}, {"low_light": 3.0, "jpeg": 50.0})
    ):
        params = shot.draw_shot(drawing(seed), some)
        both, alone = (shot.photograph(part, params, seed) for part in (batch, batch[:1]))
        # Sums in another order may turn a rounding over, or a step of the JPEG.
        assert (both[:1] - alone).abs().mean().item() * 255.0 < 0.05
        if "noise" in some:
            same = batch[:1].expand(2, -1, -1, -1)
            first, second = shot.photograph(same, params, seed)
            assert (first - second).std() * 255.0 > 4.0


def test_exposure_stops_are_those_of_the_light():
    picture = scene() * 0.5 + 0.25
    for seed in range(8):
        params = shot.draw_shot(drawing(seed), {"low_light": 3.0})
        params = {**params, "sensor": None, "transport": shot.NO_TRANSPORT}
        params["exposure"] = {**params["exposure"], "lamps": [], "vignette": 0.0}
        still = {name: development.NO_DEVELOPMENT[name] for name in ("cast", "denoise", "sharpen")}
        params["development"] = {**params["development"], **still}
        out, labels = shot.apply_shot(picture, params, seed)
        before, after = (shot.undevelop(part, {**params, "white": 0.0}, 0).mean() for part in (picture, out))
        assert labels["low_light"] == pytest.approx(3.0, abs=1e-3)
        assert torch.log2(before / after).item() == pytest.approx(3.0, abs=0.01)


def test_lamps_are_brighter_than_white_only_where_whole_areas_are_clipped():
    picture = torch.full((1, 3, 60, 60), 0.4)
    picture[..., 20:35, 20:35] = 1.0
    picture[..., 50, 50] = 1.0
    picture[:, 0, 5:15, 5:15] = 1.0
    params = {**shot.NO_SHOT, "white": 8.0}
    light = shot.undevelop(picture, params, 1)
    assert light[0, :, 27, 27].min() > 1.5
    assert light[0, :, 50, 50].max() < 1.1 and light[0, 0, 10, 10] < 1.0 + 0.2 * 8.0
    assert (development.apply_development(light, params["development"]) - picture).abs().max() < 1e-5


def test_unknown_wishes_and_numbers_are_refused():
    with pytest.raises(ValueError, match="dust"):
        shot.draw_shot(drawing(0), {"dust": 1.0})
    with pytest.raises(ValueError, match="noise of -1"):
        shot.draw_shot(drawing(0), {"noise": -1.0})


@pytest.mark.parametrize("path, value", [
    (("scene", "rain", "length"), 1e9), (("scene", "snow", "size"), 1e6), (("scene", "haze", "reach"), 5.0),
    (("development", "denoise", "smooth"), 1e6), (("development", "denoise", "levels"), 40),
    (("development", "sharpen", "sigma"), math.inf), (("development", "gain"), "8"),
    (("development", "tone", "contrast"), 0.0), (("sensor", "bits"), 1000), (("sensor", "hot"), math.nan),
])  # fmt: skip
def test_no_number_that_somebody_wrote_takes_all_memory(path, value):
    every = {"noise": 8.0, "rain": 0.5, "snow": 0.5, "haze": 1.0, "jpeg": 50.0}
    params = json.loads(json.dumps(shot.draw_shot(drawing(6), every)))
    params["development"]["tone"] = {"curve": "camera", "shoulder": 1.0, "contrast": 1.5}
    params["development"]["denoise"] |= {"luma": 0.5, "levels": 1}
    shot.photograph(scene(32, 32), params, 0)
    *way, name = path
    inner = params
    for step in way:
        inner = inner[step]
    assert name in inner
    inner[name] = value
    with pytest.raises(ValueError, match=f"camera: {name} of"):
        shot.photograph(scene(32, 32), params, 0)


def test_kornia_and_scipy_are_imported_only_when_they_are_needed():
    folder = Path(shot.__file__).parent
    files = [*folder.glob("*.py"), folder.parent / "film.py"]
    assert len(files) > 12
    for path in files:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
            assert not any(name.split(".")[0] in ("kornia", "scipy") for name in names), path.name
