"""ComfyUI's real front end in a headless Chromium: open it, drop workflows on it, press Run, look at its nodes.

For tests/browser/ and for `make_help_pictures`. Needs the package playwright and a Chromium or Chrome that is installed.
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
# Without a sandbox, which does not start for root, as whom containers run: the page is ours.
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
    # Otherwise a dialog of templates opens over an empty profile.
    "Comfy.TutorialCompleted": True,
    "Comfy.Minimap.Visible": False,
    "Comfy.Graph.CanvasInfo": False,
    "Comfy.RightSidePanel.IsOpen": False,
    "Comfy.VueNodes.Enabled": False,
    "Comfy.Locale": "en",
    # Titles and widgets are drawn however far one is away.
    "LiteGraph.Canvas.MinFontSizeForLOD": 0,
}
START_NOISE = re.compile(
    # Pages, files and templates that are asked for whether they are there or not; the last is left out of our host.
    r"status of 404 .*(/user\.css|/api/userdata|/templates/)|Error loading (core workflow templates|fuse options)"
    # The front end's own start: its picture of a graph that is not there yet, and the models of the workflow that it opens with.
    r"|ComfyApp graph accessed before initialization|huggingface\.co"
)
"""What the front end says by itself while it starts with this host, whatever packs there are."""
HELP_NOISE = re.compile(r"status of 404 .*/docs/\w+/\w+\.md")
"""The page of a language is asked for first, then the one without: English pages have no language."""
PATIENCE = 60_000

_DROP = """([name, text]) => {
    const transfer = new DataTransfer()
    transfer.items.add(new File([text], name, {type: 'application/json'}))
    const canvas = document.getElementById('graph-canvas'), box = canvas.getBoundingClientRect()
    const how = {bubbles: true, cancelable: true, dataTransfer: transfer, clientX: box.x + box.width / 2, clientY: box.y + box.height - 5}
    for (const kind of ['dragenter', 'dragover', 'drop']) canvas.dispatchEvent(new DragEvent(kind, how))
}"""
_WATCH = """() => {
    window.aiorEnds = []
    for (const kind of ['execution_success', 'execution_error', 'execution_interrupted'])
        app.api.addEventListener(kind, event => aiorEnds.push([kind, event.detail?.exception_message ?? '']))
}"""

_STILL = """() => {
    const view = JSON.stringify([app.canvas.ds.scale, ...app.canvas.ds.offset]), still = window.aiorView === view
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
    """No browser, or the front end did not do what a person would see it do."""


def find_chromium() -> Path | None:
    """The browser: what AIOR_CHROMIUM names, or a Chromium, Chrome or Edge that is installed; None where there is none."""
    named = os.environ.get("AIOR_CHROMIUM")
    found = (Path(name) for name in (named, *(shutil.which(name) for name in BROWSERS), *PLACES) if name)
    return next((path for path in found if path.is_file()), None)


def missing() -> str:
    """What a person has to install before the browser can be started, as a sentence; empty where all is there."""
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        return f"the package playwright is missing: {sys.executable} -m pip install playwright"
    if find_chromium() is None:
        return "no Chromium, Chrome or Edge was found: install one (on Debian and Ubuntu: apt install chromium), or name it in AIOR_CHROMIUM"
    return ""


class FrontEnd:
    """The front end of a server, open on a page. `problems` are page errors and errors of the console since they were last `taken`."""

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
        """Load the page, with `settings` by their names with _ for the dots; returns when a workflow can be dropped on it."""
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
        """The problems so far without those that `noise` matches; there are none after it."""
        found = [problem for problem in self.problems if not (noise and noise.search(problem))]
        self.problems.clear()
        return found

    def drop(self, path: Path) -> None:
        """Drop a workflow's file on the canvas, and wait until its nodes are there. Raises playwright's TimeoutError."""
        tabs = self.page.evaluate("app.extensionManager.workflow.openWorkflows.length")
        self.page.evaluate(_DROP, [path.name, path.read_text(encoding="utf-8")])
        self.page.wait_for_function(
            "n => app.extensionManager.workflow.openWorkflows.length > n && app.graph._nodes.length && !document.querySelector('.p-blockui-mask')",
            arg=tabs,
            timeout=PATIENCE,
        )
        self.settle()

    def settle(self) -> None:
        """Wait until what was changed is drawn and asked for."""
        self.page.wait_for_load_state("networkidle")
        self.page.wait_for_timeout(500)

    def command(self, name: str) -> None:
        """Run one of the front end's commands, by its id."""
        self.page.evaluate("name => app.extensionManager.command.execute(name)", name)

    def set(self, name: str, value: object) -> None:
        """Change a setting, as in the settings' dialog."""
        self.page.evaluate("([name, value]) => app.extensionManager.setting.set(name, value)", [name, value])
        self.settle()

    def fit(self) -> None:
        """Show the whole graph."""
        dismiss = self.page.get_by_test_id("error-overlay-dismiss")
        if dismiss.is_visible():
            dismiss.click()
        self.page.evaluate("app.canvas.deselectAll()")
        self.command("Comfy.Canvas.FitView")
        # The view glides there, and what lies over the canvas follows.
        self.page.wait_for_timeout(500)
        self.page.wait_for_function(_STILL, polling=300, timeout=PATIENCE)
        self.page.wait_for_timeout(200)

    def empty(self) -> None:
        """Take everything off the canvas."""
        self.page.evaluate("app.graph.clear()")

    def alone(self, kind: str) -> tuple[float, float, float, float]:
        """Put one node of that class, and nothing else, on the canvas at its own scale, selected by nobody; returns its left, top, width and
        height on the page, title and source badge left out."""
        self.empty()
        box = self.page.evaluate(_ALONE, kind)
        self.settle()
        return tuple(box)

    def help(self) -> tuple[str, list[tuple[str, int, int]]]:
        """Select the only node, and open its help: the text, and (address, width, height) of the pictures as loaded."""
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
        """Type into the search for nodes; returns what each of the results says, best first. With `take` the first that begins so is put
        on the canvas."""
        self.command("Workspace.SearchBox.Toggle")
        results = self.page.get_by_test_id("result-item")
        self.page.locator("#results-list").wait_for()
        self.page.keyboard.type(words)
        # It searches a moment after the last key.
        self.page.wait_for_timeout(800)
        found = results.all_inner_texts()
        if picture:
            self.screenshot(picture)
        if take:
            results.nth(next(place for place, text in enumerate(found) if text.startswith(take))).click()
            self.settle()
            # The node hangs on the mouse until it is clicked.
            self.page.mouse.click(600, 400)
        else:
            self.page.keyboard.press("Escape")
        self.page.locator("#results-list").wait_for(state="hidden")
        return found

    def run(self, seconds: float) -> None:
        """Press Run and wait for the end. Raises FrontEndError with the server's words when it is no success, playwright's TimeoutError."""
        self.page.evaluate("aiorEnds.length = 0")
        self.page.get_by_test_id("queue-button").click()
        self.page.wait_for_function("aiorEnds.length", timeout=1000 * seconds)
        end, message = self.page.evaluate("aiorEnds[0]")
        if end != "execution_success":
            raise FrontEndError(f"{end}: {message}")
        self.settle()

    def screenshot(self, path: Path) -> None:
        """A PNG of the page at `path`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=path)


@contextmanager
def front_end(
    client: ComfyClient, size: tuple[int, int] = (2400, 1200), scale: float = 1.0
) -> Iterator[FrontEnd]:
    """A browser of its own, `size` CSS pixels of `scale` device pixels each, with a page for the server of `client`, not opened yet.

    Raises FrontEndError where the browser is missing.
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
