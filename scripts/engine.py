"""Runs one workflow on pictures, on a ComfyUI server of its own.

The restore command has one engine. On a Ray cluster each worker has one.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .client import ComfyClient, Progress, PromptError, Result
from .graph import GraphError, find_nodes, is_api_format, override, sync_widgets, to_prompt
from .host import Host, choose_device, find_host
from .pictures import explain
from .server import Server, ServerError
from .steps import Say

# Stock workflows call the seed noise_seed.
INPUTS = {
    "steps": ("steps",),
    "seed": ("seed", "noise_seed"),
    "fidelity": ("fidelity",),
    "tile": ("tile",),
    "ensemble": ("ensemble",),
}
"""The names of the node inputs that each option sets."""

FILE_OPTIONS = ("format", "quality", "bits", "metadata")
"""Options of the result files. They set no node input."""

OPTIONS = (*INPUTS, *FILE_OPTIONS)
DEFAULT_QUALITY = 95

Watch = Callable[[dict, str], contextlib.AbstractContextManager[Callable[[Progress], None] | None]]
"""Takes the prompt and the picture's name. Yields the function that receives the progress, or None."""


class WorkflowError(RuntimeError):
    """The workflow or its options cannot run. It would fail for every other picture too."""


@dataclass(frozen=True)
class Workflow:
    """A workflow file: its path, its bytes, and the options (names in OPTIONS) that are not the defaults."""

    path: Path
    content: bytes
    options: dict

    @property
    def graph(self) -> dict:
        return json.loads(self.content)


