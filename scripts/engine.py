"""Runs one workflow over pictures on a ComfyUI server of its own: in the restore command itself, or in each worker of a cluster."""

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
from .host import choose_device, find_host
from .pictures import explain
from .server import Server, ServerError
from .steps import Say

# Option -> the names of the inputs it sets. A stock workflow calls its seed noise_seed.
INPUTS = {
    "steps": ("steps",),
    "seed": ("seed", "noise_seed"),
    "fidelity": ("fidelity",),
    "tile": ("tile",),
    "ensemble": ("ensemble",),
}

FILE_OPTIONS = ("format", "quality", "bits", "metadata")
"""Options of the files that are written, not of a node."""

OPTIONS = (*INPUTS, *FILE_OPTIONS)
DEFAULT_QUALITY = 95

# Gets the prompt and the picture's name, gives what is told of the progress while the prompt runs, or None.
Watch = Callable[[dict, str], contextlib.AbstractContextManager[Callable[[Progress], None] | None]]


class WorkflowError(RuntimeError):
    """The workflow itself cannot be run: no picture would come out better than the first."""


@dataclass(frozen=True)
class Workflow:
    """A workflow file: where it is, its bytes, and the options (of OPTIONS) that are not as by default."""

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
    picture; "refused", no picture would do better. `images`: the picture files of a done one. `text`: what the workflow
    found, or the reason in lines.
    """

    fate: str
    images: tuple[bytes, ...] = ()
    text: str = ""
    seconds: float = 0.0


class Engine:
    """One workflow on one server. The server starts with the first picture and is started anew when it died; stop it
    with `close`. `device` is "auto", "cpu" or "gpu"; `say` gets a line for everything that takes long."""

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
        self.host = self.server = self.client = self.prompt = None
        self.loader, self.savers = "", []

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
        self.server = self._server()
        try:
            self.server.start()
        except ServerError as error:
            # Being slow, or killed for memory (-9), is no sign of damaged files, and a repair replaces what others may use.
            if not self.host.setup or error.code in (None, -9):
                raise
            self.say(f"The server did not start; checking the host's files.\n{error}")
            self.host.setup.repair()
            self.server = self._server()
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
            if error.kind == "refused" and self.loader not in error.nodes:
                return Outcome("refused", text=str(error))  # the workflow's own fault
            return Outcome("failed", text=self._told(error))
        except ConnectionError as error:
            return Outcome("died", text=self._obituary() if self.server else str(error))
        except (OSError, ValueError) as error:
            return Outcome("failed", text=explain(error))

    def _told(self, error: PromptError) -> str:
        """A failed node's own sentence, without the node's name: who called the command sees no nodes."""
        text = error.message
        for node in error.nodes:
            kind = self.prompt.get(node, {}).get("class_type", "")
            name = self.client.object_info().get(kind, {}).get("display_name") or kind
            text = text.removeprefix(f"{name}: ")
        return text[:1].upper() + text[1:]

    def close(self) -> None:
        """Stop the server."""
        if self.client:
            self.client.close()
        if self.server:
            self.server.stop()
        self.client = self.server = None

    def _server(self) -> Server:
        return Server(self.host, device=self.device, command=True)

    def _prepare(self) -> None:
        """The prompt of the workflow with the options in it. Raises WorkflowError."""
        path, info = self.workflow.path, self.client.object_info()
        try:
            prompt = to_prompt(self.workflow.graph, info)
        except GraphError as error:
            log = (
                f"\nThe end of the server's log:\n{self.server.log_tail()}"
                if "does not have" in str(error)
                else ""
            )
            raise WorkflowError(f"{path}: {error}{log}") from None
        for option, value in self.workflow.options.items():
            if option in INPUTS and not override(prompt, info, INPUTS[option], value):
                raise WorkflowError(f"--{option} has no effect: no node of {path} has such an input")
        loaders = find_nodes(prompt, "LoadImage")
        if len(loaders) != 1:
            raise WorkflowError(
                f"{path} has {len(loaders)} LoadImage nodes; one is needed, for the picture to restore"
            )
        savers = find_nodes(prompt, "SaveImage") or find_nodes(prompt, "PreviewImage")
        useless = [option for option in FILE_OPTIONS if option in self.workflow.options and not savers]
        if useless:
            raise WorkflowError(f"--{useless[0]} has no effect: no node of {path} saves a picture")
        self.loader, self.savers, self.prompt = loaders[0], savers, prompt

    def _run(self, name: str, key: str, data: bytes) -> Outcome:
        started = time.monotonic()
        file = self.server.folder / "input" / f"{key[:32]}.picture"
        file.write_bytes(data)
        try:
            prompt = self._prompt_for(name, file.name)
            with self.watch(self.prompt, name) as on_progress:
                result = self.client.run(prompt, on_progress=on_progress)
            images = self._pictures(result)
        finally:
            file.unlink(missing_ok=True)
        # Of a report that goes on about every damage, what was found.
        found = [" ".join(str(text).strip().partition("\n")[0].split()) for text in result.items("text")]
        remarks = dict.fromkeys(str(remark) for remark in result.items("aior_remarks"))
        return Outcome("done", images, "; ".join([*found, *remarks]), time.monotonic() - started)

    def _prompt_for(self, name: str, file: str) -> dict:
        """The prompt for one picture, with the command's own nodes for Load Image and Save Image: they read what ComfyUI's get
        wrong, and write what its cannot. In the saved files stands the workflow as it is, with the picture's name."""
        info, options, graph = self.client.object_info(), self.workflow.options, self.workflow.graph
        prompt = json.loads(json.dumps(self.prompt))
        prompt[self.loader]["inputs"]["image"] = os.fsencode(name).decode("utf-8", "replace")
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
        changed[self.loader] = {
            **prompt[self.loader],
            "class_type": "AIOR_ReadPicture",
            "inputs": {"file": file, "format": settings["format"]},
        }
        for saver in self.savers:
            inputs = {
                "images": prompt[saver]["inputs"].get("images"),
                "source": [self.loader, 2],
                "settings": settings_text,
            }
            changed[saver] = {**prompt[saver], "class_type": "AIOR_WritePicture", "inputs": inputs}
        return changed

    def _pictures(self, result: Result) -> tuple[bytes, ...]:
        """The saved pictures of a run, or the previewed ones when nothing was saved."""
        images = result.items("images")
        chosen = [image for image in images if image["type"] == "output"] or images
        if not chosen and result.refused:
            raise PromptError("\n".join(result.refused), "refused")
        if not chosen:
            raise ValueError("the workflow ran but saved no picture")
        data = tuple(self.client.view(image) for image in chosen)
        for image in chosen:
            # The server's folder is this command's own; a night's results would fill it.
            (self.server.folder / image["type"] / image["subfolder"] / image["filename"]).unlink(
                missing_ok=True
            )
        return data

    def _obituary(self) -> str:
        """Why the connection broke, and the end of the server's log; the server is stopped if it goes on."""
        code = self.server.death()
        end = "broke the connection" if code is None else f"died with code {code}"
        killed = " (killed: most likely out of memory; try --tile 512)" if code == -9 else ""
        text = f"ComfyUI {end}{killed}.\n{self.server.log_tail(12)}"
        self.close()
        return text
