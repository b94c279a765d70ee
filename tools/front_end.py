"""Controls ComfyUI's front end in a headless Chromium: opens it, drops workflows, presses Run, reads its
nodes.

tests/browser/ and `make_help_pictures` use it. It needs the package playwright and an installed Chromium or
Chrome.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.client import ComfyClient

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "C:/Program Files/Google/Chrome/Application/chrome.exe",
    "C:/Program Files (x86)/Microsoft/Edge/Application/msedge.exe",
)
# The sandbox does not start for root, the user in many containers. The page is trusted, so it can go without.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SETTINGS = {
    # Otherwise a new profile opens a dialog of templates.
    "Comfy.TutorialCompleted": True,
    "Comfy.Minimap.Visible": False,
    "Comfy.Graph.CanvasInfo": False,
    "Comfy.RightSidePanel.IsOpen": False,
    "Comfy.VueNodes.Enabled": False,
    "Comfy.Locale": "en",
    # Draw titles and widgets at every zoom level.
    "LiteGraph.Canvas.MinFontSizeForLOD": 0,
}
START_NOISE = re.compile(
    # The front end asks for these pages, files and templates whether they exist or not. The set-up leaves out
    # templates.
    r"status of 404 .*(/user\.css|/api/userdata|/templates/)|Error loading (core workflow "
    r"templates|fuse options)"
    # At its start it draws a graph that does not exist yet, and asks for the models of its first workflow.
    r"|ComfyApp graph accessed before initialization|huggingface\.co"
)
"""Messages of the front end while it starts, whatever packs are installed."""
HELP_NOISE = re.compile(r"status of 404 .*/docs/\w+/\w+\.md")
"""The front end asks for the help page in the user's language first, then for the page without a language."""
PATIENCE = 60_000

_DROP = """([name, text]) => {
    const transfer = new DataTransfer()
    transfer.items.add(new File([text], name, {type: 'application/json'}))
    const canvas = document.getElementById('graph-canvas'), box = canvas.getBoundingClientRect()
    const how = {
        bubbles: true, cancelable: true, dataTransfer: transfer,
        clientX: box.x + box.width / 2, clientY: box.y + box.height - 5,
    }
    for (const kind of ['dragenter', 'dragover', 'drop']) canvas.dispatchEvent(new DragEvent(kind, how))
}"""
_WATCH = """() => {
    window.aiorEnds = []
    for (const kind of ['execution_success', 'execution_error', 'execution_interrupted'])
        app.api.addEventListener(kind, event => aiorEnds.push([kind, event.detail?.exception_message ?? '']))
}"""

_STILL = """() => {
    const view = JSON.stringify([app.canvas.ds.scale, ...app.canvas.ds.offset])
    const still = window.aiorView === view
    window.aiorView = view
    return still
}"""
_ALONE = """kind => {
    const node = LiteGraph.createNode(kind), canvas = app.canvas, title = LiteGraph.NODE_TITLE_HEIGHT
    node.pos = [0, 0]
    app.graph.add(node)
    node.setSize([Math.max(node.size[0], 320), node.computeSize()[1]])
    canvas.ds.scale = 1
    canvas.ds.offset = [300, 200]
    canvas.setDirty(true, true)
    const page = canvas.canvas.getBoundingClientRect()
    return [page.x + 300, page.y + 200 - title, node.size[0], node.size[1] + title]
}"""


class FrontEndError(RuntimeError):
    """There is no browser, or the front end did not do what was asked."""


def find_chromium() -> Path | None:
    """The browser that AIOR_CHROMIUM names, or an installed Chromium, Chrome or Edge; None without one."""
    named = os.environ.get("AIOR_CHROMIUM")
    found = (Path(name) for name in (named, *(shutil.which(name) for name in BROWSERS), *PLACES) if name)
    return next((path for path in found if path.is_file()), None)


def missing() -> str:
    """What to install before the browser can start, as a sentence; empty when nothing is missing."""
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        return f"the package playwright is missing: {sys.executable} -m pip install playwright"
    if find_chromium() is None:
        return (
            "no Chromium, Chrome or Edge was found: install one (on Debian and Ubuntu: apt "
            "install chromium), or name it in AIOR_CHROMIUM"
        )
    return ""


