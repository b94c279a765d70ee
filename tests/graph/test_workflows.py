"""The workflows for analysis and video, and the blueprints, on a server: their outputs are what they say."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy
import pytest
from aior_pack.tests.graph.walk import psnr
from PIL import Image

from scripts.graph import find_nodes, to_prompt
from tools.workflow_sheets import noisy_video

ROOT = Path(__file__).resolve().parents[2]
BLUEPRINTS = {path.stem: path for path in (ROOT / "subgraphs").glob("*.json")}
SIDE = 160


def clean(name: str) -> numpy.ndarray:
    """The middle of a photograph of tests/clean, `SIDE SIDE 3` in 0..1."""
    with Image.open(ROOT / "tests" / "clean" / f"{name}.webp") as picture:
        pixels = numpy.asarray(picture.convert("RGB"), numpy.float32) / 255
    top, left = ((length - SIDE) // 2 for length in pixels.shape[:2])
    return pixels[top : top + SIDE, left : left + SIDE]


@pytest.fixture(scope="module")
def noisy() -> numpy.ndarray:
    """A noisy photograph, in the 8 bits that a PNG keeps."""
    picture = clean("astronaut") + numpy.random.default_rng(0).normal(0, 0.1, (SIDE, SIDE, 3))
    return numpy.rint(255 * picture.clip(0, 1)).astype(numpy.float32) / 255


def workflow(comfy, name: str, picture: numpy.ndarray) -> dict:
    prompt = to_prompt(
        json.loads((ROOT / "workflows" / f"{name}.json").read_text(encoding="utf-8")), comfy.object_info()
    )
    for node in find_nodes(prompt, "LoadImage"):
        prompt[node]["inputs"]["image"] = comfy.upload_array(picture)
    return prompt


def test_what_is_wrong_says_and_shows_it(comfy, noisy):
    prompt = workflow(comfy, "what_is_wrong", noisy)
    result = comfy.run(prompt)
    assert re.match(r"Picture 1 \(160x160\): .*noise.* found", result.items("text")[0])
    shown = [
        len(result.items("images", node))
        for kind in ("PreviewImage", "MaskPreview")
        for node in find_nodes(prompt, kind)
    ]
    assert sorted(shown) == [1, 8, 8]


def test_damage_is_made_repaired_and_measured_as_it_looks(comfy):
    photo = clean("flower")
    prompt = workflow(comfy, "damage_and_measure", photo)
    result = comfy.run(prompt)
    # Each table is there twice: what measures it says it too.
    before, *_, after = (
        float(re.search(r"\| 1 +\| +([\d.]+)", text)[1]) for text in result.items("text") if "PSNR" in text
    )
    (restored,) = (comfy.view(item) for item in result.items("images") if item["type"] == "output")
    restored = numpy.asarray(Image.open(io.BytesIO(restored)), numpy.float32) / 255
    photo = numpy.rint(255 * photo) / 255
    assert after > before + 3 and abs(after - psnr(restored, photo)) < 0.2


def test_samplers_stand_side_by_side(comfy, noisy):
    (sheet,) = comfy.pictures(comfy.run(workflow(comfy, "compare_samplers", noisy)))
    assert sheet.shape == (2 * SIDE + 8, 2 * SIDE + 8, 3)
    corners = [sheet[top : top + SIDE, left : left + SIDE] for top in (0, SIDE + 8) for left in (0, SIDE + 8)]
    assert all(psnr(corner, clean("astronaut")) > psnr(noisy, clean("astronaut")) + 2 for corner in corners)
    assert all(abs(corner - corners[0]).max() > 1 / 255 for corner in corners[1:])


def test_a_video_comes_back_with_its_sound_its_speed_and_less_noise(comfy):
    av = pytest.importorskip("av")
    with Image.open(ROOT / "tests" / "clean" / "coffee.webp") as photo:
        still = photo.convert("RGB").crop((100, 50, 420, 290))
    video, frames = noisy_video(still, 4)
    prompt = workflow(comfy, "restore_video", None)
    (loader,) = find_nodes(prompt, "LoadVideo")
    prompt[loader]["inputs"]["file"] = comfy.upload(video, "noisy.mp4")
    # A step is enough to see that it runs; the tests of the sampler count them.
    prompt[find_nodes(prompt, "AIOR_DAFFSampler")[0]]["inputs"]["steps"] = 1
    (saved,) = comfy.run(prompt).items("images")
    with av.open(io.BytesIO(comfy.view(saved))) as container:
        (picture,), (sound,) = container.streams.video, container.streams.audio
        assert picture.average_rate == 12 and sound.codec_context.name == "aac"
        restored = [
            frame.to_ndarray(format="rgb24").astype(numpy.float32) for frame in container.decode(video=0)
        ]
    assert len(restored) == len(frames) == 4 and restored[0].shape == (240, 320, 3)

    def roughness(frame: numpy.ndarray) -> float:
        return float(abs(numpy.diff(frame, axis=1)).mean())

    for before, after in zip(frames, restored):
        assert roughness(after) < 0.5 * roughness(numpy.asarray(before, numpy.float32))


def blueprint(comfy, name: str, picture: numpy.ndarray, **settings: object) -> dict:
    """The prompt of a blueprint as it is served, between Load Image and Save Image."""
    (number,) = (key for key, entry in comfy.json("/api/global_subgraphs").items() if entry["name"] == name)
    served = json.loads(comfy.json(f"/api/global_subgraphs/{number}")["data"])
    (host,) = served["nodes"]
    shown = [slot["name"] for slot in host["inputs"] if "widget" in slot]
    host["widgets_values"] = [
        settings.get(name, value) for name, value in zip(shown, host["widgets_values"], strict=True)
    ]
    for place, slot in enumerate(host["inputs"][: len(host["inputs"]) - len(shown)]):
        slot["link"] = place + 1
    load = {
        "id": 8,
        "type": "LoadImage",
        "inputs": [],
        "widgets_values": [comfy.upload_array(picture), "image"],
    }
    save = {
        "id": 9,
        "type": "SaveImage",
        "inputs": [{"name": "images", "type": "IMAGE", "link": 3}],
        "widgets_values": ["blueprint"],
    }
    served["nodes"] += [load, save]
    served["links"] = [
        [1, 8, 0, host["id"], 0, "IMAGE"],
        [2, 8, 1, host["id"], 1, "MASK"],
        [3, host["id"], 0, 9, 0, "IMAGE"],
    ]
    return to_prompt(served, comfy.object_info())


def test_the_server_lists_the_blueprints_and_serves_their_files(comfy, comfy_host):
    listed = {entry["name"]: (key, entry) for key, entry in comfy.json("/api/global_subgraphs").items()}
    assert (
        BLUEPRINTS.keys() == {"Restore Photo", "Restore Large Photo", "Restore Masked Area"}
        and BLUEPRINTS.keys() <= listed.keys()
    )
    for name, path in BLUEPRINTS.items():
        key, entry = listed[name]
        assert (
            entry["source"] == "custom_node"
            and entry["info"]["node_pack"] == f"custom_nodes.{comfy_host.pack_name}"
        )
        assert comfy.json(f"/api/global_subgraphs/{key}")["data"] == path.read_text(encoding="utf-8")


def test_restore_photo_is_the_workflow_and_the_large_one_is_it_in_tiles(comfy, noisy):
    (wanted, *_) = comfy.pictures(comfy.run(workflow(comfy, "restore", noisy)))
    (photo,) = comfy.pictures(comfy.run(blueprint(comfy, "Restore Photo", noisy)))
    assert (
        numpy.array_equal(photo, wanted)
        and psnr(photo, clean("astronaut")) > psnr(noisy, clean("astronaut")) + 3
    )
    (large,) = comfy.pictures(comfy.run(blueprint(comfy, "Restore Large Photo", noisy, tile=128)))
    assert not numpy.array_equal(large, wanted) and psnr(large, wanted) > 40
    (once,) = comfy.pictures(comfy.run(blueprint(comfy, "Restore Photo", noisy, steps=1)))
    assert not numpy.array_equal(once, wanted)


def test_restore_masked_area_leaves_the_rest_alone(comfy, noisy):
    alpha = numpy.ones((SIDE, SIDE, 1), numpy.float32)
    alpha[:, : SIDE // 2] = 0
    (out,) = comfy.pictures(
        comfy.run(blueprint(comfy, "Restore Masked Area", numpy.concatenate([noisy, alpha], axis=2)))
    )
    assert abs(out - noisy)[:, SIDE // 2 :].max() <= 1 / 255
    left = slice(0, SIDE // 2)
    assert (
        psnr(out[:, left], clean("astronaut")[:, left])
        > psnr(noisy[:, left], clean("astronaut")[:, left]) + 3
    )
