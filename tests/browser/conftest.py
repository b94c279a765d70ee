"""One live server with the bundled weights and one browser for the tests in the real front end: `python3
aior.py test --browser`.

What they saw lies in the folder of --screenshots afterwards, for a person to look at.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from aior_pack.tests.browser.inputs import provide, read, workflow_files

from scripts.client import ComfyClient
from scripts.host import find_host
from scripts.server import Server
from tools.front_end import START_NOISE, FrontEnd, front_end, missing

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def server(request, comfyui: Path, tmp_path_factory) -> Iterator[Server]:
    """A server on the CPU with folders of its own, previews, and every file that a workflow names."""
    if not request.config.getoption("--browser"):
        pytest.skip("opens a browser and takes ten minutes: python3 aior.py test --browser")
    if missing():
        pytest.skip(missing())
    folder, models = tmp_path_factory.mktemp("comfyui"), tmp_path_factory.mktemp("models")
    for path in workflow_files():
        # Before the page lists what there is to choose.
        provide(read(path), folder / "input", models)
    with Server(
        find_host(ROOT), device="cpu", folder=folder, models=models, extra=("--preview-method", "latent2rgb")
    ) as server:
        yield server


@pytest.fixture(scope="session")
def client(server: Server) -> Iterator[ComfyClient]:
    """A client of the one server."""
    client = ComfyClient(server.port, server.alive)
    yield client
    client.close()


@pytest.fixture(scope="module")
def opened(client: ComfyClient) -> Iterator[FrontEnd]:
    """The front end in English, open, without a problem of its own making."""
    with front_end(client) as front:
        front.open()
        assert front.taken(START_NOISE) == []
        yield front


@pytest.fixture
def front(opened: FrontEnd) -> FrontEnd:
    """The open front end, with the problems of other tests forgotten."""
    opened.taken()
    return opened


@pytest.fixture
def keep(request) -> Path:
    """The folder that screenshots go to."""
    return request.config.getoption("--screenshots")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo):
    """What the browser showed when a test failed, and the end of the server's log."""
    report = yield
    used = getattr(item, "funcargs", {})
    if report.when == "call" and report.failed and "front" in used:
        path = item.config.getoption("--screenshots") / f"failed_{item.name}.png"
        used["front"].screenshot(path)
        report.sections.append(("What the browser showed", str(path)))
    if report.failed and "server" in used:
        report.sections.append(("ComfyUI's log", used["server"].log_tail(40)))
    return report