class FrontEnd:
    """The front end of a server on a page. `problems` are the errors of the page and of its console."""

    def __init__(self, page, client: ComfyClient):
        self.page, self.client = page, client
        self.problems: list[str] = []
        self.refused: list[str] = []
        page.on("pageerror", lambda error: self.problems.append(f"page error: {error}"))
        page.on(
            "console",
            lambda message: (
                message.type == "error"
                and self.problems.append(f"{message.text} {message.location.get('url', '')}")
            ),
        )
        page.route("**/*", self._route)

    def _route(self, route) -> None:
        address = route.request.url
        if address.startswith((f"http://127.0.0.1:{self.client.port}/", "data:", "blob:")):
            route.continue_()
        else:
            self.refused.append(address)
            route.abort()

    def open(self, **settings: object) -> None:
        """Load the page with `settings` (`_` for the dots in names). Returns when it accepts a workflow."""
        chosen = {name.replace("_", "."): value for name, value in settings.items()}
        self.client.request("/settings", SETTINGS | chosen)
        self.page.goto(f"http://127.0.0.1:{self.client.port}", wait_until="commit", timeout=2 * PATIENCE)
        self.page.get_by_test_id("queue-button").wait_for(timeout=2 * PATIENCE)
        self.page.wait_for_function(
            "app.canvas?.graph && Object.keys(LiteGraph.registered_node_types).length > 300", timeout=PATIENCE
        )
        self.page.wait_for_load_state("networkidle")
        self.page.evaluate(_WATCH)

    def taken(self, noise: re.Pattern | None = None) -> list[str]:
        """Return the problems so far, without those that match `noise`, and forget them."""
        found = [problem for problem in self.problems if not (noise and noise.search(problem))]
        self.problems.clear()
        return found

    def drop(self, path: Path) -> None:
        """Drop a workflow's file on the canvas and wait for its nodes. Raises playwright's TimeoutError."""
        tabs = self.page.evaluate("app.extensionManager.workflow.openWorkflows.length")
        self.page.evaluate(_DROP, [path.name, path.read_text(encoding="utf-8")])
        self.page.wait_for_function(
            "n => app.extensionManager.workflow.openWorkflows.length > n && "
            "app.graph._nodes.length && !document.querySelector('.p-blockui-mask')",
            arg=tabs,
            timeout=PATIENCE,
        )
        self.settle()

    def settle(self) -> None:
        """Wait until the front end has drawn the last change and made its requests."""
        self.page.wait_for_load_state("networkidle")
        self.page.wait_for_timeout(500)

    def command(self, name: str) -> None:
        """Run the command of the front end with this id."""
        self.page.evaluate("name => app.extensionManager.command.execute(name)", name)

    def set(self, name: str, value: object) -> None:
        """Change a setting, as the settings dialog does."""
        self.page.evaluate("([name, value]) => app.extensionManager.setting.set(name, value)", [name, value])
        self.settle()

    def fit(self) -> None:
        """Zoom to the whole graph."""
        dismiss = self.page.get_by_test_id("error-overlay-dismiss")
        if dismiss.is_visible():
            dismiss.click()
        self.page.evaluate("app.canvas.deselectAll()")
        self.command("Comfy.Canvas.FitView")
        # The view moves there gradually, and the elements over the canvas follow.
        self.page.wait_for_timeout(500)
        self.page.wait_for_function(_STILL, polling=300, timeout=PATIENCE)
        self.page.wait_for_timeout(200)

    def empty(self) -> None:
        """Clear the canvas."""
        self.page.evaluate("app.graph.clear()")

    def alone(self, kind: str) -> tuple[float, float, float, float]:
        """Show one node of the class `kind` and nothing else, unzoomed and not selected.

        Returns left, top, width and height of its body on the page, without title and badge.
        """
        self.empty()
        box = self.page.evaluate(_ALONE, kind)
        self.settle()
        return tuple(box)

    def help(self) -> tuple[str, list[tuple[str, int, int]]]:
        """Open the only node's help. Returns its text, and address, width and height of its pictures."""
        self.page.evaluate("app.canvas.selectNode(app.graph._nodes[0])")
        content = self.page.locator(".node-help-content")
        if not content.is_visible():
            self.page.get_by_test_id("info-button").click()
        content.wait_for()
        self.settle()
        return content.inner_text(), [
            tuple(row)
            for row in content.locator("img").evaluate_all(
                "pictures => pictures.map(one => [one.src, one.naturalWidth, one.naturalHeight])"
            )
        ]

    def search(self, words: str, picture: Path | None = None, take: str = "") -> list[str]:
        """Type into the search for nodes. Returns the texts of the results, best first.

        With `take`, the first result that begins with it is added to the canvas.
        """
        self.command("Workspace.SearchBox.Toggle")
        results = self.page.get_by_test_id("result-item")
        self.page.locator("#results-list").wait_for()
        self.page.keyboard.type(words)
        # The search starts a moment after the last key.
        self.page.wait_for_timeout(800)
        found = results.all_inner_texts()
        if picture:
            self.screenshot(picture)
        if take:
            results.nth(next(place for place, text in enumerate(found) if text.startswith(take))).click()
            self.settle()
            # A click places the node, which follows the mouse.
            self.page.mouse.click(600, 400)
        else:
            self.page.keyboard.press("Escape")
        self.page.locator("#results-list").wait_for(state="hidden")
        return found

    def run(self, seconds: float) -> None:
        """Press Run and wait for the end.

        Raises FrontEndError with the server's message when the run fails, playwright's TimeoutError when it
        takes too long.
        """
        self.page.evaluate("aiorEnds.length = 0")
        self.page.get_by_test_id("queue-button").click()
        self.page.wait_for_function("aiorEnds.length", timeout=1000 * seconds)
        end, message = self.page.evaluate("aiorEnds[0]")
        if end != "execution_success":
            raise FrontEndError(f"{end}: {message}")
        self.settle()

    def screenshot(self, path: Path) -> None:
        """Save the page as a PNG at `path`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=path)


@contextmanager
def front_end(
    client: ComfyClient, size: tuple[int, int] = (2400, 1200), scale: float = 1.0
) -> Iterator[FrontEnd]:
    """Start a browser with a page for the server of `client`. The page is not loaded yet.

    The page has `size` CSS pixels of `scale` device pixels each. Raises FrontEndError without a browser.
    """
    lack = missing()
    if lack:
        raise FrontEndError(lack)
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile, sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            profile,
            executable_path=find_chromium(),
            headless=True,
            args=list(FLAGS),
            device_scale_factor=scale,
            viewport={"width": size[0], "height": size[1]},
        )
        context.set_default_timeout(PATIENCE)
        try:
            yield FrontEnd(context.pages[0], client)
        finally:
            context.close()
