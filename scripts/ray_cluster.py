"""Spreads the restore command over a Ray cluster: one worker per GPU, each a Ray actor that owns a ComfyUI server.

Pictures are read and results written by the machine that runs the command, so only it needs to see them. What every
machine of the cluster needs: this pack at the same path, with its `.host/` or the ComfyUI it lies in (a machine without
sets its own `.host/` up with the first call), Ray and Python of the same versions, and the cluster's token in
RAY_AUTH_TOKEN, which Ray asks for since 2.59. Nothing here imports Ray before it is asked for.
"""

from __future__ import annotations

import importlib
import logging
import os
import socket
import sys
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from .engine import Engine, Outcome, Workflow, WorkflowError
from .server import ServerError
from .steps import SetupError

if TYPE_CHECKING:
    from .restore import Batch, Job

# How often a picture is tried when its worker or server dies, and how often in a row a worker may die.
ATTEMPTS = 3
LOCAL = "local"


@dataclass(frozen=True)
class Slot:
    """A place for one worker: the cluster's id and name of a machine, the GPUs (0 or 1) and the processor cores (a
    fraction where workers share one) that are asked for there, and how many threads its server may use."""

    node: str
    machine: str
    gpus: int
    cores: float
    threads: int


def plan_slots(nodes: list[dict], device: str, workers: int | None) -> list[Slot]:
    """Where workers go, for the machines that `ray.nodes()` gives; `device` is "auto", "cpu" or "gpu".

    One per GPU. In a cluster without one (or with "cpu") one per four cores and 4 GiB of a machine, at least one: a
    ComfyUI uses several cores. `workers` asks for another number, dealt out machine by machine. Raises SetupError.
    """
    machines = [(node, node["Resources"]) for node in nodes if node["Alive"]]
    gpus = [0 if device == "cpu" else int(resources.get("GPU", 0)) for _, resources in machines]
    cores = [max(int(resources.get("CPU", 0)), 1) for _, resources in machines]
    if not any(gpus) and device == "gpu":
        raise SetupError(
            "--device gpu: no machine of this Ray cluster has a GPU that Ray knows of. Use --device auto or cpu."
        )
    if not machines:
        raise SetupError("this Ray cluster has no living machine")
    if any(gpus):
        if workers and workers > sum(gpus):
            raise SetupError(
                f"--workers {workers}: the cluster has {sum(gpus)} GPUs, and each worker needs one. "
                "Ask for fewer workers, or for --device cpu."
            )
        counts = _deal(workers or sum(gpus), gpus)
    else:
        memory = [int(resources.get("memory", 0) / 2**32) for _, resources in machines]
        counts = (
            _deal(workers, [workers] * len(machines))
            if workers
            else [max(min(c // 4, m), 1) for c, m in zip(cores, memory)]
        )
    slots = []
    for (node, _), has_gpu, available, count in zip(machines, gpus, cores, counts):
        share = (
            available // count
            if count and available >= count
            else int(10000 * available / max(count, 1)) / 10000
        )
        slot = Slot(
            node["NodeID"],
            node.get("NodeManagerHostname") or node["NodeID"][:8],
            min(has_gpu, 1),
            0 if has_gpu else share,
            max(int(share), 1),
        )
        slots += [slot] * count
    return slots


def _deal(count: int, places: list[int]) -> list[int]:
    """`count` things dealt out one by one to boxes with that many places each."""
    dealt = [0] * len(places)
    while sum(dealt) < count:
        for box, limit in enumerate(places):
            if dealt[box] < limit and sum(dealt) < count:
                dealt[box] += 1
    return dealt


class RestoreActor:
    """The actor: an `Engine` in a process of Ray's, on the machine and with the GPU that Ray gave it."""

    def __init__(self, root: str, workflow: Workflow, device: str, threads: int):
        # Ray allows a process one thread where no number was set; the server inherits this.
        os.environ["OMP_NUM_THREADS"] = str(threads)
        self.engine = Engine(Path(root), workflow, device)

    def start(self) -> str:
        """Start the server; returns the machine's name. Raises as `Engine.start`."""
        self.engine.start()
        return socket.gethostname()

    def attempt(self, name: str, key: str, data: bytes) -> Outcome:
        return self.engine.attempt(name, key, data)

    def stop(self) -> None:
        self.engine.close()


@dataclass(eq=False)
class Worker:
    """A slot, the actor in it now, and how often in a row its actor died."""

    slot: Slot
    actor: object = None
    deaths: int = 0


@dataclass
class WorkerPool:
    """The workers of one call and what each is doing: `calls` has the worker and the job (None: it starts) of each
    pending call, `tries` how often each picture's worker or server died."""

    ray: ModuleType
    root: Path
    batch: Batch
    device: str
    calls: dict = field(default_factory=dict)
    idle: deque[Worker] = field(default_factory=deque)
    workers: list[Worker] = field(default_factory=list)
    waiting: deque[Job] = field(default_factory=deque)
    tries: Counter = field(default_factory=Counter)

    def spawn(self, worker: Worker) -> None:
        """Put a new actor into a worker's slot."""
        slot = worker.slot
        near = self.ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(slot.node, soft=True)
        actor = self.ray.remote(RestoreActor).options(
            num_gpus=slot.gpus, num_cpus=slot.cores, scheduling_strategy=near
        )
        worker.actor = actor.remote(str(self.root), self.batch.workflow, self.device, slot.threads)
        self.calls[worker.actor.start.remote()] = worker, None
        if worker not in self.workers:
            self.workers.append(worker)

    def work(self) -> None:
        """Restore the rest of the batch. Raises WorkflowError, or SetupError when no worker is left."""
        told = False
        while True:
            while self.idle and (job := self.waiting.popleft() if self.waiting else self.batch.take()):
                worker = self.idle.popleft()
                self.calls[worker.actor.attempt.remote(job.name, job.key, job.data)] = worker, job
            busy = any(job for _, job in self.calls.values())
            if not (busy or self.waiting or self.batch.left):
                return
            if not self.calls:
                raise SetupError(
                    "no worker of the Ray cluster is left. The same call again goes on where this one stopped."
                )
            ready, _ = self.ray.wait(list(self.calls), timeout=60)
            if not ready and not busy and not told:
                told = True
                print(
                    "No worker has started yet: the cluster's devices are taken, or a machine sets its ComfyUI up.",
                    flush=True,
                )
            for call in ready:
                self._receive(call, *self.calls.pop(call))

    def _receive(self, call: object, worker: Worker, job: Job | None) -> None:
        errors = self.ray.exceptions
        try:
            value = self.ray.get(call)
        except errors.RayTaskError as error:
            if isinstance(error.cause, (SetupError, ServerError, OSError)):
                self._give_up(worker, str(error.cause))
                if job:
                    self.waiting.appendleft(job)
                return
            raise error.cause if isinstance(error.cause, WorkflowError) else error
        except errors.RayError as error:
            self._on_worker_death(worker, job, str(error).strip().splitlines()[0])
            return
        if job is None:
            print(f"A worker is ready on {value}", flush=True)
        elif value.fate == "died":
            self._again(job, value.text)
        else:
            worker.deaths = 0
            self.batch.settle(job, value)
        # The last in the queue: a picture that was in a server's death is taken by another worker first.
        self.idle.append(worker)

    def _on_worker_death(self, worker: Worker, job: Job | None, reason: str) -> None:
        """A worker's process is gone: start another in its place, and give its picture out again."""
        worker.deaths += 1
        if worker.deaths < ATTEMPTS:
            print(f"A worker on {worker.slot.machine} died; another one is started", flush=True)
            self.spawn(worker)
        else:
            self._give_up(worker, f"it died {worker.deaths} times in a row: {reason}")
        if job:
            self._again(job, f"The worker that restored this picture died {ATTEMPTS} times.\n{reason}")

    def _again(self, job: Job, reason: str) -> None:
        """Put a picture back, or let it fail when that has been done too often."""
        self.tries[job.number] += 1
        if self.tries[job.number] < ATTEMPTS:
            print(
                f"{job.picture.source}: its worker died and it is given to another; {reason.splitlines()[0]}",
                flush=True,
            )
            self.waiting.appendleft(job)
        else:
            self.batch.settle(job, Outcome("failed", text=reason))

    def _give_up(self, worker: Worker, reason: str) -> None:
        self.workers.remove(worker)
        self.ray.kill(worker.actor)
        print(f"A worker on {worker.slot.machine} is given up: {reason}", flush=True)

    def dismiss(self) -> None:
        """Let every worker stop its server, and end it."""
        stops = [worker.actor.stop.remote() for worker in self.workers]
        if stops:
            self.ray.wait(stops, num_returns=len(stops), timeout=10)
        for worker in self.workers:
            self.ray.kill(worker.actor)


def import_ray() -> ModuleType:
    """Ray, which is an optional extra. Raises SetupError with what to do when this Python lacks it."""
    # Ray reports its use to its makers unless told otherwise.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray = importlib.import_module("ray")
        importlib.import_module("ray.util.scheduling_strategies")
    except ImportError as error:
        raise SetupError(
            f"--ray needs Ray, which the Python of this call lacks ({error}). Install it there and call again:\n"
            f"  {sys.executable} -m pip install ray\nor leave --ray out: one server on this machine needs nothing more."
        ) from None
    return ray


def connect(ray: ModuleType, address: str) -> None:
    """Join the cluster at `address` ("auto" or HOST:PORT), or start one of this machine for LOCAL. Raises SetupError."""
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        host, _, port = address.rpartition(":")
        if host and port.isdigit() and "://" not in address:
            # Where nothing listens Ray itself would try for many minutes.
            socket.create_connection((host, int(port)), timeout=10).close()
        if address == LOCAL:
            quiet["include_dashboard"] = False
        ray.init(address=address, **quiet)
    except Exception as error:  # a start-up that takes too long is a plain Exception
        text = str(error).strip() or type(error).__name__
        if address == LOCAL:
            raise SetupError(f"--ray: Ray did not start on this machine: {text}") from None
        raise SetupError(
            f"--ray {address}: no connection to this Ray cluster: {text}\nThis machine must be one of the cluster's "
            "(ray start --address=HOST:PORT), with the same versions of Ray and Python, and have its token (RAY_AUTH_TOKEN)."
        ) from None


def run_on_ray(root: Path, batch: Batch, device: str, address: str, workers: int | None) -> None:
    """Restore a batch on a Ray cluster. Raises WorkflowError, SetupError or ServerError."""
    ray = import_ray()
    first = batch.take()
    if first is None:
        return  # everything is there: no cluster is started for that
    connect(ray, address)
    pool = WorkerPool(ray, root, batch, device, waiting=deque([first]))
    try:
        slots = plan_slots(ray.nodes(), device, workers)
        kind = "GPU" if slots[0].gpus else "CPU"
        for (machine, threads), count in Counter((slot.machine, slot.threads) for slot in slots).items():
            print(
                f"Ray: {count} {kind} worker{'s' * (count > 1)} with {threads} thread{'s' * (threads > 1)} on {machine}",
                flush=True,
            )
        for slot in slots:
            pool.spawn(Worker(slot))
        pool.work()
    finally:
        pool.dismiss()
        ray.shutdown()
