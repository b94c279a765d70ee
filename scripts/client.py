"""A client of ComfyUI's HTTP and WebSocket interface: upload pictures, run a prompt, get its results."""

from __future__ import annotations

import contextlib
import http.client
import json
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from .websocket import WebSocket, WebSocketClosed

_PATIENCE = 5.0
"""Seconds to wait for an event before asking for the history. A lost event delays a result by this much."""

# The server runs on this machine: the environment's proxies must not be used for it.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class PromptError(RuntimeError):
    """The server refused a prompt, or a node failed.

    `kind` is "refused" (by the validation), "failed" (while running) or "interrupted". `nodes` are the ids of
    the nodes that the text names by title and class. `message` is the message of a failed node without its
    name.
    """

    def __init__(self, text: str, kind: str, nodes: tuple[str, ...] = (), message: str = ""):
        super().__init__(text)
        self.kind, self.nodes, self.message = kind, nodes, message or text


@dataclass
class Result:
    """The result of a prompt.

    `outputs` are those of the history, by node id. `executed` and `cached` are ids of nodes. `previews` are
    encoded pictures, if the server makes previews. `refused` has a line for each output node that the
    validation refused while others ran. `seconds` is the time from the request to the end.
    """

    prompt_id: str
    outputs: dict[str, dict] = field(default_factory=dict)
    executed: list[str] = field(default_factory=list)
    cached: list[str] = field(default_factory=list)
    previews: list[bytes] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def items(self, key: str, node: str | int | None = None) -> list:
        """All entries under `key` ("images", "text", "latents") of one node, or of all nodes by id."""
        ids = sorted(self.outputs, key=_id_order) if node is None else [str(node)]
        found = []
        for name in ids:
            value = self.outputs.get(name, {}).get(key) or []
            found += [value] if isinstance(value, str) else list(value)
        return found


@dataclass(frozen=True)
class Progress:
    """`done` of `total` nodes, with fractions; `node` is running, at its step `value` of `maximum`."""

    done: float
    total: int
    node: str
    value: float
    maximum: float


def _id_order(name: str) -> tuple:
    return tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in name.split(":"))


def node_label(prompt: dict, node_id: str) -> str:
    """A node's name in messages: title, class and id."""
    node = prompt.get(node_id, {})
    kind = node.get("class_type", "unknown class")
    title = node.get("_meta", {}).get("title") or kind
    return f"{title} (node {node_id})" if title == kind else f"{title} ({kind}, node {node_id})"


def refusal_lines(prompt: dict, node_errors: dict) -> list[str]:
    """One line per validation error of the server's `node_errors`."""
    lines = []
    for node_id, entry in node_errors.items():
        for error in entry.get("errors", []):
            parts = [part for part in (error.get("message"), error.get("details")) if part]
            lines.append(f"{node_label(prompt, node_id)}: {': '.join(parts)}")
    return lines


