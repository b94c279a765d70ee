"""Makes the pictures of the README, docs/*.jpg: damaged, restored and undamaged side by side.

    .host/venv/bin/python -m tools.make_readme_pictures [--restored FOLDER]

Needs Pillow and numpy. Without --restored it restores tests/pictures/ with `aior.py restore`, as a reader
would.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy
from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).resolve().parents[1]
PICTURES, CLEAN, DOCS = ROOT / "tests" / "pictures", ROOT / "tests" / "clean", ROOT / "docs"
PANEL, GAP, BAR = 420, 6, 34
PAPER, INK = (255, 255, 255), (40, 40, 40)


@dataclass(frozen=True)
class Strip:
    """A damaged picture, its undamaged source, and the damage in words."""

    name: str
    clean: str
    damage: str


STRIPS = (
    Strip("astronaut_noise", "astronaut", "noise, sigma 25"),
    Strip("cat_blur_noise", "chelsea", "blur and noise"),
    Strip("coffee_low_light", "coffee", "three stops too dark"),
    Strip("dahlia_rain", "flower", "rain"),
    Strip("pavilion_haze", "china", "haze"),
    Strip("pavilion_snow", "china", "snow"),
    Strip("rocket_jpeg", "rocket", "JPEG, quality 12"),
)


def psnr(picture: Image.Image, truth: Image.Image) -> float:
    """PSNR in dB of two RGB pictures of one size."""
    a, b = (numpy.asarray(image, numpy.float64) for image in (picture, truth))
    return float(10 * numpy.log10(255**2 / max(((a - b) ** 2).mean(), 1e-9)))


def find(folder: Path, stem: str) -> Path:
    """The picture called `stem` in `folder`. Raises FileNotFoundError."""
    path = next((path for path in sorted(folder.iterdir()) if path.stem == stem), None)
    if path is None:
        raise FileNotFoundError(f"{stem} is not in {folder}")
    return path


def strip(entry: Strip, restored_folder: Path) -> tuple[Image.Image, float, float]:
    """The strip of one picture, and its PSNR in dB before and after the restoration."""
    paths = (
        find(PICTURES, entry.name),
        find(restored_folder, f"{entry.name}_restored"),
        find(CLEAN, entry.clean),
    )
    damaged, restored, clean = (Image.open(path).convert("RGB") for path in paths)
    before, after = psnr(damaged, clean), psnr(restored, clean)
    labels = (f"{entry.damage}: {before:.1f} dB", f"restored: {after:.1f} dB", "before the damage")
    height = round(PANEL * clean.height / clean.width)
    sheet = Image.new("RGB", (3 * PANEL + 2 * GAP, height + BAR), PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(18)
    for number, (picture, label) in enumerate(zip((damaged, restored, clean), labels)):
        left = number * (PANEL + GAP)
        sheet.paste(picture.resize((PANEL, height), Image.Resampling.LANCZOS), (left, BAR))
        pen.text((left + PANEL / 2, BAR / 2), label, INK, font, anchor="mm")
    return sheet, before, after


def detail(entry: Strip, restored_folder: Path, box: tuple[int, int, int, int]) -> Image.Image:
    """A detail of a damaged picture and of its result side by side, enlarged three times."""
    parts = [
        Image.open(find(folder, stem)).convert("RGB").crop(box)
        for folder, stem in ((PICTURES, entry.name), (restored_folder, f"{entry.name}_restored"))
    ]
    width, height = 3 * parts[0].width, 3 * parts[0].height
    sheet = Image.new("RGB", (2 * width + GAP, height), PAPER)
    for number, part in enumerate(parts):
        sheet.paste(part.resize((width, height), Image.Resampling.NEAREST), (number * (width + GAP), 0))
    return sheet


def make(restored_folder: Path) -> None:
    """Write all strips and the detail into docs/."""
    DOCS.mkdir(exist_ok=True)
    for entry in STRIPS:
        sheet, before, after = strip(entry, restored_folder)
        sheet.save(DOCS / f"{entry.name}.jpg", quality=88)
        print(f"docs/{entry.name}.jpg: {before:.2f} dB -> {after:.2f} dB")
    detail(STRIPS[0], restored_folder, (170, 40, 330, 140)).save(DOCS / "detail.jpg", quality=90)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--restored",
        type=Path,
        metavar="FOLDER",
        help="results of `aior.py restore tests/pictures/ -o FOLDER`",
    )
    restored = parser.parse_args().restored
    if restored:
        make(restored)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        code = subprocess.run(
            [sys.executable, ROOT / "aior.py", "restore", PICTURES, "-o", folder]
        ).returncode
        if code == 0:
            make(Path(folder))
    return code


if __name__ == "__main__":
    sys.exit(main())
