"""Starts a ComfyUI server on a free port with folders of its own, waits for it, and stops it."""

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
from typing import Any

from .client import DIRECT
from .host import Host
from .steps import ends_with_parent, try_lock

FOLDERS = ("input", "output", "temp", "user")
LAUNCHER = Path(__file__).with_name("start_comfyui.py")
COMMAND = "AIOR_COMMAND"
"""The environment variable that makes the pack add the nodes of `aior.py restore` to a server."""

LEAST_FREE = 64 * 2**20
"""Bytes that must be free for temporary files: ComfyUI's own, and a picture and its results."""

_PREFIX, _OWNER = "aior-", "owner"
# On the CPU every layer allocates and frees large tensors. With these settings glibc keeps up to 400 MB of
# freed memory, in huge pages, and the system need not clear each page again. That saves a quarter of the time
# of a picture. Other C libraries ignore the settings.
ALLOCATION = {
    "THP_MEM_ALLOC_ENABLE": "1",
    "MALLOC_MMAP_THRESHOLD_": "200000000",
    "MALLOC_TRIM_THRESHOLD_": "400000000",
}


class ServerError(RuntimeError):
    """The server did not start, or died. The message holds the end of its log.

    `code` is its exit code if it ended while starting. It is None if it was only slow.
    """

    code: int | None = None


def start_comfyui(
    host: Host, port: int, flags: list, environment: dict[str, str] | None = None, **options: Any
) -> subprocess.Popen:
    """Start ComfyUI on 127.0.0.1 with further `flags`. On Linux it ends with this process.

    `environment` is added to that of this process, which overrides `ALLOCATION`. `options` are those of
    Popen.
    """
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
    """A TCP port of 127.0.0.1 on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class OwnFolder:
    """A temporary folder at `path` that belongs to this process.

    `close` removes it. The next process that makes such a folder removes those of killed processes, because
    they hold copies of the user's pictures.
    """

    def __init__(self):
        self._remove_orphans()
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._owner = open(self.path / _OWNER, "wb")
        try_lock(self._owner)

    @staticmethod
    def _remove_orphans() -> None:
        for owner in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/{_OWNER}"):
            # Folders of other users raise OSError, and so do folders that another process removes meanwhile.
            with contextlib.suppress(OSError):
                # A new file is not locked yet: for a minute it does not count as left behind.
                if time.time() - owner.stat().st_mtime > 60:
                    with open(owner, "r+b") as file:
                        orphan = try_lock(file)
                    if orphan:
                        shutil.rmtree(owner.parent)

    def close(self) -> None:
        """Remove the folder. Calling it twice is harmless."""
        self._owner.close()
        shutil.rmtree(self.path, ignore_errors=True)


def own_folder() -> OwnFolder:
    """An OwnFolder on a disk with free space for pictures. Raises ServerError when there is none."""
    advice = "Set the environment variable TMPDIR to a folder with free space, and run the command again."
    try:
        folder = OwnFolder()
        free = shutil.disk_usage(folder.path).free
    except OSError as error:
        raise ServerError(
            f"cannot make a folder for temporary files: {error.strerror or error}. {advice}"
        ) from None
    if free < LEAST_FREE:
        folder.close()
        raise ServerError(
            f"the folder for temporary files, {folder.path.parent}, has only {free / 2**20:.0f} MiB left. "
            f"{advice}"
        )
    return folder


class Server:
    """A ComfyUI server. Use it as a context manager, or call `start` and `stop`.

    `device` is "cpu" or "auto". `folder` holds the folders input, output, temp and user, and the log; None
    makes a temporary one, which `stop` removes. `models` is a models folder in place of ComfyUI's. `extra`
    are further flags of ComfyUI. `command` adds the nodes that read and write pictures for `aior.py restore`.
    Raises ServerError when it cannot make a temporary folder.
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
        self._own: OwnFolder | None = None
        if folder is None:
            self._own = own_folder()
            folder = self._own.path
        self.folder = Path(folder)
        self.log_path = self.folder / "server.log"
        self.process: subprocess.Popen | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _flags(self) -> list[str | Path]:
        # ComfyUI 0.16 does not find its tables in a database in memory, so the database is a file.
        flags: list[str | Path] = [
            "--database-url",
            f"sqlite:///{self.folder / 'user' / 'comfyui.db'}",
            "--disable-api-nodes",
            # Other packs make the start slower, and may change what a test or a restore does.
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
        """Start the process. Returns when it answers. Raises ServerError."""
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
                # Another program may take the port between free_port and the start of the server.
                if self._wanted_port or attempt == 2 or "address already in use" not in str(error):
                    self.stop()
                    raise
            except BaseException:
                self.stop()
                raise
        return self

    def _make_base(self, models: Path) -> None:
        """Make a base directory with these models and ComfyUI's own packs.

        The oldest supported ComfyUI has no --models-directory.
        """
        base = self.folder / "base"
        base.mkdir(exist_ok=True)
        for name, target in (("models", models), ("custom_nodes", self.host.comfyui / "custom_nodes")):
            if not (base / name).exists():
                (base / name).symlink_to(target.absolute(), target_is_directory=True)

    def _wait(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self.process is None or self.process.poll() is not None:
                code = self.process.returncode if self.process else None
                error = ServerError(f"ComfyUI ended with code {code} while starting:\n{self.log_tail()}")
                error.code = code
                raise error
            with contextlib.suppress(urllib.error.URLError, OSError):
                with DIRECT.open(f"{self.url}/system_stats", timeout=5):
                    return
            time.sleep(0.1)
        raise ServerError(f"ComfyUI did not answer within {timeout:.0f} s:\n{self.log_tail()}")

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def death(self, patience: float = 5.0) -> int | None:
        """The exit code of a server that broke a connection; None if it is alive after `patience` seconds."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.process.wait(patience) if self.process else None
        return None

    def log_tail(self, lines: int = 25) -> str:
        """The last `lines` lines of the server's log, indented."""
        try:
            text = self.log_path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
        return "\n".join(f"    {line}" for line in text.splitlines()[-lines:])

    def _end_process(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def stop(self) -> None:
        """End the process, and remove the folder if it is temporary. Calling it twice is harmless."""
        self._end_process()
        if self._own:
            self._own.close()

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def serve(host: Host, *, device: str, port: int) -> int:
    """Run ComfyUI in the foreground, with its own folders and live previews. Returns its exit code."""
    flags: list[str | Path] = ["--preview-method", "latent2rgb"]
    if host.setup:
        flags += ["--database-url", "sqlite:///:memory:", "--disable-api-nodes"]
    if device == "cpu":
        flags.append("--cpu")
    if host.extra_paths:
        flags += ["--extra-model-paths-config", host.extra_paths]
    print(
        f"ComfyUI starts on http://127.0.0.1:{port}. Open this address in a browser; Ctrl+C ends ComfyUI. "
        f"It saves results in {host.comfyui / 'output'}",
        flush=True,
    )
    if host.setup:
        print(
            "ComfyUI will report that comfyui-workflow-templates is not installed. The set-up leaves it out, "
            "because AIOR does not need its 430 MB.",
            flush=True,
        )
    process = start_comfyui(host, port, flags)
    try:
        return process.wait()
    except KeyboardInterrupt:
        # Ctrl+C in the terminal reaches the server too. Give it time to end by itself.
        with contextlib.suppress(KeyboardInterrupt, subprocess.TimeoutExpired):
            process.wait(10)
        return 0
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
