"""Odd pictures, latents and files: each gives a correct picture or an error message."""

from __future__ import annotations

import io
import re

import numpy
import pytest
from aior_pack.tests.graph.conftest import Graph
from aior_pack.tests.graph.walk import photograph, said, start, start_from
from PIL import Image

from scripts.client import PromptError

RIGHT = {
    "grey": 3,
    "grey and alpha": 4,
    "rgba": 4,
    "half": 3,
    "bfloat16": 3,
    "double": 3,
    "strided": 3,
    "expanded": 3,
    "beyond": 3,
}
"""Odd pictures that are pictures, and how many channels come out."""
WRONG = {
    "five channels": "1 to 4 channels", "no batch": "shape B H W C", "video": "shape B H W C",
    "empty batch": "batch is empty", "no width": "batch is empty",
    "no channels": "1 to 4 channels", "bytes": "torch.uint8", "bool": "torch.bool", "nan": "NaN",
    "inf": "infinite", "huge": "NaN or infinite", "none": "IMAGE", "text": "IMAGE",
    "list": "IMAGE",
}  # fmt: skip


@pytest.mark.parametrize("kind", [*RIGHT, *WRONG])
def test_odd_pictures(comfy, graph, weights, kind):
    odd = graph.add("AIORTest_OddImage", kind=kind, height=37, width=43).out(0)
    walk = start_from(graph, odd, odd, weights)
    walk.save(walk.decode(walk.sampler(steps=1).out(0)).out(0))
    text = said(comfy, graph.prompt) if kind in WRONG else ""
    if kind in WRONG:
        assert re.search(f"Encode Degradation Prior.*{WRONG[kind]}", text), text
        for node, inputs in (("AIOR_Degrade", {"image": odd, "degradation": "noise", "severity": 0.5,
        "seed": 1}), ("AIOR_Measure", {
            "reference": odd, "image": odd, "border": 0, "channel": "rgb", "perceptual": False,
            "error_gain": 8.0})):  # fmt: skip
            graph = Graph()
            graph.add("AIORTest_OddImage", kind=kind, height=37, width=43)
            graph.add("PreviewAny", source=graph.add(node, **inputs).out(0))
            said_there = said(comfy, graph.prompt)
            assert said_there or kind == "huge", node
        return
    pictures = comfy.pictures(comfy.run(graph.prompt))
    assert len(pictures) == (2 if kind == "expanded" else 1)
    assert all(
        out.shape == (37, 43, RIGHT[kind]) and numpy.isfinite(out).all() and out.std() > 0.005
        for out in pictures
    )


def test_a_list_of_pictures_goes_through_one_by_one(comfy, graph, weights):
    listed = graph.add("AIORTest_ImageList", count=3).out(0)
    walk = start_from(graph, listed, listed, weights)
    walk.save(walk.decode(walk.sampler(steps=1).out(0)).out(0))
    graph.add("AIOR_PriorReport", prior=walk.prior)
    assert [out.shape for out in comfy.pictures(comfy.run(graph.prompt))] == [
        (32, 40, 3),
        (40, 43, 3),
        (48, 46, 3),
    ]
    graph.prompt["1"]["inputs"]["count"] = 0
    try:
        comfy.run(graph.prompt)
    except PromptError:
        # What the host makes of a list with nothing in it is its own; it has to go on.
        pass
    assert "AIOR_EncodePrior" in comfy.json("/object_info/AIOR_EncodePrior")


@pytest.mark.parametrize("kind", [
    "empty batch", "one side", "video", "nan", "bytes", "no samples", "text", "none", "wrong mask", "double",
    "wrong index",
])  # fmt: skip
def test_odd_latents(comfy, graph, weights, kind):
    walk = start(graph, comfy.upload_array(photograph(32, 40)), weights)
    odd = graph.add("AIORTest_OddLatent", kind=kind, latent=walk.latent).out(0)
    sampled, decoded = walk.sampler(steps=1, latent=odd), walk.decode(odd)
    said_by = []
    for node in (sampled, decoded):
        said_by.append(
            said(
                comfy,
                graph.prompt | {"show": {"class_type": "PreviewAny", "inputs": {"source": node.out(0)}}},
            )
        )
    if kind == "none":
        # To the sampler nothing is an open input.
        assert said_by[0] == "" and "DAEM Decode: the latent's samples are nothing" in said_by[1]
    elif kind in ("empty batch", "one side", "video", "nan", "bytes", "no samples", "text"):
        assert "DAFF Sampler: " in said_by[0] and "DAEM Decode: " in said_by[1], said_by
    elif kind == "wrong index":
        assert "DAFF Sampler: the latent says that its pictures are numbers [1000000]" in said_by[0]
    else:
        assert said_by == ["", ""]


