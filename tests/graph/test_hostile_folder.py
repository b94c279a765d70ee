"""The command on a folder with sixty entries: readable pictures are restored, the others named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy
import pytest
from aior_pack.tests import picture_files as files
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
THROUGH = {
    "nodes": [
        {
            "id": 1,
            "type": "LoadImage",
            "mode": 0,
            "widgets_values": ["example.png", "image"],
            "outputs": [{"name": "IMAGE", "type": "IMAGE"}],
        },
        {
            "id": 2,
            "type": "SaveImage",
            "mode": 0,
            "widgets_values": ["x"],
            "inputs": [{"name": "images", "type": "IMAGE", "link": 1}],
        },
    ],
    "links": [[1, 1, 0, 2, 0, "IMAGE"]],
}
"""A picture as it is: whatever differs afterwards was lost on the way in or out."""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="pipes, links and names of Linux")


def transparent(image: Image.Image) -> Image.Image:
    image = image.copy()
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image


def readable() -> dict[str, bytes]:
    """File name -> bytes of pictures that are read, each of another kind."""
    scene, encode = files.scene(), files.encode
    ramp = numpy.linspace(0, 65535, 64 * 48).reshape(48, 64).astype(numpy.uint16)
    deep = numpy.asarray(scene).astype(numpy.uint16) * 257
    found = {f"turned_{n}.jpg": files.oriented(n) for n in range(1, 9)}
    found |= {f"turned_{n}.webp": files.oriented(n, "WEBP") for n in (4, 5, 7)}
    found |= {
        "plain.png": encode(scene, "PNG"),
        "plain.bmp": encode(scene, "BMP"),
        "plain.gif": encode(scene, "GIF"),
        "plain.ppm": encode(scene, "PPM"),
        "plain.avif": encode(scene, "AVIF"),
        "plain.tif": encode(scene, "TIFF"),
        "progressive.jpg": encode(scene, "JPEG", progressive=True),
        "grey.png": encode(scene.convert("L"), "PNG"),
        "one_bit.png": encode(scene.convert("1"), "PNG"),
        "one_bit.tiff": encode(scene.convert("1"), "TIFF"),
        "grey.jpg": encode(scene.convert("L"), "JPEG"),
        "palette.png": encode(scene.quantize(64), "PNG"),
        "cmyk.jpg": encode(scene.convert("CMYK"), "JPEG"),
        "cmyk.tiff": encode(scene.convert("CMYK"), "TIFF"),
        "jpeg_inside.tiff": encode(scene, "TIFF", compression="jpeg", quality=95),
        "lzw.tiff": encode(scene, "TIFF", compression="tiff_lzw"),
        "clear.png": encode(transparent(scene), "PNG"),
        "clear_grey.png": encode(transparent(scene.convert("L")), "PNG"),
        "clear.webp": encode(transparent(scene), "WEBP", lossless=True),
        "clear.tiff": encode(transparent(scene), "TIFF"),
        "adobe.png": encode(scene, "PNG", icc_profile=files.rgb_profile()),
        "adobe.jpg": encode(scene, "JPEG", quality=95, icc_profile=files.rgb_profile()),
        "linear.png": encode(scene, "PNG", icc_profile=files.rgb_profile(1.0)),
        "grey_profile.png": encode(scene.convert("L"), "PNG", icc_profile=files.grey_profile()),
        "deep_grey.png": encode(Image.fromarray(ramp), "PNG"),
        "deep_grey.tiff": encode(Image.fromarray(ramp), "TIFF"),
        "deep.png": files.deep_png(deep),
        "deep.tiff": files.deep_tiff(deep),
        "motion_photo.jpg": encode(scene, "JPEG", quality=95) + b"\0\0\0\x18ftypmp42" + bytes(100_000),
        "png_called.jpg": encode(scene, "PNG"),
        "thumbnail.jpg": files.jpeg_with_thumbnail(encode(scene, "JPEG", quality=95)),
        "日本.png": encode(scene, "PNG"),
        os.fsdecode(b"caf\xe9.png"): encode(scene, "PNG"),
        "a b'c\"d;$(x).png": encode(scene, "PNG"),
        "-o.png": encode(scene, "PNG"),
        "same.png": encode(scene, "PNG"),
        "same.jpg": encode(scene, "JPEG", quality=95),
        "long" + "x" * 240 + ".png": encode(scene, "PNG"),
    }
    return found


def unreadable() -> dict[str, bytes]:
    ramp = numpy.linspace(-1, 300, 64 * 48, dtype=numpy.float32).reshape(48, 64)
    whole = files.encode(files.scene(), "PNG")
    return {
        "empty.png": b"",
        "text.jpg": b"hello",
        "heic.jpg": b"\0\0\0\x18ftypheic" + bytes(500),
        "page.png": b"<!DOCTYPE html>",
        "zeros.tiff": bytes(999),
        "head_only.png": whole[:30],
        "float.tiff": files.encode(Image.fromarray(ramp), "TIFF"),
    }


def make(folder: Path) -> tuple[list[str], list[str]]:
    """Fill the folder; returns the names of what can be read and of what cannot."""
    good, bad = readable(), unreadable()
    for name, data in (good | bad).items():
        (folder / name).write_bytes(data)
    os.mkfifo(folder / "pipe.png")
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "gone.png").symlink_to("nowhere.png")
    (folder / "device.jpg").symlink_to("/dev/zero")
    (folder / "raw.dng").write_bytes(b"II*\0")
    return list(good), [*bad, "pipe.png", "loop.png", "gone.png", "device.jpg", "raw.dng"]


def result_of(out: Path, name: str) -> Path:
    stem, suffix = os.path.splitext(name)
    there = os.listdir(out)
    found = [each for each in (f"{stem}_restored.png", f"{stem}_{suffix[1:]}_restored.png") if each in there]
    found += [
        each for each in there if "~" in each and each.startswith(stem[:100])
    ]  # a name that would be too long
    assert found, name
    return out / found[-1]


def test_sixty_entries_are_restored_as_they_look_or_named(tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    good, bad = make(source)
    assert len(good) + len(bad) >= 60
    workflow = tmp_path / "workflow.json"
    workflow.write_text(json.dumps(THROUGH))
    started = time.monotonic()
    done = subprocess.run(
        [
            sys.executable,
            str(ROOT / "aior.py"),
            "restore",
            str(source),
            "-o",
            str(out),
            "--workflow",
            str(workflow),
            "--device",
            "cpu",
        ],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=280,
    )
    print(done.stdout[-3000:], f"{time.monotonic() - started:.1f} s")
    assert done.returncode == 1 and "Traceback" not in done.stdout + done.stderr
    assert f"{len(good)} restored, 0 skipped, {len(bad) - 1} failed" in done.stdout
    for name in bad:
        assert name in done.stdout
    for name in good:
        data, result = (source / name).read_bytes(), result_of(out, name).read_bytes()
        was, now = files.shown(data), files.shown(result)
        assert was.shape == now.shape and abs(was.astype(int) - now).max() <= 4, name
        before, after = Image.open(source / name), Image.open(result_of(out, name))
        if "clear" in name:
            assert (
                numpy.asarray(before.convert("RGBA"))[..., 3] == numpy.asarray(after.convert("RGBA"))[..., 3]
            ).all(), name
        if name.startswith(("grey", "one_bit", "deep_grey")):
            assert after.mode in ("L", "I;16"), name
        if name.startswith("deep"):
            assert after.mode == "I;16" or result_of(out, name).read_bytes()[24] == 16, name
        if name.startswith("turned"):
            assert after.getexif()[0x010F] == "Kamera" and after.getexif().get_ifd(0x8825)[1] == "N"
