"""Workflows that users saved with the first edition run on the live server and restore what they did."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy
import pytest
from aior_pack.tests.graph.walk import photograph, psnr
from PIL import Image

from scripts.graph import find_nodes, to_prompt

WORKFLOWS = Path(__file__).resolve().parents[1] / "fixtures" / "first_edition" / "workflows"


@pytest.fixture(scope="module")
def pictures() -> tuple[numpy.ndarray, numpy.ndarray]:
    """A photograph and the same with noise, `128 128 3` in 0..1."""
    clean = photograph(128, 128)
    noise = numpy.random.default_rng(0).normal(0, 0.1, clean.shape)
    return clean, (clean + noise).clip(0, 1).astype(numpy.float32)


def prompt_of(comfy, name: str, picture: numpy.ndarray) -> dict:
    """The prompt of a saved workflow that restores `picture`."""
    workflow = json.loads((WORKFLOWS / f"{name}.json").read_text(encoding="utf-8"))
    prompt = to_prompt(workflow, comfy.object_info())
    for node in find_nodes(prompt, "LoadImage"):
        prompt[node]["inputs"]["image"] = comfy.upload_array(picture)
    return prompt


@pytest.mark.parametrize("name", ["restore", "restore_ksampler", "restore_custom_sampler"])
def test_a_restoring_workflow_still_restores(comfy, pictures, name):
    clean, noisy = pictures
    prompt = prompt_of(comfy, name, noisy)
    result = comfy.run(prompt)
    (saved,) = (item for item in result.items("images") if item["type"] == "output")
    restored = numpy.asarray(Image.open(io.BytesIO(comfy.view(saved))), numpy.float32) / 255
    assert restored.shape == clean.shape
    assert psnr(restored, clean) > psnr(noisy, clean) + 2


def test_the_reporting_workflow_still_reports(comfy, pictures):
    result = comfy.run(prompt_of(comfy, "what_is_wrong", pictures[1]))
    assert "noise" in result.items("text")[0]
