"""The restore command: which picture is next, where its results go, and what is said about it."""

from __future__ import annotations

import contextlib
import errno
import shutil
import sys
import time
from argparse import Namespace
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .atomic import remove_partials, write_new
from .client import Progress
from .engine import OPTIONS, Engine, Outcome, Workflow, WorkflowError, read_workflow
from .pictures import Picture, explain, find_pictures, folder_problem, is_cut_off, read_source
from .results import RESULT_SUFFIXES, choose_target, part_key, request_key, with_key
from .server import ServerError
from .steps import SetupError

_NO_WRITING = {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR}


@dataclass(frozen=True)
class Job:
    """A picture that has to be restored: its `number` in this call, the file's bytes, and the key of its result."""

    number: int
    picture: Picture
    key: str
    data: bytes

    @property
    def name(self) -> str:
        return self.picture.source.name


class Batch:
    """The pictures of one call. `take` gives them one by one, `settle` takes what came of each. `blocked`: why nothing can be
    written into a folder of results; its pictures fail before they are restored.

    Several jobs may be under way at once. Pictures that share a name for their results (a.jpg and a.png) never are: so
    each gets the name that it gets when they are restored one after the other.
    """

    def __init__(self, pictures: list[Picture], workflow: Workflow, blocked: dict[Path, str] | None = None):
        self.workflow, self.total = workflow, len(pictures)
        self._blocked = dict(blocked or {})
        self._suffix = RESULT_SUFFIXES[workflow.options.get("format", "png")]
        self.done = self.skipped = self.failed = 0
        self._waiting = deque(enumerate(pictures, 1))
        self._running: set[Path] = set()
        self._taken: set[Path] = set()

    @property
    def left(self) -> int:
        """How many pictures have not been taken yet."""
        return len(self._waiting)

    def take(self) -> Job | None:
        """The next picture without a result; None when there is none now (`settle` may change that, while `left`)."""
        blocked = []
        try:
            while self._waiting:
                number, picture = self._waiting.popleft()
                if picture.target in self._running:
                    blocked.append((number, picture))
                    continue
                try:
                    job = self._open(number, picture)
                except (OSError, ValueError, MemoryError) as error:
                    self._fail(number, picture, explain(error))
                    continue
                if job:
                    self._running.add(picture.target)
                    return job
            return None
        finally:
            self._waiting.extendleft(reversed(blocked))

    def settle(self, job: Job, outcome: Outcome) -> None:
        """Write the pictures of a job that is done, and say what came of it. Raises WorkflowError for a refused one."""
        self._running.discard(job.picture.target)
        if outcome.fate != "done":
            self._fail(job.number, job.picture, outcome.text)
            if outcome.fate == "refused":
                raise WorkflowError("the server refuses this workflow or these options; stopping here.")
            return
        try:
            written = self._write(job, outcome.images)
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno in _NO_WRITING:
                # The pictures that follow would be computed for nothing.
                self._blocked[job.picture.target.parent] = explain(error)
            self._fail(job.number, job.picture, explain(error))
            return
        self.done += 1
        found = f"{outcome.text}\n  " if outcome.text else ""
        print(
            f"[{job.number}/{self.total}] {job.picture.source}: {found}{outcome.seconds:.1f} s -> {', '.join(map(str, written))}",
            flush=True,
        )

    def _open(self, number: int, picture: Picture) -> Job | None:
        """The job of a picture, None when its result is there already."""
        data = read_source(picture.source)
        key = request_key(picture.source.name, data, self.workflow.content, self.workflow.options)
        path, done = self._choose(picture, key)
        if done:
            self._taken.add(path)
            self.skipped += 1
            print(f"{picture.source}: skipped, {path} is there already", flush=True)
            return None
        if picture.target.parent in self._blocked:
            raise ValueError(self._blocked[picture.target.parent])
        if is_cut_off(data):
            print(
                f"{picture.source}: this file is cut off; what is missing is restored from nothing",
                flush=True,
            )
        return Job(number, picture, key, data)

    def _choose(self, picture: Picture, key: str) -> tuple[Path, bool]:
        return choose_target(picture.target, key, self._taken, self._suffix, picture.former)

    def _fail(self, number: int, picture: Picture, reason: str) -> None:
        self.failed += 1
        lines = "\n".join(f"  {line}" for line in reason.splitlines())
        print(f"[{number}/{self.total}] {picture.source}: FAILED\n{lines}", flush=True)

    def _write(self, job: Job, images: tuple[bytes, ...]) -> list[Path]:
        """Write the pictures under the next free names. The first one's key says that the result is there, so it is written
        last: a call that is killed in between is repeated, and finds by their own keys which of the others are there."""
        first, _ = self._choose(job.picture, job.key)
        self._taken.add(first)
        try:
            others = [
                self._place(job, image, part_key(job.key, number))
                for number, image in enumerate(images[1:], 1)
            ]
        finally:
            self._taken.discard(first)
        return [self._place(job, images[0], job.key), *others]

    def _place(self, job: Job, image: bytes, key: str) -> Path:
        data = with_key(image, key)
        while True:
            path, done = self._choose(job.picture, key)
            if not done:
                try:
                    write_new(path, data)
                except FileExistsError:
                    continue  # another program took the name meanwhile: choose the next
            self._taken.add(path)
            return path


