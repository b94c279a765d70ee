"""One ComfyUI server process: started on a free port with folders of its own, waited for, and stopped."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
from pathlib import Path

from .client import DIRECT
from .host import Host
from .steps import ends_with_parent, try_lock

FOLDERS = ("input", "output", "temp", "user")
LAUNCHER = Path(__file__).with_name("start_comfyui.py")
COMMAND = "AIOR_COMMAND"
"""The variable that has the pack give a server the command's own nodes."""

LEAST_FREE = 64 * 2**20
"""Bytes that the folder for temporary files must have left: ComfyUI's own files, and a picture on its way in and out."""

_PREFIX, _OWNER = "aior-", "owner"
# Large tensors on the CPU are asked for and given back at every layer. Kept by glibc (up to 400 MB) and in huge pages they
# need not be zeroed page by page each time, which is a quarter of a picture's seconds. Other C libraries ignore these.
ALLOCATION = {
    "THP_MEM_ALLOC_ENABLE": "1",
    "MALLOC_MMAP_THRESHOLD_": "200000000",
    "MALLOC_TRIM_THRESHOLD_": "400000000",
}


class ServerError(RuntimeError):
    """The server did not start or died; the message carries the end of its log. `code` is the exit code of one that ended
    while starting, None of one that is only slow."""

    code: int | None = None


def start_comfyui(
    host: Host, port: int, flags: list, environment: dict[str, str] | None = None, **options: object
) -> subprocess.Popen:
    """Start the host's ComfyUI on 127.0.0.1 with more `flags`; it ends with this process. What the person's environment says
    of memory allocation goes first; `environment` is added to it. `options` are Popen's."""
    command = [
        host.python,
        LAUNCHER,
        host.comfyui / "main.py",
        "--listen",
        "127.0.0.1",
        "--port",
        port,
        "--disable-auto-launch",
        *flags,
    ]
    return subprocess.Popen(
        [str(part) for part in command],
        env=ALLOCATION | os.environ | (environment or {}),
        **ends_with_parent(),
        **options,
    )


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class OwnFolder:
    """A temporary folder at `path` that this process owns: `close` removes it, and what a killed process left (copies of
    a person's pictures) is removed by the next one that makes such a folder."""

    def __init__(self):
        self._remove_orphans()
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._owner = open(self.path / _OWNER, "wb")
        try_lock(self._owner)

    @staticmethod
    def _remove_orphans() -> None:
        for owner in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/{_OWNER}"):
            # Another user's folders and those that vanish meanwhile raise OSError: they are not ours to remove.
            with contextlib.suppress(OSError):
                # A minute: between the making of this file and its lock another process must not take it for an orphan's.
                if time.time() - owner.stat().st_mtime > 60:
                    with open(owner, "r+b") as file:
                        orphan = try_lock(file)
                    if orphan:
                        shutil.rmtree(owner.parent)

    def close(self) -> None:
        """Remove the folder; harmless when called twice."""
        self._owner.close()
        shutil.rmtree(self.path, ignore_errors=True)


def own_folder() -> OwnFolder:
    """An OwnFolder with room for pictures. Raises ServerError where there is none."""
    advice = "Set the variable TMPDIR to a folder with room, and call again."
    try:
        folder = OwnFolder()
        free = shutil.disk_usage(folder.path).free
    except OSError as error:
        raise ServerError(
            f"no folder for temporary files can be made: {error.strerror or error}. {advice}"
        ) from None
    if free < LEAST_FREE:
        folder.close()
        raise ServerError(
            f"the folder for temporary files, {folder.path.parent}, has only {free / 2**20:.0f} MiB left. {advice}"
        )
    return folder


