"""Runs every workflow in workflows/ on a server and makes its thumbnail NAME.jpg.

    .host/venv/bin/python -m tools.make_workflow_pictures [NAME...]

A thumbnail shows a damaged left and a restored right half, or a sheet of the workflow's outputs
(`workflow_sheets.py`). The pictures come from tests/pictures/ and tests/clean/. Without --upscaler the
upscaling workflow uses a small network, made here, that interpolates.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import tempfile
from pathlib import Path

import numpy
from PIL import Image, ImageDraw

from scripts.client import ComfyClient, Result
from scripts.graph import find_nodes, to_prompt
from scripts.host import find_host
from scripts.server import Server

from .workflow_sheets import FRAMES, SHEETS, noisy_video

ROOT = Path(__file__).resolve().parents[1]
PICTURES, CLEAN = ROOT / "tests" / "pictures", ROOT / "tests" / "clean"
INPUTS = {
    "restore": ("dahlia_rain.jpg",),
    "restore_ksampler": ("astronaut_noise.jpg",),
    "restore_custom_sampler": ("pavilion_haze.jpg",),
    "restore_upscale": ("cat_blur_noise.png",),
    "restore_masked": ("pavilion_snow.jpg",),
    "restore_batch": ("coffee_low_light.png", "dahlia_rain.jpg", "rocket_jpeg.png"),
    "restore_keep_grain": ("dahlia_rain.jpg",),
    "what_is_wrong": ("pavilion_snow.jpg",),
    "damage_and_measure": ("flower.webp",),
    "compare_samplers": ("astronaut_noise.jpg",),
    "restore_video": ("coffee.webp",),
}
WIDTH, LINE, GRAIN = 640, 3, 14
FINETUNED = "other_3"
"""The picture of benchmarks/finetune.py that is shown: the dahlia (tests/pictures/CREDITS.md)."""


def interpolating_upscaler(path: Path) -> None:
    """Write a network of the architecture SRVGGNetCompact that interpolates bicubically to twice the size."""
    import torch
    from safetensors.torch import save_file

    # Taps at -2..2 for the left and the right new pixel: Keys' kernel with a = -0.5 at the distances 0.25 +
    # n.
    left = torch.tensor([-0.0234375, 0.2265625, 0.8671875, -0.0703125, 0.0])
    phases = (left, left.flip(0))
    first, last = torch.zeros(27, 3, 3, 3), torch.zeros(12, 27, 3, 3)
    for channel in range(3):
        for place in range(9):
            first[channel * 9 + place, channel, place // 3, place % 3] = 1.0
        for phase in range(4):
            kernel = torch.outer(phases[phase // 2], phases[phase % 2])
            kernel[2, 2] -= 1.0  # the architecture adds the nearest neighbour itself
            for row in range(5):
                for column in range(5):
                    near = [min(max(offset - 2, -1), 1) for offset in (row, column)]
                    rest = [offset - 2 - n for offset, n in zip((row, column), near)]
                    feature = channel * 9 + (near[0] + 1) * 3 + near[1] + 1
                    last[channel * 4 + phase, feature, rest[0] + 1, rest[1] + 1] = kernel[row, column]
    save_file(
        {
            "body.0.weight": first,
            "body.0.bias": torch.zeros(27),
            "body.1.weight": torch.ones(27),
            "body.2.weight": last,
            "body.2.bias": torch.zeros(12),
        },
        path,
    )


def masked(picture: Image.Image) -> Image.Image:
    """The picture with a transparent left half, which LoadImage reads as the mask of the area to repair."""
    made, alpha = picture.convert("RGBA"), Image.new("L", picture.size, 255)
    ImageDraw.Draw(alpha).rectangle((0, 0, picture.width // 2, picture.height), fill=0)
    made.putalpha(alpha)
    return made


def grainy(picture: Image.Image) -> Image.Image:
    """The picture with film grain: grey noise with sigma GRAIN (of 255), always the same."""
    pixels = numpy.asarray(picture, numpy.float32)
    grain = numpy.random.default_rng(0).standard_normal((*pixels.shape[:2], 1), numpy.float32)
    return Image.fromarray(numpy.rint(pixels + GRAIN * grain).clip(0, 255).astype(numpy.uint8))


def as_png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def run(client: ComfyClient, name: str) -> tuple[Result, list[Image.Image]]:
    """Run a workflow. Returns its result and its inputs (for a video, its frames).

    Raises PromptError or GraphError.
    """
    workflow = json.loads((ROOT / "workflows" / f"{name}.json").read_text(encoding="utf-8"))
    labels = INPUTS[name]
    files = [
        next(folder / file for folder in (PICTURES, CLEAN) if (folder / file).is_file()).read_bytes()
        for file in labels
    ]
    before = [Image.open(io.BytesIO(data)).convert("RGB") for data in files]
    if name == "restore_keep_grain":
        before = [grainy(picture) for picture in before]
        labels, files = ("grainy.png",), [as_png(picture) for picture in before]
    if name == "restore_video":
        video, before = noisy_video(before[0], FRAMES)
        labels, files = ("noisy.mp4",), [video]
    subfolder = "photographs" if name == "restore_batch" else ""
    if name == "restore_masked":
        names = [client.upload(as_png(masked(before[0])), "masked.png")]
    else:
        names = [client.upload(data, file, subfolder) for data, file in zip(files, labels)]
    info = client.object_info()
    prompt = to_prompt(workflow, info)
    for kind, field in (("LoadImage", "image"), ("LoadVideo", "file")):
        for node in find_nodes(prompt, kind):
            prompt[node]["inputs"][field] = names[0]
    for node in find_nodes(prompt, "UpscaleModelLoader"):
        spec = info["UpscaleModelLoader"]["input"]["required"]["model_name"]
        prompt[node]["inputs"]["model_name"] = (spec[0] if isinstance(spec[0], list) else spec[1]["options"])[
            0
        ]
    result = client.run(prompt)
    print(
        f"{name}: {result.seconds:.1f} s; "
        f"{'; '.join(' '.join(text.split())[:100] for text in result.items('text'))}"
    )
    return result, before


def change(before: Image.Image, after: Image.Image) -> float:
    """Mean absolute difference of two pictures in 0..255, at the size of the first."""
    a, b = (numpy.asarray(picture.resize(before.size), numpy.float32) for picture in (before, after))
    return float(abs(a - b).mean())


def split(before: Image.Image, after: Image.Image, width: int = WIDTH) -> Image.Image:
    """One picture: the left half of `before`, the right half of `after`, and a white line between them."""
    size = (width, round(width * after.height / after.width))
    result = before.resize(size, Image.Resampling.BICUBIC)
    result.paste(after.resize(size, Image.Resampling.LANCZOS).crop((width // 2, 0, *size)), (width // 2, 0))
    ImageDraw.Draw(result).line((width // 2, 0, width // 2, size[1]), fill="white", width=LINE)
    return result


def thumbnail(client: ComfyClient, name: str, result: Result, before: list[Image.Image]) -> Image.Image:
    """The thumbnail of a workflow's run: a split picture, a row of them, or a sheet.

    For the masked workflow it is the whole result, whose right half is the input.
    """
    if name in SHEETS:
        return SHEETS[name](client, result, before)
    saved = [image for image in result.items("images") if image["type"] == "output"]
    after = [Image.open(io.BytesIO(client.view(image))).convert("RGB") for image in saved]
    if name == "restore_masked":
        return after[0].resize(
            (WIDTH, round(WIDTH * after[0].height / after[0].width)), Image.Resampling.LANCZOS
        )
    # A folder is loaded in the order of the file system, so each result is matched with the closest input.
    parts = [
        split(min(before, key=lambda picture: change(picture, made)), made, WIDTH // len(after))
        for made in after
    ]
    sheet = Image.new("RGB", (sum(part.width for part in parts), max(part.height for part in parts)), "black")
    for number, part in enumerate(parts):
        sheet.paste(part, (number * parts[0].width, 0))
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "names", nargs="*", default=list(INPUTS), metavar="NAME", help="workflows (default: all)"
    )
    parser.add_argument("--weights", type=Path, metavar="FOLDER", help="weights in place of the bundled ones")
    parser.add_argument("--upscaler", type=Path, metavar="FILE", help="an upscale model for restore_upscale")
    parser.add_argument(
        "--out",
        type=Path,
        default=ROOT / "workflows",
        metavar="FOLDER",
        help="where the thumbnails go (default: workflows/)",
    )
    parser.add_argument(
        "--finetuned",
        type=Path,
        metavar="FOLDER",
        help="what benchmarks/finetune.py --keep wrote: makes finetune.jpg of it",
    )
    options = parser.parse_args()
    if options.finetuned:
        before, after = (
            Image.open(options.finetuned / f"{FINETUNED}_{name}.png").convert("RGB")
            for name in ("scan", "finetuned")
        )
        split(before, after).save(options.out / "finetune.jpg", quality=88)
        return
    with tempfile.TemporaryDirectory() as temporary:
        models = Path(temporary)
        (models / "upscale_models").mkdir()
        if options.weights:
            (models / "aior").symlink_to(options.weights.resolve())
        if options.upscaler:
            shutil.copy(options.upscaler, models / "upscale_models")
        else:
            interpolating_upscaler(models / "upscale_models" / "interpolation_x2.safetensors")
        with Server(find_host(ROOT), models=models) as server:
            client = ComfyClient(server.port, server.alive)
            for name in options.names:
                options.out.mkdir(parents=True, exist_ok=True)
                thumbnail(client, name, *run(client, name)).save(options.out / f"{name}.jpg", quality=88)
                print(f"{options.out / name}.jpg")


if __name__ == "__main__":
    main()
