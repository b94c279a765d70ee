"""The restore command: takes the pictures in turn, writes their results, and reports on each."""

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

from .client import Progress
from .engine import OPTIONS, Engine, Outcome, Workflow, WorkflowError, read_workflow
from .new_file import remove_partials, write_new
from .pictures import LeftOut, Picture, explain, find_pictures, folder_problem, is_cut_off, read_source
from .results import RESULT_SUFFIXES, choose_target, part_key, request_key, with_key
from .server import ServerError
from .steps import SetupError

_NO_WRITING = {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR}


@dataclass(frozen=True)
class Job:
    """A picture to restore, with its `number` in this call, the key of its result, and the file's bytes."""

    number: int
    picture: Picture
    key: str
    data: bytes

    @property
    def name(self) -> str:
        return self.picture.source.name


class Batch:
    """The pictures of one call. `take` hands them out one by one, and `settle` takes the outcome of each.

    `blocked` holds folders for results that cannot be written to, with the reason. Their pictures fail before
    they are restored. Several jobs may run at once, but not two whose results share a name (a.png of two
    folders). So each gets the same name as when the pictures are restored one after the other.
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
        """Number of pictures that have not been taken yet."""
        return len(self._waiting)

    def take(self) -> Job | None:
        """The next picture without a result; None when no picture can be taken before the next `settle`."""
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
        """Report the outcome of a job, and write its results. Raises WorkflowError when it was refused."""
        self._running.discard(job.picture.target)
        if outcome.fate != "done":
            self._fail(job.number, job.picture, outcome.text)
            if outcome.fate == "refused":
                raise WorkflowError(
                    "the server refuses this workflow or its options, so no picture can be restored."
                )
            return
        try:
            written = self._write(job, outcome.images)
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno in _NO_WRITING:
                # Without this, the following pictures would be computed for nothing.
                self._blocked[job.picture.target.parent] = explain(error)
            self._fail(job.number, job.picture, explain(error))
            return
        self.done += 1
        found = f"{outcome.text}\n  " if outcome.text else ""
        said = f"{found}{outcome.seconds:.1f} s -> {', '.join(map(str, written))}"
        print(f"[{job.number}/{self.total}] {job.picture.source}: {said}", flush=True)

    def _open(self, number: int, picture: Picture) -> Job | None:
        """The job of a picture; None when its result exists already."""
        data = read_source(picture.source)
        key = request_key(picture.source.name, data, self.workflow.content, self.workflow.options)
        path, done = self._choose(picture, key)
        if done:
            self._taken.add(path)
            self.skipped += 1
            print(f"{picture.source}: skipped, {path} exists already", flush=True)
            return None
        if picture.target.parent in self._blocked:
            raise ValueError(self._blocked[picture.target.parent])
        if is_cut_off(data):
            print(
                f"{picture.source}: this file is cut off; its missing part cannot be restored",
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
        """Write the result files under the next free names.

        The first one is written last, because its key marks the result as complete. After a kill in between,
        the next call restores the picture again and finds the other files by their own keys.
        """
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
                    continue  # another program has taken the name meanwhile: choose the next one
            self._taken.add(path)
            return path


@contextlib.contextmanager
def progress_bar(prompt: dict, name: str) -> Iterator[Callable[[Progress], None] | None]:
    """A progress bar on one line of the terminal; nothing when the output is no terminal."""
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
    """Restore a batch on this machine with one server. Raises WorkflowError, SetupError or ServerError."""
    engine = Engine(root, batch.workflow, device, watch=progress_bar)
    try:
        while job := batch.take():
            outcome = engine.attempt(job.name, job.key, job.data)
            if outcome.fate == "died":
                # The picture may not be the reason.
                said = f"{outcome.text.splitlines()[0]} It starts again, and this picture is tried once more."
                print(f"{job.picture.source}: {said}", flush=True)
                outcome = engine.attempt(job.name, job.key, job.data)
            batch.settle(job, outcome)
    finally:
        engine.close()


def restore(root: Path, arguments: Namespace) -> int:
    """Run the command. Returns its exit code: 0 when every picture has its result, otherwise 1."""
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
    seconds = time.monotonic() - started
    print(
        f"{batch.done} restored, {batch.skipped} skipped, {batch.failed} failed in {seconds:.1f} s",
        flush=True,
    )
    return 1 if batch.failed or any(not isinstance(remark, LeftOut) for remark in remarks) else 0
