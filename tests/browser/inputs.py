"""Small inputs for the workflows: pictures, folders, pairs, a clip and an upscale model, by their names."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from tools.make_workflow_pictures import interpolating_upscaler, masked
from tools.workflow_sheets import noisy_video

ROOT = Path(__file__).resolve().parents[2]
BOX = (160, 60, 480, 316)
"""The part of a photograph that is taken: 320x256 pixels."""
FRAMES = 3
RAINY, CLEAN = "tests/pictures/dahlia_rain.jpg", "tests/clean/flower.webp"


def workflow_files() -> list[Path]:
    """The workflows that come with the pack, in the order of their names."""
    return sorted((ROOT / "workflows").glob("*.json"))


def read(path: Path) -> dict:
    """A workflow's file."""
    return json.loads(path.read_text(encoding="utf-8"))


def needs_models(path: Path) -> bool:
    """Whether the workflow needs weights of the user's: an SDXL checkpoint and its restorer."""
    return path.stem.startswith("sdxl_")


def photograph(name: str = RAINY) -> Image.Image:
    """A part of one of our test pictures."""
    return Image.open(ROOT / name).convert("RGB").crop(BOX)


def provide(workflow: dict, inputs: Path, models: Path) -> None:
    """Write the files that the workflow's loaders name. Raises KeyError for an unknown loader."""
    linked = {(link[1], link[2]) for link in workflow["links"]}
    for node in workflow["nodes"]:
        name = (node.get("widgets_values") or [None])[0]
        if node["type"] == "LoadImage":
            # A mask that is used: the left half.
            clean = "clean" in node.get("title", "")
            _save(
                masked(photograph()) if (node["id"], 1) in linked else photograph(CLEAN if clean else RAINY),
                inputs / name,
            )
        elif node["type"] == "LoadVideo":
            _once(inputs / name, lambda path: path.write_bytes(noisy_video(photograph(), FRAMES)[0]))
        elif node["type"] == "LoadImageDataSetFromFolder":
            _save(photograph(), inputs / name / "dahlia.png")
            _save(
                photograph("tests/pictures/rocket_jpeg.png").resize((256, 256)), inputs / name / "rocket.png"
            )
        elif node["type"] == "AIOR_TrainRestorer":
            _save(photograph(), inputs / name / "lq" / "dahlia.png")
            _save(photograph(CLEAN), inputs / name / "gt" / "dahlia.png")
        elif node["type"] == "UpscaleModelLoader":
            _once(models / "upscale_models" / name, interpolating_upscaler)
        elif node["type"].startswith("Load"):
            raise KeyError(f"{node['type']}: say in {Path(__file__).name} what it shall read")


def _once(path: Path, write: Callable[[Path], None]) -> None:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path)


def _save(picture: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)
