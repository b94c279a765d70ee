"""A set-up as a list of steps that can be interrupted and repeated.

A finished step is recorded with its inputs. It runs again when its inputs change or its result is gone.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from aior_core.atomic import atomic_write_bytes

Say = Callable[[str], None]


class SetupError(RuntimeError):
    """The set-up failed. The message says which step, why, and what to do."""


@dataclass(frozen=True)
class Step:
    """One step of a set-up.

    `inputs`, anything that JSON can hold, decide its fingerprint. `check` tests quickly whether the result
    exists. `run` makes the result, whatever an earlier attempt left behind.
    """

    name: str
    title: str
    inputs: object
    check: Callable[[], bool]
    run: Callable[[], None]

    @property
    def fingerprint(self) -> str:
        text = json.dumps([self.name, self.inputs], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_state(path: Path) -> dict[str, str]:
    """Fingerprints of the finished steps by name; empty when the file is missing or damaged."""
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def run_steps(steps: Iterable[Step], state_path: Path, say: Say = print) -> list[str]:
    """Run the steps that are not recorded with these inputs, or whose result is gone.

    A step is removed from the record before it runs and added after its check. So the next call repeats a
    step that was killed. Returns the names of the steps that ran. Raises SetupError.
    """
    ran = []
    for step in steps:
        state = read_state(state_path)
        if state.get(step.name) == step.fingerprint and step.check():
            continue
        if state.pop(step.name, None) is not None:
            atomic_write_bytes(state_path, json.dumps(state, indent=1).encode())
        started = time.monotonic()
        say(f"  {step.title} ...")
        step.run()
        if not step.check():
            raise SetupError(
                f"set-up step '{step.name}' ran, but its result is not there. "
                f"Run the command again. If that does not help, delete {state_path.parent} first."
            )
        state[step.name] = step.fingerprint
        atomic_write_bytes(state_path, json.dumps(state, indent=1).encode())
        say(f"  {step.title}: done in {time.monotonic() - started:.1f} s")
        ran.append(step.name)
    return ran


def forget(state_path: Path, names: Iterable[str]) -> None:
    """Remove steps from the record, so that the next run repeats them."""
    state = read_state(state_path)
    kept = {name: value for name, value in state.items() if name not in set(names)}
    if kept != state:
        atomic_write_bytes(state_path, json.dumps(kept, indent=1).encode())


def ends_with_parent() -> dict[str, Any]:
    """Options for subprocess that, on Linux, have the kernel end the child when this process dies.

    After SIGKILL or a lost terminal no server stays behind, and no pip runs beside that of the next call.
    """
    if sys.platform != "linux":
        return {}
    library, parent = ctypes.CDLL(None), os.getpid()

    def set_death_signal() -> None:
        # Children inherit that SIGTERM is ignored; SIGKILL cannot be ignored.
        library.prctl(1, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)  # the parent died before the call of prctl

    return {"preexec_fn": set_death_signal}


def try_lock(file: IO[bytes]) -> bool:
    """Lock an open file; False if another process holds the lock. It ends when the file is closed."""
    # mypy checks the branch of the platform it runs on, and knows sys.platform, but not os.name.
    if sys.platform == "win32":
        import msvcrt

        file.seek(0)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def exclusive(path: Path, say: Say = print) -> Iterator[None]:
    """Hold a lock on the file at `path`; a second process waits. The lock ends with the process."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+b") as file:
        if not try_lock(file):
            say("Another call is setting up the host: waiting for it ...")
            while not try_lock(file):
                time.sleep(0.05)
        yield