@contextlib.contextmanager
def progress_bar(prompt: dict, name: str) -> Iterator[Callable[[Progress], None] | None]:
    """A progress bar on one terminal line; none where the output is no terminal."""
    if not sys.stdout or not sys.stdout.isatty():
        yield None
        return

    def show(progress: Progress) -> None:
        share = min(progress.done / max(progress.total, 1), 1.0)
        title = prompt.get(progress.node, {}).get("_meta", {}).get("title", "")
        steps = f" {progress.value:.0f}/{progress.maximum:.0f}" if progress.maximum > 1 else ""
        line = f"{name} [{'#' * round(share * 24):<24}] {share:4.0%} {title}{steps}"
        width = shutil.get_terminal_size().columns - 1
        print(f"\r{line[:width]:<{width}}", end="", flush=True)

    try:
        yield show
    finally:
        print(f"\r{'':<{shutil.get_terminal_size().columns - 1}}\r", end="", flush=True)


def run_here(root: Path, batch: Batch, device: str) -> None:
    """Restore a batch on this machine, with one server. Raises WorkflowError, SetupError or ServerError."""
    engine = Engine(root, batch.workflow, device, watch=progress_bar)
    try:
        while job := batch.take():
            outcome = engine.attempt(job.name, job.key, job.data)
            if outcome.fate == "died":
                # Perhaps for another reason than this picture, and between two of them.
                print(
                    f"{job.picture.source}: {outcome.text.splitlines()[0]} It is started anew, and the picture tried once more.",
                    flush=True,
                )
                outcome = engine.attempt(job.name, job.key, job.data)
            batch.settle(job, outcome)
    finally:
        engine.close()


def restore(root: Path, arguments: Namespace) -> int:
    """Run the command; returns its exit code: 0 when every picture has its result, 1 otherwise."""
    out = Path(arguments.out) if arguments.out else None
    problem = folder_problem(out) if out and not out.is_dir() else None
    if problem:
        print(f"Error: {problem}", flush=True)
        return 1
    pictures, remarks = find_pictures(arguments.pictures, out)
    for remark in remarks:
        print(remark, flush=True)
    if not pictures:
        print("Nothing to restore.", flush=True)
        return 1
    started = time.monotonic()
    options = {name: getattr(arguments, name) for name in OPTIONS if getattr(arguments, name) is not None}
    path = Path(arguments.workflow) if arguments.workflow else root / "workflows" / "restore.json"
    folders = {picture.target.parent for picture in pictures}
    remove_partials(folders)
    try:
        blocked = {folder: problem for folder in sorted(folders) if (problem := folder_problem(folder))}
        batch = Batch(pictures, read_workflow(path, options), blocked)
        if arguments.ray:
            from .ray_cluster import run_on_ray

            run_on_ray(root, batch, arguments.device, arguments.ray, arguments.workers)
        else:
            run_here(root, batch, arguments.device)
    except (WorkflowError, SetupError, ServerError) as error:
        print(f"Error: {error}", flush=True)
        return 1
    print(
        f"{batch.done} restored, {batch.skipped} skipped, {batch.failed} failed in {time.monotonic() - started:.1f} s",
        flush=True,
    )
    return (
        1
        if batch.failed or any("left alone" not in remark and "left out" not in remark for remark in remarks)
        else 0
    )