class ComfyClient:
    """A client of the server on `port` of 127.0.0.1. `alive` tells whether the server is running."""

    def __init__(self, port: int, alive: Callable[[], bool] = lambda: True):
        self.port, self.alive = port, alive
        self.id = uuid.uuid4().hex
        self._socket: WebSocket | None = None
        self._object_info: dict | None = None

    def request(
        self, path: str, data: bytes | dict | None = None, headers: dict[str, str] | None = None
    ) -> bytes:
        """GET, or POST when there is `data` (a dict is sent as JSON).

        Raises urllib.error.HTTPError for an error status, ConnectionError when no server answers.
        """
        headers = dict(headers or {})
        if isinstance(data, dict):
            data = json.dumps(data).encode()
            headers["Content-Type"] = "application/json"
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, headers)
        try:
            with DIRECT.open(request, timeout=120) as response:
                return response.read()
        except urllib.error.HTTPError:
            raise
        except urllib.error.URLError as error:
            raise ConnectionError(f"no answer from the server: {error.reason}") from error
        except http.client.HTTPException as error:
            # The server died in the middle of its answer. HTTPException is no OSError.
            raise ConnectionError(f"the server broke off its answer: {error!r}") from error

    def json(self, path: str, data: bytes | dict | None = None) -> dict:
        """The answer to `request`, read as JSON. An empty answer is {}."""
        return json.loads(self.request(path, data) or b"{}")

    def object_info(self) -> dict:
        """The server's node classes with their inputs. The server is asked once."""
        if self._object_info is None:
            self._object_info = self.json("/object_info")
        return self._object_info

    def upload(self, data: bytes, name: str, subfolder: str = "") -> str:
        """Put a picture file into the server's input folder. Returns the value for LoadImage's `image`."""
        boundary = uuid.uuid4().hex
        safe = name.replace('"', "_").replace("\r", "_").replace("\n", "_")
        body = b""
        for key, value in (("overwrite", "true"), ("type", "input"), ("subfolder", subfolder)):
            body += (
                f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode()
            )
        body += (
            (
                f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{safe}"\r\n'
                "Content-Type: application/octet-stream\r\n\r\n"
            ).encode()
            + data
            + f"\r\n--{boundary}--\r\n".encode()
        )
        answer = json.loads(
            self.request("/upload/image", body, {"Content-Type": f"multipart/form-data; boundary={boundary}"})
        )
        return "/".join(part for part in (answer["subfolder"], answer["name"]) if part)

    def view(self, image: dict) -> bytes:
        """The file of one entry of an output's "images"."""
        return self.request(
            "/view?" + urllib.parse.urlencode({key: image[key] for key in ("filename", "subfolder", "type")})
        )

    def interrupt(self) -> None:
        """Stop the running prompt at its next step."""
        self.request("/interrupt", {})

    def run(
        self,
        prompt: dict,
        *,
        workflow: dict | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        timeout: float = 3600.0,
    ) -> Result:
        """Queue a prompt in API format and wait for its end. Saved pictures hold `workflow` (UI format).

        Raises PromptError when the server refuses the prompt or a node fails, and ConnectionError when the
        server dies. After `timeout` seconds it interrupts the prompt and raises TimeoutError.
        """
        started = time.monotonic()
        # Connect before the prompt is queued: events from before the connection are lost.
        self._connected()
        body: dict = {"prompt": prompt, "client_id": self.id}
        if workflow is not None:
            body["extra_data"] = {"extra_pnginfo": {"workflow": workflow}}
        try:
            answer = self.json("/prompt", body)
        except urllib.error.HTTPError as error:
            raise self._refusal(prompt, error) from None
        result = Result(answer["prompt_id"], refused=refusal_lines(prompt, answer.get("node_errors") or {}))
        self._follow(prompt, result, on_progress, started + timeout)
        result.outputs = self._history(result.prompt_id)["outputs"]
        result.seconds = time.monotonic() - started
        return result

    def close(self) -> None:
        """Close the WebSocket; the next `run` opens a new one."""
        if self._socket:
            self._socket.close()
            self._socket = None

    def _connected(self) -> WebSocket:
        if self._socket is None:
            self._socket = WebSocket("127.0.0.1", self.port, f"/ws?clientId={self.id}")
        return self._socket

    @staticmethod
    def _refusal(prompt: dict, error: urllib.error.HTTPError) -> PromptError:
        text = error.read().decode(errors="replace")
        try:
            answer = json.loads(text)
        except ValueError:
            return PromptError(f"the server answered {error.code}: {text[:300]}", "refused")
        node_errors = answer.get("node_errors") or {}
        lines = refusal_lines(prompt, node_errors)
        if not lines:
            cause = answer.get("error") or text
            parts = (cause.get("message"), cause.get("details")) if isinstance(cause, dict) else (str(cause),)
            lines = [": ".join(part for part in parts if part)]
        return PromptError("\n".join(lines), "refused", tuple(node_errors))

    def _follow(
        self, prompt: dict, result: Result, on_progress: Callable[[Progress], None] | None, deadline: float
    ) -> None:
        """Read events until this prompt has ended. Store nodes and previews in `result`, report progress."""
        socket = self._connected()
        while True:
            if time.monotonic() > deadline:
                self.interrupt()
                raise TimeoutError("the prompt took longer than allowed and was interrupted")
            try:
                message = socket.receive(_PATIENCE)
            except TimeoutError:
                if not self.alive():
                    raise ConnectionError("the server process ended") from None
                if result.prompt_id in self.json(f"/history/{result.prompt_id}"):
                    return
                continue
            except WebSocketClosed as error:
                self.close()
                raise ConnectionError("the server closed the connection") from error
            if isinstance(message, bytes):
                # The first 8 bytes are the event's type and the picture's format. Type 1 is a preview.
                if message[:4] == b"\0\0\0\1":
                    result.previews.append(message[8:])
                continue
            event = json.loads(message)
            data = event.get("data") or {}
            if data.get("prompt_id") == result.prompt_id and self._event(
                prompt, result, event["type"], data, on_progress
            ):
                return

    @staticmethod
    def _event(
        prompt: dict, result: Result, kind: str, data: dict, on_progress: Callable[[Progress], None] | None
    ) -> bool:
        """Store one event in `result`. Returns whether the prompt has ended. Raises PromptError."""
        if kind == "execution_cached":
            result.cached += data["nodes"]
        elif kind == "executing" and data.get("node"):
            result.executed.append(data["node"])
        elif kind == "progress_state" and on_progress:
            states = data["nodes"].values()
            running = next((state for state in states if state["state"] == "running"), None)
            if running:
                finished = sum(state["state"] == "finished" for state in states) + len(result.cached)
                share = running["value"] / running["max"] if running["max"] else 0.0
                on_progress(
                    Progress(
                        finished + min(share, 1.0),
                        len(prompt),
                        running["display_node_id"],
                        running["value"],
                        running["max"],
                    )
                )
        elif kind == "execution_error":
            message = data["exception_message"].strip()
            raise PromptError(
                f"{node_label(prompt, data['node_id'])}: {message}", "failed", (data["node_id"],), message
            )
        elif kind == "execution_interrupted":
            raise PromptError(
                f"{node_label(prompt, data['node_id'])}: interrupted", "interrupted", (data["node_id"],)
            )
        return kind == "execution_success"

    def _history(self, prompt_id: str) -> dict:
        """The prompt's entry in the history. The server announces success before it writes the entry."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with contextlib.suppress(KeyError):
                return self.json(f"/history/{prompt_id}")[prompt_id]
            time.sleep(0.02)
        raise ConnectionError(f"the server has no history of prompt {prompt_id}")
