"""A set-up as a list of recorded steps: each runs once, is checked by its result, and is run again when either says so."""

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
from typing import IO

from .atomic import write_atomic

Say = Callable[[str], None]


class SetupError(RuntimeError):
    """A set-up step failed; the message says which, why and what to do."""


@dataclass(frozen=True)
class Step:
    """One step: `inputs` (anything json can hold) decide its fingerprint, `check` looks cheaply whether its result
    is there, `run` makes that result from whatever a broken earlier attempt left."""

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
    """Names and fingerprints of the finished steps; empty when the file is missing or damaged."""
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def run_steps(steps: Iterable[Step], state_path: Path, say: Say = print) -> list[str]:
    """Run the steps that are not recorded as done with these inputs, or whose result is gone.

    A step is struck from the record before it runs and entered after its check, so a run that dies in between is
    repeated by the next call. Returns the names of the steps that ran. Raises SetupError.
    """
    ran = []
    for step in steps:
        state = read_state(state_path)
        if state.get(step.name) == step.fingerprint and step.check():
            continue
        if state.pop(step.name, None) is not None:
            write_atomic(state_path, json.dumps(state, indent=1).encode())
        started = time.monotonic()
        say(f"  {step.title} ...")
        step.run()
        if not step.check():
            raise SetupError(
                f"set-up step '{step.name}' ran, but its result is not there. "
                f"Run the command again; if that does not help, delete {state_path.parent} first."
            )
        state[step.name] = step.fingerprint
        write_atomic(state_path, json.dumps(state, indent=1).encode())
        say(f"  {step.title}: done in {time.monotonic() - started:.1f} s")
        ran.append(step.name)
    return ran


def forget(state_path: Path, names: Iterable[str]) -> None:
    """Strike steps from the record so that the next run does them again."""
    state = read_state(state_path)
    kept = {name: value for name, value in state.items() if name not in set(names)}
    if kept != state:
        write_atomic(state_path, json.dumps(kept, indent=1).encode())


def ends_with_parent() -> dict:
    """Options for subprocess so that, on Linux, the kernel ends the child when this process dies without doing it
    itself (SIGKILL, a lost terminal): no server stays behind, and no pip works beside the next call's."""
    if sys.platform != "linux":
        return {}
    library, parent = ctypes.CDLL(None), os.getpid()

    def set_death_signal() -> None:
        # SIGKILL: SIGTERM may be ignored, which children inherit.
        library.prctl(1, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)  # the parent died before the kernel was asked

    return {"preexec_fn": set_death_signal}


def try_lock(file: IO[bytes]) -> bool:
    """Lock an open file unless another process holds its lock; the system frees it when the holder closes it or dies."""
    if os.name == "nt":
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
    """Hold a lock on the file at `path`; a second process waits. The system frees it when the holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+b") as file:
        if not try_lock(file):
            say("Another call is setting up the host: waiting for it ...")
            while not try_lock(file):
                time.sleep(0.05)
        yield