def read_workflow(path: Path, options: dict) -> Workflow:
    """The workflow at `path` with `options` (names in OPTIONS). Raises WorkflowError for any other file."""
    try:
        workflow = Workflow(path, path.read_bytes(), options)
        graph = workflow.graph
    except OSError as error:
        raise WorkflowError(f"the workflow {path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise WorkflowError(f"the workflow {path} is no JSON: {error}") from None
    if not isinstance(graph, dict):
        raise WorkflowError(f"the workflow {path} is no ComfyUI workflow: it holds no JSON object")
    return workflow


@dataclass(frozen=True)
class Outcome:
    """The outcome of one picture.

    `fate` is "done"; "failed", when this picture cannot be restored; "died", when the server ended, perhaps
    for another reason than this picture; or "refused", when the server refuses the workflow, and would for
    every picture. `images` are the result files of a picture that is done. `text` is what the workflow found,
    or the reason in lines.
    """

    fate: str
    images: tuple[bytes, ...] = ()
    text: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class _Session:
    """A running server, its client, and the prompt, with the ids of the nodes that load and save pictures."""

    server: Server
    client: ComfyClient
    prompt: dict
    loader: str
    savers: list[str]


class Engine:
    """One workflow on one server.

    The server starts with the first picture, and again after it died. `close` stops it. `device` is "auto",
    "cpu" or "gpu". `say` receives a line about everything that takes long.
    """

    def __init__(
        self,
        root: Path,
        workflow: Workflow,
        device: str,
        *,
        say: Say = print,
        watch: Watch = lambda prompt, name: contextlib.nullcontext(),
    ):
        self.root, self.workflow, self.device, self.say, self.watch = root, workflow, device, say, watch
        self.host: Host | None = None
        self._server: Server | None = None
        self._session: _Session | None = None

    def start(self) -> None:
        """Start the server if none is running. Raises SetupError, ServerError or WorkflowError."""
        self._running()

    def attempt(self, name: str, key: str, data: bytes) -> Outcome:
        """Run the workflow on the picture file `data` called `name`. `key` tells it from others of that name.

        A bad picture and the end of the server are outcomes. Raises as `start` does.
        """
        session = None
        try:
            session = self._running()
            return self._run(session, name, key, data)
        except PromptError as error:
            if session is None or (error.kind == "refused" and session.loader not in error.nodes):
                return Outcome("refused", text=str(error))
            return Outcome("failed", text=self._without_node_names(session, error))
        except ConnectionError as error:
            return Outcome("died", text=self._report_death() or str(error))
        except (OSError, ValueError) as error:
            return Outcome("failed", text=explain(error))

    def close(self) -> None:
        """Stop the server. Calling it twice is harmless."""
        if self._session:
            self._session.client.close()
        if self._server:
            self._server.stop()
        self._server = self._session = None

    def _running(self) -> _Session:
        """The session; started when there is none, or when its server has ended."""
        if self._session and self._session.server.alive():
            return self._session
        self.close()
        if self.host is None:
            self.host = find_host(self.root)
            self.device, sentence = choose_device(self.host, self.device)
            self.say(sentence)
        started = time.monotonic()
        server = self._start_server(self.host)
        self.say(f"ComfyUI started in {time.monotonic() - started:.1f} s")
        self._session = self._prepare(server, ComfyClient(server.port, server.alive))
        return self._session

    def _start_server(self, host: Host) -> Server:
        """Start the server. When one in `.host/` ends while it starts, repair its files and try once more."""
        self._server = server = Server(host, device=self.device, command=True)
        try:
            return server.start()
        except ServerError as error:
            # A slow start, or a kill (-9, often for memory), is no sign of damaged files. A repair replaces
            # files that other servers may be using.
            if not host.setup or error.code in (None, -9):
                raise
            self.say(f"The server did not start. Checking ComfyUI's files.\n{error}")
            host.setup.repair()
            self._server = server = Server(host, device=self.device, command=True)
            return server.start()

    @staticmethod
    def _without_node_names(session: _Session, error: PromptError) -> str:
        """The message of a failed node. Its name is left out: users of the command line see no nodes."""
        text = error.message
        for node in error.nodes:
            kind = session.prompt.get(node, {}).get("class_type", "")
            name = session.client.object_info().get(kind, {}).get("display_name") or kind
            text = text.removeprefix(f"{name}: ")
        return text[:1].upper() + text[1:]

    def _prepare(self, server: Server, client: ComfyClient) -> _Session:
        """The session with the workflow's prompt, in which the options are set. Raises WorkflowError."""
        path, info = self.workflow.path, client.object_info()
        try:
            prompt = to_prompt(self.workflow.graph, info)
        except GraphError as error:
            missing = "does not have" in str(error)
            log = f"\nThe end of the server's log:\n{server.log_tail()}" if missing else ""
            raise WorkflowError(f"{path}: {error}{log}") from None
        for option, value in self.workflow.options.items():
            if option in INPUTS and not override(prompt, info, INPUTS[option], value):
                raise WorkflowError(f"--{option} has no effect: no node of {path} has such an input")
        loaders = find_nodes(prompt, "LoadImage")
        if len(loaders) != 1:
            raise WorkflowError(
                f"{path} has {len(loaders)} LoadImage nodes; it needs exactly one, for the picture to restore"
            )
        savers = find_nodes(prompt, "SaveImage") or find_nodes(prompt, "PreviewImage")
        useless = [option for option in FILE_OPTIONS if option in self.workflow.options and not savers]
        if useless:
            raise WorkflowError(f"--{useless[0]} has no effect: no node of {path} saves a picture")
        return _Session(server, client, prompt, loaders[0], savers)

    def _run(self, session: _Session, name: str, key: str, data: bytes) -> Outcome:
        started = time.monotonic()
        file = session.server.folder / "input" / f"{key[:32]}.picture"
        file.write_bytes(data)
        try:
            prompt = self._prompt_for(session, name, file.name)
            with self.watch(session.prompt, name) as on_progress:
                result = session.client.run(prompt, on_progress=on_progress)
            images = self._pictures(session, result)
        finally:
            file.unlink(missing_ok=True)
        # The report has a line for each damage. Its first line sums them up.
        found = [" ".join(str(text).strip().partition("\n")[0].split()) for text in result.items("text")]
        remarks = dict.fromkeys(str(remark) for remark in result.items("aior_remarks"))
        return Outcome("done", images, "; ".join([*found, *remarks]), time.monotonic() - started)

    def _prompt_for(self, session: _Session, name: str, file: str) -> dict:
        """The prompt for one picture, with the command's own nodes in place of Load Image and Save Image.

        These nodes read files that ComfyUI's read wrongly, and write formats that ComfyUI's cannot write. The
        result files hold the workflow with ComfyUI's nodes and the picture's name.
        """
        info, options, graph = session.client.object_info(), self.workflow.options, self.workflow.graph
        prompt = json.loads(json.dumps(session.prompt))
        prompt[session.loader]["inputs"]["image"] = os.fsencode(name).decode("utf-8", "replace")
        settings = {
            "format": options.get("format", "png"),
            "quality": options.get("quality", DEFAULT_QUALITY),
            "bits": options.get("bits"),
            "metadata": options.get("metadata") != "drop",
            "grey": bool(find_nodes(prompt, "AIOR_DecodeDAEM")),
            "prompt": prompt,
            "workflow": None if is_api_format(graph) else sync_widgets(graph, prompt, info),
        }
        settings_text = json.dumps(settings)
        changed = dict(prompt)
        changed[session.loader] = {
            **prompt[session.loader],
            "class_type": "AIOR_ReadPicture",
            "inputs": {"file": file, "format": settings["format"]},
        }
        for saver in session.savers:
            inputs = {
                "images": prompt[saver]["inputs"].get("images"),
                "source": [session.loader, 2],
                "settings": settings_text,
            }
            changed[saver] = {**prompt[saver], "class_type": "AIOR_WritePicture", "inputs": inputs}
        return changed

    @staticmethod
    def _pictures(session: _Session, result: Result) -> tuple[bytes, ...]:
        """The saved pictures of a run, or the previewed ones when nothing was saved."""
        images = result.items("images")
        chosen = [image for image in images if image["type"] == "output"] or images
        if not chosen and result.refused:
            raise PromptError("\n".join(result.refused), "refused")
        if not chosen:
            raise ValueError("the workflow ran but saved no picture")
        data = tuple(session.client.view(image) for image in chosen)
        for image in chosen:
            # The server's folder belongs to this command. Without this, a long run would fill it.
            path = session.server.folder / image["type"] / image["subfolder"] / image["filename"]
            path.unlink(missing_ok=True)
        return data

    def _report_death(self) -> str:
        """Stop the server. Returns why it broke the connection and the end of its log, empty without one."""
        server = self._server
        if server is None:
            return ""
        code = server.death()
        end = "broke the connection" if code is None else f"died with code {code}"
        killed = " (killed, most likely for lack of memory; try --tile 512)" if code == -9 else ""
        text = f"ComfyUI {end}{killed}.\n{server.log_tail(12)}"
        self.close()
        return text
