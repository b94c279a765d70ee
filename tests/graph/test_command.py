"""`aior.py restore` on a workflow of core nodes, and what the server fixture promises."""

import json
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
WORKFLOW = {
    "nodes": [
        {
            "id": 1,
            "type": "LoadImage",
            "mode": 0,
            "widgets_values": ["example.png", "image"],
            "outputs": [{"name": "IMAGE", "type": "IMAGE"}, {"name": "MASK", "type": "MASK"}],
        },
        {
            "id": 2,
            "type": "Reroute",
            "mode": 0,
            "inputs": [{"name": "", "type": "*", "link": 1}],
            "outputs": [{"name": "", "type": "IMAGE"}],
        },
        {
            "id": 3,
            "type": "ImageInvert",
            "mode": 0,
            "inputs": [{"name": "image", "type": "IMAGE", "link": 2}],
            "outputs": [{"name": "IMAGE", "type": "IMAGE"}],
        },
        {
            "id": 4,
            "type": "SaveImage",
            "mode": 0,
            "widgets_values": ["x"],
            "inputs": [{"name": "images", "type": "IMAGE", "link": 3}],
        },
        {
            "id": 5,
            "type": "GetImageSize",
            "mode": 0,
            "inputs": [{"name": "image", "type": "IMAGE", "link": 4}],
            "outputs": [{"name": "width", "type": "INT"}],
        },
        {"id": 6, "type": "PreviewAny", "mode": 0, "inputs": [{"name": "source", "type": "*", "link": 5}]},
        {"id": 7, "type": "Note", "mode": 0, "widgets_values": ["inverts"]},
    ],
    "links": [
        [1, 1, 0, 2, 0, "IMAGE"],
        [2, 2, 0, 3, 0, "IMAGE"],
        [3, 3, 0, 4, 0, "IMAGE"],
        [4, 1, 0, 5, 0, "IMAGE"],
        {"id": 5, "origin_id": 5, "origin_slot": 0, "target_id": 6, "target_slot": 0, "type": "INT"},
    ],
}


def picture(height=48, width=64, channels=3, seed=0):
    return numpy.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=numpy.uint8)


def is_inverse(found, source, levels=1.01):
    """Up to one level where SaveImage cut fractions off; the command's results are rounded."""
    return found.shape == source.shape and abs(found + source.astype(numpy.float32) - 255).max() <= levels


@pytest.fixture
def workflow(tmp_path):
    path = tmp_path / "workflow.json"
    path.write_text(json.dumps(WORKFLOW))
    return path