class Server:
    """A ComfyUI server process. Use as a context manager, or call `start` and `stop`.

    `folder`: input, output, temp and user folders and the log are made there (a temporary one, removed at stop, when
    None). `device`: "cpu" or "auto". `models`: a models folder in place of ComfyUI's. `extra`: further ComfyUI flags.
    `command`: with the nodes that read and write pictures for `aior.py restore`. Raises ServerError where no temporary folder can be made.
    """

    def __init__(
        self,
        host: Host,
        *,
        device: str = "cpu",
        port: int | None = None,
        folder: Path | None = None,
        models: Path | None = None,
        extra: tuple[str, ...] = (),
        command: bool = False,
    ):
        self.host, self.device, self.models, self.extra = host, device, models, extra
        self._environment = {COMMAND: "1"} if command else {}
        self._wanted_port = port
        self._own = own_folder() if folder is None else None
        self.folder = self._own.path if self._own else Path(folder)
        self.log_path = self.folder / "server.log"
        self.process: subprocess.Popen | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _flags(self) -> list:
        # In a file: ComfyUI 0.16 finds no tables in a database in memory.
        flags = [
            "--database-url",
            f"sqlite:///{self.folder / 'user' / 'comfyui.db'}",
            "--disable-api-nodes",
            # Other packs cost start-up time and may change what a test or a restore does.
            "--disable-all-custom-nodes",
            "--whitelist-custom-nodes",
            self.host.pack_name,
        ]
        for name in FOLDERS:
            flags += [f"--{name}-directory", self.folder / name]
        if self.device == "cpu":
            flags.append("--cpu")
        if self.models:
            flags += ["--base-directory", self.folder / "base"]
        if self.host.extra_paths:
            flags += ["--extra-model-paths-config", self.host.extra_paths]
        return [*flags, *self.extra]

    def start(self, timeout: float = 180.0) -> Server:
        """Start the process and return when it answers. Raises ServerError."""
        for name in FOLDERS:
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        if self.models:
            self._make_base(self.models)
        for attempt in range(3):
            self.port = self._wanted_port or free_port()
            with open(self.log_path, "wb") as log:
                self.process = start_comfyui(
                    self.host,
                    self.port,
                    self._flags(),
                    self._environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=self.folder,
                )
            try:
                self._wait(timeout)
                return self
            except ServerError as error:
                self._end_process()
                # Between free_port and the server's bind another program may have taken the port.
                if self._wanted_port or attempt == 2 or "address already in use" not in str(error):
                    self.stop()
                    raise
            except BaseException:
                self.stop()
                raise
        return self

    def _make_base(self, models: Path) -> None:
        """A base directory with those models and the host's own packs: --models-directory is younger than the oldest host."""
        base = self.folder / "base"
        base.mkdir(exist_ok=True)
        for name, target in (("models", models), ("custom_nodes", self.host.comfyui / "custom_nodes")):
            if not (base / name).exists():
                (base / name).symlink_to(target.absolute(), target_is_directory=True)

    def _wait(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if not self.alive():
                error = ServerError(
                    f"ComfyUI ended with code {self.process.returncode} while starting:\n{self.log_tail()}"
                )
                error.code = self.process.returncode
                raise error
            with contextlib.suppress(urllib.error.URLError, OSError):
                with DIRECT.open(f"{self.url}/system_stats", timeout=5):
                    return
            time.sleep(0.1)
        raise ServerError(f"ComfyUI did not answer within {timeout:.0f} s:\n{self.log_tail()}")

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def death(self, patience: float = 5.0) -> int | None:
        """The exit code of a server that broke a connection (its end is known a moment later), None if it goes on."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.process.wait(patience)
        return None

    def log_tail(self, lines: int = 25) -> str:
        """The last lines of the server's log, indented."""
        try:
            text = self.log_path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
        return "\n".join(f"    {line}" for line in text.splitlines()[-lines:])

    def _end_process(self) -> None:
        if self.alive():
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def stop(self) -> None:
        """End the process and remove the folder if it was a temporary one; harmless when called twice."""
        self._end_process()
        if self._own:
            self._own.close()

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def serve(host: Host, *, device: str, port: int) -> int:
    """Run ComfyUI in the foreground, as a person uses it: its own folders, live previews. Returns its exit code."""
    flags = ["--preview-method", "latent2rgb"]
    if host.setup:
        flags += ["--database-url", "sqlite:///:memory:", "--disable-api-nodes"]
    if device == "cpu":
        flags.append("--cpu")
    if host.extra_paths:
        flags += ["--extra-model-paths-config", host.extra_paths]
    print(
        f"ComfyUI starts on http://127.0.0.1:{port} (open it in a browser; Ctrl+C ends it). "
        f"Results are saved in {host.comfyui / 'output'}",
        flush=True,
    )
    if host.setup:
        print(
            "It will say that comfyui-workflow-templates is not installed: 430 MB that were left out on purpose, nothing here needs them.",
            flush=True,
        )
    process = start_comfyui(host, port, flags)
    try:
        return process.wait()
    except KeyboardInterrupt:
        # The terminal's Ctrl+C reached the server too: give it time to end by itself.
        with contextlib.suppress(KeyboardInterrupt, subprocess.TimeoutExpired):
            process.wait(10)
        return 0
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
