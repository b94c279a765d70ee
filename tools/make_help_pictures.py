"""Makes the pictures of the help pages: web/docs/NODE/LANGUAGE.webp shows the node in ComfyUI's front end.

    .host/venv/bin/python -m tools.make_help_pictures [NODE...]

Needs the package playwright, a Chromium (`front_end.py`), and fonts for the languages. Adds the line that
shows the picture to pages without it.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

from PIL import Image

from scripts.client import ComfyClient
from scripts.host import find_host
from scripts.server import Server

from .front_end import FrontEnd, front_end

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "web" / "docs"
LANGUAGES = ("en", "zh")
"""Languages of the help pages."""
SIZE, SCALE, MARGIN = (900, 1300), 1.5, 12
"""Size of the page in CSS pixels, device pixels per CSS pixel, and the margin around the node."""


def page_of(node: str, language: str) -> Path:
    """The help page of a node. English pages have no language in their names."""
    return PAGES / f"{node}.md" if language == "en" else PAGES / node / f"{language}.md"


def picture_of(node: str, language: str) -> Path:
    """The picture of a node with labels in that language."""
    return PAGES / node / f"{language}.webp"


def reference(node: str, language: str, title: str) -> str:
    """The Markdown line that shows the picture. Its path starts at web/docs, as the front end expects."""
    return f"![{title}]({picture_of(node, language).relative_to(PAGES).as_posix()})"


def draw(front: FrontEnd, node: str) -> Image.Image:
    """Take the picture of a node, alone on the canvas."""
    left, top, width, height = front.alone(node)
    clip = {"x": left - MARGIN, "y": top - MARGIN, "width": width + 2 * MARGIN, "height": height + 2 * MARGIN}
    return Image.open(io.BytesIO(front.page.screenshot(clip=clip))).convert("RGB")


def refer(node: str, language: str) -> None:
    """Add the picture below the page's title, unless the page shows it already."""
    page = page_of(node, language)
    title, rest = page.read_text(encoding="utf-8").split("\n", 1)
    line = reference(node, language, title.removeprefix("# "))
    if line not in rest:
        page.write_text(f"{title}\n\n{line}\n{rest}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "nodes",
        nargs="*",
        default=sorted(path.stem for path in PAGES.glob("*.md")),
        metavar="NODE",
        help="default: all",
    )
    chosen = parser.parse_args().nodes
    total = 0
    with Server(find_host(ROOT)) as server:
        client = ComfyClient(server.port, server.alive)
        for language in LANGUAGES:
            with front_end(client, SIZE, SCALE) as front:
                front.open(Comfy_Locale=language, Comfy_NodeBadge_NodeSourceBadgeMode="None")
                for node in chosen:
                    path = picture_of(node, language)
                    draw(front, node).save(path, lossless=True, method=6)
                    refer(node, language)
                    total += path.stat().st_size
                    print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB")
    print(f"{total / 1000:.0f} kB in all")


if __name__ == "__main__":
    main()
