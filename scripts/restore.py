"""The restore command: pictures through a workflow on a ComfyUI server of its own, one server for all of them."""

from __future__ import annotations

import json
import shutil
import sys
import time
from argparse import Namespace
from pathlib import Path

from .client import ComfyClient, Progress, PromptError, Result
from .graph import GraphError, find_nodes, override, sync_widgets, to_prompt
from .host import choose_device, find_host
from .results import Picture, choose_target, find_pictures, is_cut_off, request_key, with_key, write_new
from .server import Server, ServerError
from .steps import SetupError

# Option -> the names of the inputs it sets. A stock workflow calls its seed noise_seed.
OPTIONS = {"steps": ("steps",), "seed": ("seed", "noise_seed"), "fidelity": ("fidelity",), "tile": ("tile",)}


class WorkflowError(RuntimeError):
    """The workflow itself cannot be run: no picture would come out better than the first."""


class Restorer:
    """Runs one workflow over pictures. The server starts with the first picture that needs it and is started anew
    when it dies; close with `close`."""

    def __init__(self, root: Path, arguments: Namespace):
        self.root, self.arguments = root, arguments
        self.path = Path(arguments.workflow) if arguments.workflow else root / "workflows" / "restore.json"
        try:
            self.bytes = self.path.read_bytes()
            self.workflow = json.loads(self.bytes)
        except OSError as error:
            raise WorkflowError(f"the workflow {self.path} cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise WorkflowError(f"the workflow {self.path} is no JSON: {error}") from None
        if not isinstance(self.workflow, dict):
            raise WorkflowError(f"the workflow {self.path} is no ComfyUI workflow")
        self.options = {name: getattr(arguments, name) for name in OPTIONS if getattr(arguments, name) is not None}
        self.taken: set[Path] = set()
        self.host = self.server = self.client = self.prompt = None
        self.loader = ""

    def restore(self, picture: Picture) -> str | None:
        """Restore one picture; returns the line to print, None when its result was there already.

        Raises PromptError, WorkflowError, ConnectionError, OSError or ValueError when it fails.
        """
        data = picture.source.read_bytes()
        if not data:
            raise ValueError("the file is empty")
        key = request_key(picture.source.name, data, self.bytes, self.options)
        path, done = choose_target(picture.target, key, self.taken)
        if done:
            self.taken.add(path)
            print(f"{picture.source}: skipped, {path} is there already", flush=True)
            return None
        if is_cut_off(data):
            print(f"{picture.source}: this file is cut off; what is missing is restored from nothing", flush=True)
        self._connect()
        started = time.monotonic()
        prompt = json.loads(json.dumps(self.prompt))
        image = self.client.upload(data, picture.source.name, subfolder=key[:16])
        prompt[self.loader]["inputs"]["image"] = image
        info = self.client.object_info()
        bar = _Bar(prompt, picture.source.name)
        try:
            result = self.client.run(prompt, workflow=sync_widgets(self.workflow, prompt, info), on_progress=bar)
        finally:
            bar.clear()
        written = self._write(picture, key, self._pictures(result))
        texts = "; ".join(" ".join(str(text).split()) for text in result.items("text"))
        found = f"{picture.source}: {texts}\n  " if texts else f"{picture.source}: "
        return f"{found}{time.monotonic() - started:.1f} s -> {', '.join(map(str, written))}"

    def _connect(self) -> None:
        if self.server and self.server.alive():
            return
        self.close()
        if self.host is None:
            self.host = find_host(self.root)
            self.device, sentence = choose_device(self.host, self.arguments.device)
            print(sentence, flush=True)
        started = time.monotonic()
        self.server = Server(self.host, device=self.device)
        try:
            self.server.start()
        except ServerError as error:
            if not self.host.setup:
                raise
            print(f"The server did not start; checking the host's files.\n{error}", flush=True)
            self.host.setup.repair()
            self.server = Server(self.host, device=self.device).start()
        print(f"ComfyUI started in {time.monotonic() - started:.1f} s", flush=True)
        self.client = ComfyClient(self.server.port, self.server.alive)
        self._prepare()

    def _prepare(self) -> None:
        """The prompt of the workflow with the options in it. Raises WorkflowError."""
        info = self.client.object_info()
        try:
            prompt = to_prompt(self.workflow, info)
        except GraphError as error:
            log = f"\nThe end of the server's log:\n{self.server.log_tail()}" if "does not have" in str(error) else ""
            raise WorkflowError(f"{self.path}: {error}{log}") from None
        for option, value in self.options.items():
            if not override(prompt, info, OPTIONS[option], value):
                raise WorkflowError(f"--{option} has no effect: no node of {self.path} has such an input")
        loaders = find_nodes(prompt, "LoadImage")
        if len(loaders) != 1:
            raise WorkflowError(f"{self.path} has {len(loaders)} LoadImage nodes; one is needed, for the picture to restore")
        self.loader, self.prompt = loaders[0], prompt

    def _pictures(self, result: Result) -> list[bytes]:
        """The saved pictures of a run, or the previewed ones when nothing was saved."""
        images = result.items("images")
        chosen = [image for image in images if image["type"] == "output"] or images
        if not chosen:
            raise ValueError("\n".join(result.refused) or "the workflow ran but saved no picture")
        return [self.client.view(image) for image in chosen]

    def _write(self, picture: Picture, key: str, images: list[bytes]) -> list[Path]:
        written = []
        for number, image in enumerate(images):
            data = with_key(image, key if number == 0 else "0" * 64)
            while True:
                path, _ = choose_target(picture.target, key, self.taken)
                try:
                    write_new(path, data)
                    break
                except FileExistsError:
                    continue  # another program took the name meanwhile: choose the next
            self.taken.add(path)
            written.append(path)
        return written

    def refused_for_all(self, error: PromptError) -> bool:
        """Whether a refusal is the workflow's own fault, not this picture's."""
        return error.kind == "refused" and self.loader not in error.nodes

    def close(self) -> None:
        """Stop the server."""
        if self.client:
            self.client.close()
        if self.server:
            self.server.stop()
        self.client = self.server = None


class _Bar:
    """A progress bar on one terminal line; silent where the output is no terminal."""

    def __init__(self, prompt: dict, name: str):
        self.prompt, self.name, self.shown = prompt, name, sys.stdout.isatty()

    def __call__(self, progress: Progress) -> None:
        if not self.shown:
            return
        share = min(progress.done / max(progress.total, 1), 1.0)
        title = self.prompt.get(progress.node, {}).get("_meta", {}).get("title", "")
        steps = f" {progress.value:.0f}/{progress.maximum:.0f}" if progress.maximum > 1 else ""
        line = f"{self.name} [{'#' * round(share * 24):<24}] {share:4.0%} {title}{steps}"
        width = shutil.get_terminal_size().columns - 1
        print(f"\r{line[:width]:<{width}}", end="", flush=True)

    def clear(self) -> None:
        if self.shown:
            print(f"\r{'':<{shutil.get_terminal_size().columns - 1}}\r", end="", flush=True)


def restore(root: Path, arguments: Namespace) -> int:
    """Run the command; returns its exit code: 0 when every picture has its result, 1 otherwise."""
    pictures, remarks = find_pictures(arguments.pictures, Path(arguments.out) if arguments.out else None)
    for remark in remarks:
        print(remark, flush=True)
    if not pictures:
        print("Nothing to restore.", flush=True)
        return 1
    started, failed, skipped = time.monotonic(), 0, 0
    try:
        restorer = Restorer(root, arguments)
    except WorkflowError as error:
        print(f"Error: {error}", flush=True)
        return 1
    try:
        for number, picture in enumerate(pictures, 1):
            try:
                line = restorer.restore(picture)
                if line:
                    print(f"[{number}/{len(pictures)}] {line}", flush=True)
                else:
                    skipped += 1
            except (WorkflowError, SetupError, ServerError) as error:
                print(f"Error: {error}", flush=True)
                return 1
            except (PromptError, ConnectionError, TimeoutError, OSError, ValueError) as error:
                failed += 1
                print(f"[{number}/{len(pictures)}] {picture.source}: FAILED\n{_reason(restorer, error)}", flush=True)
                if isinstance(error, PromptError) and restorer.refused_for_all(error):
                    print("The server refuses this workflow or these options: stopping here.", flush=True)
                    return 1
    finally:
        restorer.close()
    done = len(pictures) - failed - skipped
    print(f"{done} restored, {skipped} skipped, {failed} failed in {time.monotonic() - started:.1f} s", flush=True)
    return 1 if failed or any("left alone" not in remark for remark in remarks) else 0


def _reason(restorer: Restorer, error: Exception) -> str:
    """The error as indented lines; for a picture that cannot be decoded, and a server that died, in plain words first."""
    text = str(error) or type(error).__name__
    if isinstance(error, PromptError) and error.kind == "failed" and restorer.loader in error.nodes:
        text = f"The picture cannot be read: it is damaged, or no picture.\n{text}"
    elif isinstance(error, ConnectionError) and restorer.server:
        code = restorer.server.death()
        end = "broke the connection" if code is None else f"died with code {code}"
        killed = " (killed: most likely out of memory; try --tile 512)" if code == -9 else ""
        text = f"ComfyUI {end}{killed}; it is started anew for the next picture.\n{restorer.server.log_tail(12)}"
        restorer.close()
    return "\n".join(f"  {line}" for line in text.splitlines())
