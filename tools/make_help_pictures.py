"""Draws the picture of every node for its help pages: web/docs/NODE/LANGUAGE.webp, as ComfyUI's real front end shows it in that language.

    .host/venv/bin/python -m tools.make_help_pictures [NODE...]

Needs the package playwright and a Chromium (`front_end.py`), and fonts with the languages' letters. Pages that do not show their picture yet
get the line that does.
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
"""Those that the help pages are written in."""
SIZE, SCALE, MARGIN = (900, 1300), 1.5, 12
"""Of the page in CSS pixels, device pixels in each, and CSS pixels around the node."""


def page_of(node: str, language: str) -> Path:
    """The help page of a node; English pages have no language in their name."""
    return PAGES / f"{node}.md" if language == "en" else PAGES / node / f"{language}.md"


def picture_of(node: str, language: str) -> Path:
    """The picture of a node with its labels in that language."""
    return PAGES / node / f"{language}.webp"


def reference(node: str, language: str, title: str) -> str:
    """The line of Markdown that shows the picture. The front end takes paths from web/docs on, in pages of its folders too."""
    return f"![{title}]({picture_of(node, language).relative_to(PAGES).as_posix()})"


def draw(front: FrontEnd, node: str) -> Image.Image:
    """The node alone on the canvas."""
    left, top, width, height = front.alone(node)
    clip = {"x": left - MARGIN, "y": top - MARGIN, "width": width + 2 * MARGIN, "height": height + 2 * MARGIN}
    return Image.open(io.BytesIO(front.page.screenshot(clip=clip))).convert("RGB")


def refer(node: str, language: str) -> None:
    """Put the picture under the page's title, where the page does not show it yet."""
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
