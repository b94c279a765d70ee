"""Runs one workflow over pictures on a ComfyUI server of its own: in the restore command itself, or in each worker of a cluster."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .client import ComfyClient, Progress, PromptError, Result
from .graph import GraphError, find_nodes, override, sync_widgets, to_prompt
from .host import choose_device, find_host
from .server import Server, ServerError
from .steps import Say

# Option -> the names of the inputs it sets. A stock workflow calls its seed noise_seed.
OPTIONS = {"steps": ("steps",), "seed": ("seed", "noise_seed"), "fidelity": ("fidelity",), "tile": ("tile",), "ensemble": ("ensemble",)}

# Gets the prompt and the picture's name, gives what is told of the progress while the prompt runs, or None.
Watch = Callable[[dict, str], contextlib.AbstractContextManager[Callable[[Progress], None] | None]]


class WorkflowError(RuntimeError):
    """The workflow itself cannot be run: no picture would come out better than the first."""


@dataclass(frozen=True)
class Workflow:
    """A workflow file: where it is, its bytes, and the options that replace inputs of its nodes."""

    path: Path
    content: bytes
    options: dict

    @property
    def graph(self) -> dict:
        return json.loads(self.content)


def read_workflow(path: Path, options: dict) -> Workflow:
    """The workflow at `path` with `options` (names of OPTIONS). Raises WorkflowError for a file that is none."""
    try:
        workflow = Workflow(path, path.read_bytes(), options)
        graph = workflow.graph
    except OSError as error:
        raise WorkflowError(f"the workflow {path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise WorkflowError(f"the workflow {path} is no JSON: {error}") from None
    if not isinstance(graph, dict):
        raise WorkflowError(f"the workflow {path} is no ComfyUI workflow")
    return workflow


@dataclass(frozen=True)
class Outcome:
    """What came of one picture.

    `fate`: "done"; "failed", this picture cannot be restored; "died", the server ended, perhaps not because of this
    picture; "refused", no picture would do better. `images`: the PNG files of a done one. `text`: what the workflow
    found, or the reason in lines.
    """

    fate: str
    images: tuple[bytes, ...] = ()
    text: str = ""
    seconds: float = 0.0


class Engine:
    """One workflow on one server. The server starts with the first picture and is started anew when it died; stop it
    with `close`. `device` is "auto", "cpu" or "gpu"; `say` gets a line for everything that takes long."""

    def __init__(self, root: Path, workflow: Workflow, device: str, *, say: Say = print,
                 watch: Watch = lambda prompt, name: contextlib.nullcontext()):
        self.root, self.workflow, self.device, self.say, self.watch = root, workflow, device, say, watch
        self.host = self.server = self.client = self.prompt = None
        self.loader = ""

    def start(self) -> None:
        """Start the server if none runs. Raises SetupError, ServerError or WorkflowError."""
        if self.server and self.server.alive():
            return
        self.close()
        if self.host is None:
            self.host = find_host(self.root)
            self.device, sentence = choose_device(self.host, self.device)
            self.say(sentence)
        started = time.monotonic()
        self.server = Server(self.host, device=self.device)
        try:
            self.server.start()
        except ServerError as error:
            # Being slow, or killed for memory (-9), is no sign of damaged files, and a repair replaces what others may use.
            if not self.host.setup or error.code in (None, -9):
                raise
            self.say(f"The server did not start; checking the host's files.\n{error}")
            self.host.setup.repair()
            self.server = Server(self.host, device=self.device)
            self.server.start()
        self.say(f"ComfyUI started in {time.monotonic() - started:.1f} s")
        self.client = ComfyClient(self.server.port, self.server.alive)
        self._prepare()

    def attempt(self, name: str, key: str, data: bytes) -> Outcome:
        """Run the workflow on the picture file `data` called `name`; `key` tells it from others of that name.

        What is wrong with the picture, and the server's end, are outcomes. Raises as `start` does.
        """
        try:
            self.start()
            return self._run(name, key, data)
        except PromptError as error:
            # A refusal that does not name the picture's node is the workflow's own fault.
            refused = error.kind == "refused" and self.loader not in error.nodes
            damaged = error.kind == "failed" and self.loader in error.nodes
            return Outcome("refused" if refused else "failed",
                           text=f"The picture cannot be read: it is damaged, or no picture.\n{error}" if damaged else str(error))
        except ConnectionError as error:
            return Outcome("died", text=self._obituary() if self.server else str(error))
        except (OSError, ValueError) as error:
            return Outcome("failed", text=str(error) or type(error).__name__)

    def close(self) -> None:
        """Stop the server."""
        if self.client:
            self.client.close()
        if self.server:
            self.server.stop()
        self.client = self.server = None

    def _prepare(self) -> None:
        """The prompt of the workflow with the options in it. Raises WorkflowError."""
        path, info = self.workflow.path, self.client.object_info()
        try:
            prompt = to_prompt(self.workflow.graph, info)
        except GraphError as error:
            log = f"\nThe end of the server's log:\n{self.server.log_tail()}" if "does not have" in str(error) else ""
            raise WorkflowError(f"{path}: {error}{log}") from None
        for option, value in self.workflow.options.items():
            if not override(prompt, info, OPTIONS[option], value):
                raise WorkflowError(f"--{option} has no effect: no node of {path} has such an input")
        loaders = find_nodes(prompt, "LoadImage")
        if len(loaders) != 1:
            raise WorkflowError(f"{path} has {len(loaders)} LoadImage nodes; one is needed, for the picture to restore")
        self.loader, self.prompt = loaders[0], prompt

    def _run(self, name: str, key: str, data: bytes) -> Outcome:
        started = time.monotonic()
        prompt = json.loads(json.dumps(self.prompt))
        prompt[self.loader]["inputs"]["image"] = self.client.upload(data, name, subfolder=key[:16])
        workflow = sync_widgets(self.workflow.graph, prompt, self.client.object_info())
        with self.watch(prompt, name) as on_progress:
            result = self.client.run(prompt, workflow=workflow, on_progress=on_progress)
        images = self._pictures(result)
        # Of a report that goes on about every damage, what was found.
        texts = "; ".join(" ".join(str(text).strip().partition("\n")[0].split()) for text in result.items("text"))
        return Outcome("done", images, texts, time.monotonic() - started)

    def _pictures(self, result: Result) -> tuple[bytes, ...]:
        """The saved pictures of a run, or the previewed ones when nothing was saved."""
        images = result.items("images")
        chosen = [image for image in images if image["type"] == "output"] or images
        if not chosen:
            raise ValueError("\n".join(result.refused) or "the workflow ran but saved no picture")
        return tuple(self.client.view(image) for image in chosen)

    def _obituary(self) -> str:
        """Why the connection broke, and the end of the server's log; the server is stopped if it goes on."""
        code = self.server.death()
        end = "broke the connection" if code is None else f"died with code {code}"
        killed = " (killed: most likely out of memory; try --tile 512)" if code == -9 else ""
        text = f"ComfyUI {end}{killed}; it is started anew for the next picture.\n{self.server.log_tail(12)}"
        self.close()
        return text
