"""The measures of benchmarks/likeness.py find what was put in, and the benchmark reports "met" only when it
is.
"""

import csv
import importlib.util
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from aior_pack.aior_core.degradations.blur import gaussian_blur
from aior_pack.aior_core.degradations.draw import Draw
from aior_pack.aior_core.degradations.fields import splat, stream
from aior_pack.aior_core.degradations.light import decode, encode
from aior_pack.aior_core.degradations.published import PUBLISHED
from aior_pack.aior_core.degradations.published.streaks import streaks
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location(
    "likeness_measures", ROOT / "benchmarks" / "_likeness_measures.py"
)
measures = importlib.util.module_from_spec(spec)
spec.loader.exec_module(measures)

SIDE = 256


def texture(seed=0, side=SIDE):
    """Return `3 H W` in 0.1..0.9: noise at all scales, as photographs have it."""
    generator = stream(seed)
    total = torch.zeros(3, side, side)
    for size in (4, 8, 16, 32, 64, 128, 256):
        part = torch.randn(1, 3, size, size, generator=generator)
        total += torch.nn.functional.interpolate(part, size=(side, side), mode="bicubic")[0]
    return (total / total.std() * 0.15 + 0.5).clamp(0.1, 0.9)


def test_noise_is_measured_as_it_was_made():
    clean = texture()
    shared, own = (
        torch.randn(1, SIDE, SIDE, generator=stream(1)),
        torch.randn(3, SIDE, SIDE, generator=stream(2)),
    )
    made = (own + shared) / math.sqrt(2) * torch.tensor([1.3, 1.0, 1.1])[:, None, None] * 5 / 255
    white = measures.noise(clean + made, clean)
    assert white["std"] == pytest.approx(5 * 3.4 / 3, rel=0.05) and abs(white["next"]) < 0.03
    assert white["red-green"] == pytest.approx(0.5, abs=0.03)
    assert white["red/green"] == pytest.approx(1.3, abs=0.03)
    # A Gaussian blur of sigma leaves the correlation exp(-d^2 / 4 sigma^2).
    soft = measures.noise(clean + gaussian_blur(made[None], 1.0)[0], clean)
    assert soft["next"] == pytest.approx(math.exp(-0.25), abs=0.04)
    assert soft["two"] == pytest.approx(math.exp(-1.0), abs=0.04)


@pytest.mark.parametrize("angles", [[0.0], [-30.0], [40.0], [-25.0, 30.0], [-50.0, 0.0, 50.0]])
def test_directions_of_rain_are_counted(angles):
    clean = texture(3) * 0.5
    shape = {"spread": 0.5, "length": [40.0, 50.0], "thick": [2.0, 2.0], "faint": 0.8, "taper": 0.1}
    layer = streaks(SIDE, SIDE, stream(5), cover=0.3, angles=angles, **shape) * 0.1
    found = measures.weather(clean + layer, clean)
    assert found["directions"] == len(angles)
    assert min(abs(found["angle"] - abs(angle)) for angle in angles) <= 5
    if len(angles) == 1:
        assert 25 < found["along"] < 60 and 1.5 < found["across"] < 5
    assert found["darker"] == 0 and found["blue/red"] == pytest.approx(1.0, abs=0.01)


def test_share_and_mean_of_a_layer():
    clean, layer = torch.full((3, 64, 64), 0.4), torch.zeros(3, 64, 64)
    layer[:, :16] = 40 / 255
    layer[:, 16:32] = 5 / 255
    layer[:, 60:] = -20 / 255
    found = measures.weather(clean + layer, clean)
    assert found["share"] == 0.25 and found["mean"] == pytest.approx(40, abs=0.01)
    assert found["darker"] == pytest.approx(4 / 64)
    nothing = measures.weather(clean, clean)
    assert nothing["share"] == 0 and math.isnan(nothing["mean"])


def test_low_light_and_its_noise():
    clean = gaussian_blur(texture(4)[None], 5.0)[0]
    dark = encode(decode(clean) * torch.tensor([1.2, 1.0, 0.9])[:, None, None] / 16)
    found = measures.low_light(dark + torch.randn(3, SIDE, SIDE, generator=stream(7)) * 2 / 255, clean)
    assert found["stops"] == pytest.approx(4 - math.log2(3.1 / 3), abs=0.05)
    # What is smoother than two pixels is subtracted, which leaves white noise a correlation of -0.05.
    assert found["noise"] == pytest.approx(2, rel=0.15) and -0.07 < found["next"] < 0.0
    assert found["red"] > 1.03 > 0.98 > found["blue"]


@pytest.mark.parametrize("length", [12, 24, 40])
def test_the_extent_of_a_blur(length):
    clean = texture(6)
    points = torch.linspace(-length / 2, length / 2, 200)
    kernel = splat(65, 65, 32 + points * math.cos(0.5), 32 + points * math.sin(0.5), torch.ones(200))
    kernel = (kernel / kernel.sum())[None, None].expand(3, 1, 65, 65)
    padded = torch.nn.functional.pad(decode(clean)[None], (32,) * 4, mode="reflect")
    found = measures.blur(encode(torch.nn.functional.conv2d(padded, kernel, groups=3))[0], clean)
    assert found["extent"] == pytest.approx(length, rel=0.25) and found["round"] < 0.3
    assert found["gradient"] < 0.75
    assert measures.blur(clean, clean)["extent"] < 5


