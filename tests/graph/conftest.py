"""One real ComfyUI server for all graph tests of a run, and a client that speaks in arrays.

A graph test:

    def test_it(comfy, graph):
        name = comfy.upload_array(picture)                 # H W 3 or H W 4, float 0..1 or uint8
        loaded = graph.add("LoadImage", image=name)
        graph.add("SaveImage", images=loaded.out(0), filename_prefix="x")
        result = comfy.run(graph.prompt)
        picture, = comfy.pictures(result)                  # H W C float32 0..1

and for a wrong one `error = comfy.error(graph.prompt)`, a PromptError with `kind` and a text naming the node.
"""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import numpy
import pytest
from PIL import Image

from scripts.client import ComfyClient, PromptError, Result
from scripts.host import Host, find_host
from scripts.server import Server

ROOT = Path(__file__).resolve().parents[2]
HOST_NODES = Path(__file__).resolve().parent / "host_nodes"


class Node:
    """A node of a `Graph`; `out(slot)` is the link to one of its outputs."""

    def __init__(self, node_id: str):
        self.id = node_id

    def out(self, slot: int = 0) -> list:
        return [self.id, slot]


class Graph:
    """An API-format prompt in the making."""

    def __init__(self):
        self.prompt: dict[str, dict] = {}

    def add(self, class_type: str, **inputs: object) -> Node:
        """Add a node; inputs are values or links (`other.out(slot)`)."""
        node_id = str(len(self.prompt) + 1)
        self.prompt[node_id] = {"class_type": class_type, "inputs": inputs, "_meta": {"title": class_type}}
        return Node(node_id)


class ArrayClient(ComfyClient):
    """ComfyClient with pictures as arrays and saved latents as tensors; `server` is the process behind it."""

    def __init__(self, server: Server):
        super().__init__(server.port, server.alive)
        self.server = server
        self._numbers = itertools.count()

    def upload_array(self, picture: numpy.ndarray, name: str | None = None) -> str:
        """Upload an `H W 3` or `H W 4` picture, float 0..1 or uint8, as a PNG; returns LoadImage's value."""
        if picture.dtype != numpy.uint8:
            picture = numpy.rint(numpy.clip(picture, 0, 1) * 255).astype(numpy.uint8)
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "PNG", compress_level=1)
        return self.upload(buffer.getvalue(), name or f"picture_{next(self._numbers)}.png")

    def pictures(self, result: Result, node: Node | None = None) -> list[numpy.ndarray]:
        """The saved or previewed pictures of one output node, or of all: `H W C` float32 0..1."""
        images = (self.view(item) for item in result.items("images", node and node.id))
        return [numpy.asarray(Image.open(io.BytesIO(image)), numpy.float32) / 255 for image in images]

    def latents(self, result: Result, node: Node | None = None) -> list:
        """The tensors `B C h w` that SaveLatent nodes saved: exact, where a PNG is rounded to 8 bits."""
        from safetensors.torch import load_file

        folders = {"output": self.server.folder / "output", "temp": self.server.folder / "temp" / "temp"}
        items = result.items("latents", node and node.id)
        return [
            load_file(folders[item["type"]] / item["subfolder"] / item["filename"])["latent_tensor"]
            for item in items
        ]

    def error(self, prompt: dict) -> PromptError:
        """The error a prompt must end with; fails the test when it runs."""
        with pytest.raises(PromptError) as caught:
            result = self.run(prompt)
            if result.refused:
                raise PromptError("\n".join(result.refused), "refused")
        return caught.value


@pytest.fixture(scope="session")
def comfy_host(comfyui: Path) -> Host:
    """The ComfyUI under test."""
    return find_host(ROOT)


@pytest.fixture(scope="session")
def models_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The server's models folder, empty. Loaders find files that a test puts into it."""
    folder = tmp_path_factory.mktemp("models")
    for name in ("upscale_models", "checkpoints", "vae", "loras"):
        (folder / name).mkdir()
    return folder


@pytest.fixture(scope="module")
def weights(models_folder: Path) -> str:
    """A small random compact model in the server's models folder; its name in the loader."""
    from aior_pack.tests.tiny import save_tiny

    folder = models_folder / "aior"
    folder.mkdir(exist_ok=True)
    return save_tiny(folder).name


@pytest.fixture(scope="session")
def server(
    comfy_host: Host, models_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """The server of all tests: on the CPU, with its own folders, previews, and the nodes of `host_nodes`."""
    folder = tmp_path_factory.mktemp("comfyui")
    places = folder / "places.yaml"
    # JSON is YAML, and knows how to quote a path.
    places.write_text(json.dumps({"tests": {"custom_nodes": str(HOST_NODES)}}), encoding="utf-8")
    known = [comfy_host.pack_name, *(path.name for path in HOST_NODES.iterdir() if path.is_dir())]
    server = Server(
        comfy_host,
        device="cpu",
        folder=folder,
        models=models_folder,
        extra=(
            "--preview-method",
            "latent2rgb",
            "--extra-model-paths-config",
            str(places),
            "--whitelist-custom-nodes",
            *known,
        ),
    )
    with server:
        yield server


@pytest.fixture(scope="session")
def comfy(server: Server) -> Iterator[ArrayClient]:
    """A client of the one server."""
    client = ArrayClient(server)
    yield client
    client.close()


@pytest.fixture
def graph() -> Graph:
    """An empty prompt."""
    return Graph()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo):
    """Put the end of the server's log under a failed test that used it."""
    report = yield
    server = getattr(item, "funcargs", {}).get("server") or getattr(
        getattr(item, "funcargs", {}).get("comfy"), "server", None
    )
    if report.failed and server is not None:
        report.sections.append(("ComfyUI's log", server.log_tail(40)))
    return report
