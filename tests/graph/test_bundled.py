"""The bundled weights: with them every workflow and the command improve a damaged photograph."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
from aior_pack.tests.graph.walk import psnr
from PIL import Image

from scripts.graph import find_nodes, to_prompt

ROOT = Path(__file__).resolve().parents[2]
CLEAN = {
    "astronaut_noise.jpg": "astronaut",
    "dahlia_rain.jpg": "flower",
    "coffee_low_light.png": "coffee",
    "pavilion_snow.jpg": "china",
}


def read(path: Path) -> numpy.ndarray:
    return numpy.asarray(Image.open(path).convert("RGB"), numpy.float32) / 255


def workflow(comfy, name: str) -> dict:
    loaded = json.loads((ROOT / "workflows" / f"{name}.json").read_text(encoding="utf-8"))
    return to_prompt(loaded, comfy.object_info())


def test_the_weights_are_small_enough_to_travel():
    files = sorted((ROOT / "models").glob("*.safetensors"))
    sizes = [path.stat().st_size / 2**20 for path in files]
    assert files and max(sizes) < 16 and sum(sizes) <= 32


@pytest.mark.parametrize("name", ["restore", "restore_ksampler", "restore_custom_sampler"])
def test_each_way_to_sample_makes_a_noisy_photograph_better(comfy, name):
    prompt = workflow(comfy, name)
    (loader,) = find_nodes(prompt, "LoadImage")
    damaged = ROOT / "tests" / "pictures" / "astronaut_noise.jpg"
    prompt[loader]["inputs"]["image"] = comfy.upload(damaged.read_bytes(), "astronaut_noise.jpg")
    (restored, *_) = comfy.pictures(comfy.run(prompt))
    clean = read(ROOT / "tests" / "clean" / "astronaut.webp")
    assert restored.shape == clean.shape
    assert psnr(restored, clean) > psnr(read(damaged), clean) + 4


def test_only_the_painted_half_is_repaired(comfy):
    prompt = workflow(comfy, "restore_masked")
    damaged = read(ROOT / "tests" / "pictures" / "pavilion_snow.jpg")
    height, width = damaged.shape[:2]
    alpha = numpy.ones((height, width, 1), numpy.float32)
    alpha[:, : width // 2] = 0
    (loader,) = find_nodes(prompt, "LoadImage")
    prompt[loader]["inputs"]["image"] = comfy.upload_array(numpy.concatenate([damaged, alpha], axis=2))
    (restored, *_) = comfy.pictures(comfy.run(prompt))
    assert abs(restored - damaged)[:, width // 2 + 8 :].max() <= 2 / 255
    clean = read(ROOT / "tests" / "clean" / "china.webp")
    left = slice(0, width // 2 - 8)
    assert psnr(restored[:, left], clean[:, left]) > psnr(damaged[:, left], clean[:, left]) + 1


def test_the_command_repairs_photographs(tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    for name in CLEAN:
        shutil.copy(ROOT / "tests" / "pictures" / name, source)
    command = [
        sys.executable,
        str(ROOT / "aior.py"),
        "restore",
        str(source),
        "-o",
        str(tmp_path / "out"),
        "--device",
        "cpu",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    for name, clean in CLEAN.items():
        result = Image.open(tmp_path / "out" / f"{Path(name).stem}_restored.png")
        truth, damaged = read(ROOT / "tests" / "clean" / f"{clean}.webp"), read(source / name)
        restored = numpy.asarray(result.convert("RGB"), numpy.float32) / 255
        assert restored.shape == truth.shape
        assert psnr(restored, truth) > psnr(damaged, truth) + 1, name
    assert "noise" in done.stdout and "4 restored" in done.stdout


def test_the_command_leaves_clean_photographs_and_deep_gradients_alone(tmp_path):
    """Through files: what is read, rounded and written counts too."""
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    clean = sorted((ROOT / "tests" / "clean").glob("*.webp"))
    for path in clean:
        shutil.copy(path, source)
    ramp = numpy.linspace(2000, 63000, 1000).round().astype(numpy.uint16)[None].repeat(128, 0)
    Image.fromarray(ramp).save(source / "gradient.png")
    command = [
        sys.executable,
        str(ROOT / "aior.py"),
        "restore",
        str(source),
        "-o",
        str(out),
        "--device",
        "cpu",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0 and len(clean) == 6, done.stdout + done.stderr
    for path in clean:
        before, after = (
            numpy.asarray(Image.open(file).convert("RGB"), numpy.float64)
            for file in (path, out / f"{path.stem}_restored.png")
        )
        assert abs((after - before).mean()) <= 0.05 and psnr(after / 255, before / 255) >= 55, path.stem
    deep = Image.open(out / "gradient_restored.png")
    assert deep.mode == "I;16" and len(numpy.unique(numpy.asarray(deep)[64])) >= 900


def test_a_clean_photograph_stays_as_it_is(comfy):
    prompt = workflow(comfy, "restore")
    (loader,) = find_nodes(prompt, "LoadImage")
    clean = ROOT / "tests" / "clean" / "astronaut.webp"
    buffer = io.BytesIO()
    Image.open(clean).save(buffer, "PNG")
    prompt[loader]["inputs"]["image"] = comfy.upload(buffer.getvalue(), "clean.png")
    (restored, *_) = comfy.pictures(comfy.run(prompt))
    assert psnr(restored, read(clean)) > 35