def test_transmission_and_airlight_of_haze():
    clean = texture(8)
    light = torch.tensor([0.7, 0.8, 0.9])[:, None, None]
    found = measures.haze(clean * 0.4 + light * 0.6, clean)
    assert found["far"] == pytest.approx(0.4, abs=0.03) and found["near"] == pytest.approx(0.4, abs=0.03)
    assert found["light"] == pytest.approx(0.8 * 255, abs=5)
    assert found["red"] == pytest.approx(0.875, abs=0.03) and found["blue"] == pytest.approx(1.125, abs=0.03)


def save(path, picture):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((picture.clamp(0, 1) * 255).round().byte().movedim(0, -1).numpy()).save(path)


@pytest.mark.slow
def test_the_benchmark_tells_a_set_that_ours_covers_from_one_that_it_does_not(tmp_path):
    rows = ["file,split"]
    for index in range(4):
        save(tmp_path / f"clean_{index}.png", texture(index, 288))
        rows.append(f"clean_{index}.png,val")
    (tmp_path / "MANIFEST.csv").write_text("\n".join(rows))
    real = tmp_path / "real_val" / "SIRR_val20"
    for index in range(6):
        clean = texture(20 + index)
        style = PUBLISHED[("sirr_streaks", "sirr_curtain", "sirr_drops")[index % 3]]
        damaged = style.apply(clean[None], style.draw(Draw(stream(index)), 0.4), index)[0]
        # Rain of this colour is not ours.
        damaged = damaged + (damaged - clean) * torch.tensor([0.0, 0.0, 4.0])[:, None, None]
        save(real / "lq" / f"{index}.png", damaged)
        save(real / "gt" / f"{index}.png", clean)
    command = [
        sys.executable,
        str(ROOT / "benchmarks" / "likeness.py"),
        "--data",
        str(tmp_path),
        "--rows",
        "rain",
    ]
    done = subprocess.run(
        [*command, "--pictures", "30", "-o", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    table = list(csv.DictReader((tmp_path / "out" / "likeness.csv").open()))
    assert table == [
        {key: "" if value is None else str(value) for key, value in row.items()}
        for row in json.loads((tmp_path / "out" / "likeness.json").read_text())
    ]
    met = {row["number"]: row["met"] for row in table if row["row"] == "rain"}
    assert met["blue/red"] == "False" and met["darker"] == "True" and met["share"] == "True"
    assert "blue/red" in done.stdout and (tmp_path / "out" / "rain.png").stat().st_size > 10_000
    lost = subprocess.run(
        [*command, "--real", str(tmp_path / "no")], capture_output=True, text=True, check=False
    )
    assert lost.returncode != 0 and "lq/ and gt/" in lost.stderr


LOOKS = """
import sys
sys.path.insert(0, sys.argv[1])
import torch
from _host import room
from _likeness_jpeg import jpeg_of_params
from _likeness_sets import all_styles, exposed

styles = all_styles()
draw = room("aior_core.degradations.draw").Draw(torch.Generator().manual_seed(3))
picture = torch.linspace(0.1, 0.9, 3 * 48 * 48).view(1, 3, 48, 48)
params = styles["noise.camera"].draw(draw, 0.3)
made = styles["noise.camera"].apply(picture, params, 0)
assert made.shape == picture.shape and 4 < (made - picture).std() * 255 < 60, (made - picture).std() * 255
assert len(jpeg_of_params(styles, 4, 5)[0]) == 4
# Half of the light of mid-grey 128 is 0.108 in linear light, 92 of 255 in sRGB.
half = exposed(torch.full((1, 3, 2, 2), 128 / 127.5 - 1), 1.0) * 127.5 + 127.5
assert abs(half.mean() - 92) < 1.01, half.mean()
assert torch.equal(exposed(picture, 0.0), picture)
"""


@pytest.mark.slow
def test_the_benchmark_draws_and_applies_looks_of_the_registry():
    """The benchmark reaches parts of the pack by their names: a function that moves must not go unnoticed."""
    done = subprocess.run(
        [sys.executable, "-c", LOOKS, str(ROOT / "benchmarks")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_the_tone_curve_of_low_light_is_fitted_only_where_it_is_told():
    clean = texture()
    dark = 0.3 * clean**1.5
    assert measures.low_light(dark, clean)["gamma"] == pytest.approx(1.5, abs=0.05)
    # One pixel in three is above black, and noise chose it.
    black = torch.where(torch.rand(1, SIDE, SIDE, generator=stream(4)) < 0.33, dark, torch.zeros(()))
    assert math.isnan(measures.low_light(black, clean)["gamma"])
    # A wall under uneven light has no curve.
    wall = 0.5 + (clean - clean.mean()) * 0.1
    assert math.isnan(measures.low_light(0.05 * wall**4, wall)["gamma"])
