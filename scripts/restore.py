"""The restore command: which picture is next, where its results go, and what is said about it."""

from __future__ import annotations

import contextlib
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
from .results import Picture, choose_target, find_pictures, is_cut_off, part_key, remove_partials, request_key, with_key, write_new
from .server import ServerError
from .steps import SetupError


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
    """The pictures of one call. `take` gives them one by one, `settle` takes what came of each.

    Several jobs may be under way at once. Pictures that share a name for their results (a.jpg and a.png) never are: so
    each gets the name that it gets when they are restored one after the other.
    """

    def __init__(self, pictures: list[Picture], workflow: Workflow):
        self.workflow, self.total = workflow, len(pictures)
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
                except (OSError, ValueError) as error:
                    self._fail(number, picture, str(error) or type(error).__name__)
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
            self._fail(job.number, job.picture, str(error) or type(error).__name__)
            return
        self.done += 1
        found = f"{outcome.text}\n  " if outcome.text else ""
        print(f"[{job.number}/{self.total}] {job.picture.source}: {found}{outcome.seconds:.1f} s -> {', '.join(map(str, written))}", flush=True)

    def _open(self, number: int, picture: Picture) -> Job | None:
        """The job of a picture, None when its result is there already."""
        data = picture.source.read_bytes()
        if not data:
            raise ValueError("the file is empty")
        key = request_key(picture.source.name, data, self.workflow.content, self.workflow.options)
        path, done = choose_target(picture.target, key, self._taken)
        if done:
            self._taken.add(path)
            self.skipped += 1
            print(f"{picture.source}: skipped, {path} is there already", flush=True)
            return None
        if is_cut_off(data):
            print(f"{picture.source}: this file is cut off; what is missing is restored from nothing", flush=True)
        return Job(number, picture, key, data)

    def _fail(self, number: int, picture: Picture, reason: str) -> None:
        self.failed += 1
        lines = "\n".join(f"  {line}" for line in reason.splitlines())
        print(f"[{number}/{self.total}] {picture.source}: FAILED\n{lines}", flush=True)

    def _write(self, job: Job, images: tuple[bytes, ...]) -> list[Path]:
        """Write the pictures under the next free names. The first one's key says that the result is there, so it is written
        last: a call that is killed in between is repeated, and finds by their own keys which of the others are there."""
        first, _ = choose_target(job.picture.target, job.key, self._taken)
        self._taken.add(first)
        try:
            others = [self._place(job, image, part_key(job.key, number)) for number, image in enumerate(images[1:], 1)]
        finally:
            self._taken.discard(first)
        return [self._place(job, images[0], job.key), *others]

    def _place(self, job: Job, image: bytes, key: str) -> Path:
        data = with_key(image, key)
        while True:
            path, done = choose_target(job.picture.target, key, self._taken)
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
    if not sys.stdout.isatty():
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
            batch.settle(job, engine.attempt(job.name, job.key, job.data))
    finally:
        engine.close()


def restore(root: Path, arguments: Namespace) -> int:
    """Run the command; returns its exit code: 0 when every picture has its result, 1 otherwise."""
    pictures, remarks = find_pictures(arguments.pictures, Path(arguments.out) if arguments.out else None)
    for remark in remarks:
        print(remark, flush=True)
    if not pictures:
        print("Nothing to restore.", flush=True)
        return 1
    started = time.monotonic()
    options = {name: getattr(arguments, name) for name in OPTIONS if getattr(arguments, name) is not None}
    path = Path(arguments.workflow) if arguments.workflow else root / "workflows" / "restore.json"
    remove_partials({picture.target.parent for picture in pictures})
    try:
        batch = Batch(pictures, read_workflow(path, options))
        if arguments.ray:
            from .ray_cluster import run_on_ray

            run_on_ray(root, batch, arguments.device, arguments.ray, arguments.workers)
        else:
            run_here(root, batch, arguments.device)
    except (WorkflowError, SetupError, ServerError) as error:
        print(f"Error: {error}", flush=True)
        return 1
    print(f"{batch.done} restored, {batch.skipped} skipped, {batch.failed} failed in {time.monotonic() - started:.1f} s", flush=True)
    return 1 if batch.failed or any("left alone" not in remark for remark in remarks) else 0
