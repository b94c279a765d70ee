"""The restore command as a process to be killed: all that it starts carries a mark, by which it is found."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MARK = "AIOR_TEST_MARK"


class Command:
    """`aior.py restore` under `python`, with `temporary` as its folder for temporary files."""

    def __init__(
        self,
        *arguments: object,
        temporary: Path,
        python: str | Path = sys.executable,
        device: str = "cpu",
        **environment: str,
    ):
        temporary.mkdir(exist_ok=True)
        self.mark, self.log = uuid.uuid4().hex, temporary / "command.log"
        command = [str(python), str(ROOT / "aior.py"), "restore", *map(str, arguments), "--device", device]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "TMPDIR": str(temporary), MARK: self.mark, **environment},
            )

    @property
    def output(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def wait(self, timeout: float = 600) -> int:
        """The exit code."""
        return self.process.wait(timeout)

    def kill(self) -> bool:
        """kill -9 of the command alone; whether it still ran."""
        running = self.process.poll() is None
        self.process.kill()
        self.process.wait()
        return running

    def others(self) -> dict[int, str]:
        """Command lines by process id of what it started and what still runs."""
        return {pid: line for pid, line in marked(self.mark).items() if pid != self.process.pid}

    def servers(self) -> dict[int, str]:
        """`others` that are ComfyUI servers."""
        return servers(self.mark)


def marked(mark: str) -> dict[int, str]:
    """Command lines by process id of the processes that were started with this mark in their environment."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes():
                found[int(folder.name)] = (
                    (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                )
    return found


def servers(mark: str) -> dict[int, str]:
    """`marked` that are ComfyUI servers."""
    return {pid: line for pid, line in marked(mark).items() if "main.py --listen" in line}


def until(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Wait for a condition. Raises TimeoutError that says `what` did not happen."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not happen within {seconds:.0f} s")
        time.sleep(0.02)


def kill(pid: int) -> None:
    """kill -9, harmless when the process is gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def parent(pid: int) -> int:
    """The process id of a process's parent."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