def call(*arguments):
    return subprocess.run(
        [sys.executable, str(ROOT / "aior.py"), "restore", *map(str, arguments), "--device", "cpu"],
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_a_folder_is_restored_resumed_and_its_bad_pictures_named(tmp_path, workflow):
    source, out = tmp_path / "in", tmp_path / "out"
    (source / "deep").mkdir(parents=True)
    Image.fromarray(picture()).save(source / "a.png")
    Image.fromarray(picture(seed=1)).save(source / "a.bmp")
    Image.fromarray(picture(33, 57, seed=2)).save(source / "deep" / "ü b.tiff")
    (source / "broken.jpg").write_bytes(b"not a picture at all")
    (source / "empty.png").touch()
    first = call(source, "-o", out, "--workflow", workflow)
    assert first.returncode == 1, first.stdout + first.stderr
    assert "3 restored, 0 skipped, 2 failed" in first.stdout
    assert (
        "This is no picture" in first.stdout
        and "the file is empty" in first.stdout
        and "LoadImage" not in first.stdout
    )
    assert f"{source / 'a.png'}: 64\n" in first.stdout
    made = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    assert made == ["a_bmp_restored.png", "a_png_restored.png", "deep/ü b_restored.png"]
    for name, seed in (("a_bmp_restored.png", 1), ("a_png_restored.png", 0)):
        assert is_inverse(numpy.asarray(Image.open(out / name)), picture(seed=seed), 0)
    assert Image.open(out / "deep" / "ü b_restored.png").size == (57, 33)
    stored = json.loads(Image.open(out / "a_bmp_restored.png").text["workflow"])
    assert stored["nodes"][0]["widgets_values"][0] == "a.bmp" and stored["nodes"][0]["type"] == "LoadImage"

    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    (out / "a_bmp_restored.png").unlink()
    (source / "broken.jpg").unlink()
    (source / "empty.png").unlink()
    second = call(source, "-o", out, "--workflow", workflow)
    assert second.returncode == 0, second.stdout + second.stderr
    assert "1 restored, 2 skipped, 0 failed" in second.stdout and "exists already" in second.stdout
    assert all(
        path.stat().st_mtime_ns == time for path, time in before.items() if path.name != "a_bmp_restored.png"
    )


def test_a_wrong_request_ends_with_a_sentence(tmp_path, workflow):
    (tmp_path / "empty").mkdir()
    empty = call(tmp_path / "empty", "--workflow", workflow)
    assert empty.returncode == 1 and "no pictures in this folder" in empty.stdout
    Image.fromarray(picture()).save(tmp_path / "a.png")
    useless = call(tmp_path / "a.png", "--workflow", workflow, "--fidelity", "0.5")
    assert useless.returncode == 1 and "--fidelity has no effect" in useless.stdout
    missing = call(tmp_path / "a.png", "--workflow", tmp_path / "gone.json")
    assert missing.returncode == 1 and "cannot be read" in missing.stdout
    assert not list(tmp_path.glob("*_restored*"))


def test_client_runs_prompts_and_reads_pictures_and_latents(comfy, graph):
    source = picture(40, 56)
    loaded = graph.add("LoadImage", image=comfy.upload_array(source))
    saved = graph.add(
        "SaveImage", images=graph.add("ImageInvert", image=loaded.out()).out(), filename_prefix="t"
    )
    empty = graph.add("EmptyLatentImage", width=64, height=32, batch_size=2)
    kept = graph.add("SaveLatent", samples=empty.out(), filename_prefix="l")
    seen = []
    result = comfy.run(graph.prompt, on_progress=seen.append)
    assert is_inverse(comfy.pictures(result, saved)[0] * 255, source)
    assert comfy.latents(result, kept)[0].shape == (2, 4, 4, 8)
    assert (
        set(result.executed) == set(graph.prompt)
        and seen
        and seen[-1].done <= seen[-1].total == len(graph.prompt)
    )
    again = comfy.run(graph.prompt)
    assert saved.id in again.cached and not again.refused


def test_client_names_the_node_of_a_refusal_and_of_a_failure(comfy, graph):
    image = graph.add("LoadImage", image=comfy.upload_array(picture()))
    refused = comfy.error(
        {
            **graph.prompt,
            "9": {"class_type": "SaveImage", "inputs": {"filename_prefix": "x"}, "_meta": {"title": "Keep"}},
        }
    )
    assert (
        refused.kind == "refused"
        and refused.nodes == ("9",)
        and "Keep (SaveImage, node 9)" in str(refused)
        and "images" in str(refused)
    )
    scaled = graph.add("ImageFromBatch", image=image.out(), batch_index=0, length=1)
    graph.add(
        "SaveImage",
        images=graph.add("ImageCrop", image=scaled.out(), width=0, height=8, x=0, y=0).out(),
        filename_prefix="x",
    )
    assert "width" in str(comfy.error(graph.prompt))
    broken = comfy.upload(b"no picture", "broken.png")
    failed = comfy.error(
        {
            "1": {"class_type": "LoadImage", "inputs": {"image": broken}},
            "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
        }
    )
    assert failed.kind == "failed" and failed.nodes == ("1",) and "LoadImage (node 1)" in str(failed)


def test_server_tests_and_set_up_mean_the_same_comfyui(comfy, comfy_host):
    import comfyui_version

    assert comfy.json("/system_stats")["system"]["comfyui_version"] == comfyui_version.__version__
    assert comfy_host.setup is None or comfy_host.setup.release.version == comfyui_version.__version__