@pytest.mark.parametrize("width, height", [(1, 1), (1, 40), (40, 1), (15, 4000)])
def test_pictures_too_small_are_refused(comfy, graph, weights, width, height):
    walk = start(graph, comfy.upload_array(photograph(height, width)), weights)
    walk.save(walk.decode(walk.sampler(steps=1).out(0)).out(0))
    assert re.search(
        f"Encode Degradation Prior: the picture is {width}x{height} pixels; at least 16x16",
        said(comfy, graph.prompt),
    )


@pytest.mark.parametrize("width, height", [(20000, 16), (20000, 64), (16, 20000)])
@pytest.mark.parametrize("tile", [0, 512])
def test_pictures_20000_pixels_wide(comfy, graph, weights, width, height, tile, stress):
    if not stress and (height, tile) not in ((16, 0), (64, 512)):
        pytest.skip("with --stress")
    walk = start(graph, comfy.upload_array(photograph(height, width)), weights)
    prior = graph.add("AIOR_EncodePrior", restorer=walk.restorer, vae=walk.vae, image=walk.image, tile=tile)
    sampled = graph.add(
        "AIOR_DAFFSampler",
        **{**graph.prompt[walk.sampler(steps=1, tile=tile).id]["inputs"], "prior": prior.out(0)},
    )
    decoded = graph.prompt[walk.decode(sampled.out(0), tile=tile).id]["inputs"]
    saved = walk.save(graph.add("AIOR_DecodeDAEM", **{**decoded, "prior": prior.out(0)}).out(0))
    (out,) = comfy.pictures(comfy.run(graph.prompt), saved)
    assert out.shape == (height, width, 3) and numpy.isfinite(out).all() and out.std() > 0.01


def files() -> dict[str, bytes]:
    """Pictures as files of every kind that people have."""
    grey = numpy.rint(photograph(40, 48, 1)[..., 0] * 255).astype(numpy.uint8)
    color = numpy.rint(photograph(40, 48) * 255).astype(numpy.uint8)
    pictures = {
        "grey.png": Image.fromarray(grey), "grey_alpha.png": Image.merge("LA", (Image.fromarray(grey),
        Image.fromarray(255 - grey))),
        "palette.png": Image.fromarray(color).quantize(17), "one_bit.png": Image.fromarray(grey).convert("1"),
        "rgba.png": Image.fromarray(numpy.dstack([color, grey])),
        "sixteen.png": Image.fromarray(grey.astype(numpy.uint16) * 257),
        "cmyk.jpg": Image.fromarray(color).convert("CMYK"), "grey.jpg": Image.fromarray(grey),
        "moving.gif": Image.fromarray(color), "float.tiff": Image.fromarray(grey / 255.0),
    }  # fmt: skip
    made = {}
    for name, picture in pictures.items():
        buffer = io.BytesIO()
        more = (
            {"save_all": True, "append_images": [Image.fromarray(255 - color)]}
            if name.endswith("gif")
            else {}
        )
        picture.save(
            buffer,
            {"png": "PNG", "jpg": "JPEG", "gif": "GIF", "tiff": "TIFF"}[name.rpartition(".")[2]],
            **more,
        )
        made[name] = buffer.getvalue()
    return made


@pytest.mark.parametrize("name", sorted(files()))
def test_picture_files_of_every_kind(comfy, graph, weights, name):
    walk = start(graph, comfy.upload(files()[name], name), weights)
    walk.save(walk.decode(walk.sampler(steps=1).out(0)).out(0))
    for out in comfy.pictures(comfy.run(graph.prompt)):
        assert out.shape[:2] == (40, 48) and numpy.isfinite(out).all() and out.std() > 0.01
