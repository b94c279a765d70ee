"""Spreads the restore command over a Ray cluster. Each worker is a Ray actor with a ComfyUI server of its
own.

The machine that runs the command reads the pictures and writes the results; no other needs access to them.
Every machine of the cluster needs this pack at the same path, Ray and Python of the same versions, and the
cluster's token in RAY_AUTH_TOKEN, which Ray requires since 2.59. A machine without a ComfyUI sets up its own
`.host/` with the first call. Ray is an optional dependency, imported only for `--ray`.
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
from typing import TYPE_CHECKING, Any

from .engine import Engine, Outcome, Workflow, WorkflowError
from .server import ServerError
from .steps import SetupError

if TYPE_CHECKING:
    from .restore import Batch, Job

ATTEMPTS = 3
"""A picture fails, and a worker is given up, after this many deaths (of a worker in a row)."""
LOCAL = "local"


@dataclass(frozen=True)
class Slot:
    """A place for one worker on a machine of the cluster.

    `node` and `machine` are the machine's id and name. `gpus` (0 or 1) and `cores` (a fraction where workers
    share a core) are reserved for the worker. `threads` is the number of threads of its server.
    """

    node: str
    machine: str
    gpus: int
    cores: float
    threads: int


def plan_slots(nodes: list[dict], device: str, workers: int | None) -> list[Slot]:
    """The places of workers on the machines that `ray.nodes()` lists. `device` is "auto", "cpu" or "gpu".

    There is one worker per GPU. In a cluster without a GPU, or for "cpu", a machine has one worker per four
    cores and 4 GiB of memory, and at least one, because a ComfyUI uses several cores. `workers` asks for
    another number, which is spread evenly over the machines. Raises SetupError.
    """
    machines = [(node, node["Resources"]) for node in nodes if node["Alive"]]
    gpus = [0 if device == "cpu" else int(resources.get("GPU", 0)) for _, resources in machines]
    cores = [max(int(resources.get("CPU", 0)), 1) for _, resources in machines]
    if not any(gpus) and device == "gpu":
        raise SetupError("--device gpu: no machine of this Ray cluster has a GPU. Use --device auto or cpu.")
    if not machines:
        raise SetupError("this Ray cluster has no living machine. Start one with `ray start`.")
    if any(gpus):
        if workers and workers > sum(gpus):
            raise SetupError(
                f"--workers {workers}: the cluster has {sum(gpus)} GPUs, and each worker needs one. "
                "Ask for fewer workers, or for --device cpu."
            )
        counts = _spread(workers or sum(gpus), gpus)
    else:
        memory = [int(resources.get("memory", 0) / 2**32) for _, resources in machines]
        counts = (
            _spread(workers, [workers] * len(machines))
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


def _spread(count: int, limits: list[int]) -> list[int]:
    """How many of `count` workers each machine gets in turn, when machine `i` takes at most `limits[i]`."""
    counts = [0] * len(limits)
    while sum(counts) < count:
        for machine, limit in enumerate(limits):
            if counts[machine] < limit and sum(counts) < count:
                counts[machine] += 1
    return counts


class RestoreActor:
    """A Ray actor with an `Engine`, on the machine and with the GPU that Ray chose."""

    def __init__(self, root: str, workflow: Workflow, device: str, threads: int):
        # Unless the number of threads is set, Ray allows a process one. The server inherits this number.
        os.environ["OMP_NUM_THREADS"] = str(threads)
        self.engine = Engine(Path(root), workflow, device)

    def start(self) -> str:
        """Start the server. Returns the machine's name. Raises as `Engine.start` does."""
        self.engine.start()
        return socket.gethostname()

    def attempt(self, name: str, key: str, data: bytes) -> Outcome:
        """Restore a picture, as `Engine.attempt` does."""
        return self.engine.attempt(name, key, data)

    def stop(self) -> None:
        """Stop the server."""
        self.engine.close()


@dataclass(eq=False)
class Worker:
    """A slot, the Ray handle of the actor that is in it now, and how often in a row an actor died there."""

    slot: Slot
    actor: Any = None
    deaths: int = 0


@dataclass
class WorkerPool:
    """The workers of one call of the command.

    `calls` holds the worker and the job of every pending Ray call; the job is None while the worker starts.
    `idle` workers have no job. `waiting` jobs were taken from the batch and need a worker. `tries` counts by
    picture how often its worker or server died.
    """

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
        """Start a new actor in a worker's slot."""
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
        announced = False
        while True:
            while self.idle and (job := self.waiting.popleft() if self.waiting else self.batch.take()):
                worker = self.idle.popleft()
                self.calls[worker.actor.attempt.remote(job.name, job.key, job.data)] = worker, job
            busy = any(job for _, job in self.calls.values())
            if not (busy or self.waiting or self.batch.left):
                return
            if not self.calls:
                raise SetupError(
                    "no worker of the Ray cluster is left. "
                    "Run the same command again: it continues where this one stopped."
                )
            ready, _ = self.ray.wait(list(self.calls), timeout=60)
            if not ready and not busy and not announced:
                announced = True
                print(
                    "No worker has started yet. "
                    "The cluster's devices are in use, or a machine is setting up its ComfyUI.",
                    flush=True,
                )
            for call in ready:
                self._receive(call, *self.calls.pop(call))

    def _receive(self, call: object, worker: Worker, job: Job | None) -> None:
        """Take the result of a finished Ray call: a started worker, or the outcome of a job."""
        errors = self.ray.exceptions
        try:
            value = self.ray.get(call)
        except errors.RayTaskError as error:
            if isinstance(error.cause, WorkflowError):
                raise error.cause from None
            if not isinstance(error.cause, (SetupError, ServerError, OSError)):
                raise
            self._give_up(worker, str(error.cause))
            if job:
                self.waiting.appendleft(job)
            return
        except errors.RayError as error:
            self._on_worker_death(worker, job, str(error).strip().splitlines()[0])
            return
        if job is None:
            print(f"A worker is ready on {value}", flush=True)
        elif value.fate == "died":
            self._retry(job, value.text)
        else:
            worker.deaths = 0
            self.batch.settle(job, value)
        # At the end of the queue: another worker retries a picture whose server died.
        self.idle.append(worker)

    def _on_worker_death(self, worker: Worker, job: Job | None, reason: str) -> None:
        """Start another actor in the place of a dead one, and retry its picture."""
        worker.deaths += 1
        if worker.deaths < ATTEMPTS:
            print(f"A worker on {worker.slot.machine} died; another one starts in its place", flush=True)
            self.spawn(worker)
        else:
            self._give_up(worker, f"it died {worker.deaths} times in a row: {reason}")
        if job:
            self._retry(job, f"The worker that restored this picture died {ATTEMPTS} times.\n{reason}")

    def _retry(self, job: Job, reason: str) -> None:
        """Put a picture back into the queue. After `ATTEMPTS` deaths it fails."""
        self.tries[job.number] += 1
        if self.tries[job.number] < ATTEMPTS:
            print(
                f"{job.picture.source}: its worker died, and another one tries it. {reason.splitlines()[0]}",
                flush=True,
            )
            self.waiting.appendleft(job)
        else:
            self.batch.settle(job, Outcome("failed", text=reason))

    def _give_up(self, worker: Worker, reason: str) -> None:
        """Go on without a worker."""
        self.workers.remove(worker)
        self.ray.kill(worker.actor)
        print(f"Going on without a worker on {worker.slot.machine}: {reason}", flush=True)

    def shut_down(self) -> None:
        """Have every worker stop its server, then end the workers."""
        stops = [worker.actor.stop.remote() for worker in self.workers]
        if stops:
            self.ray.wait(stops, num_returns=len(stops), timeout=10)
        for worker in self.workers:
            self.ray.kill(worker.actor)


def import_ray() -> ModuleType:
    """Import Ray, an optional dependency. Raises SetupError when this Python lacks it."""
    # By default Ray sends usage statistics to its makers.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray = importlib.import_module("ray")
        importlib.import_module("ray.util.scheduling_strategies")
    except ImportError as error:
        raise SetupError(
            f"--ray needs Ray, which this Python lacks ({error}). Install it and run the command again:\n"
            f"  {sys.executable} -m pip install ray\n"
            "Without --ray one server on this machine restores the pictures, and nothing more is needed."
        ) from None
    return ray


def connect(ray: ModuleType, address: str) -> None:
    """Join the cluster at `address` ("auto" or HOST:PORT); for `LOCAL` start one on this machine.

    Raises SetupError.
    """
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        host, _, port = address.rpartition(":")
        if host and port.isdigit() and "://" not in address:
            # Where nothing listens, Ray itself would try for many minutes.
            socket.create_connection((host, int(port)), timeout=10).close()
        if address == LOCAL:
            quiet["include_dashboard"] = False
        ray.init(address=address, **quiet)
    except Exception as error:  # Ray raises a plain Exception when its start takes too long
        text = str(error).strip() or type(error).__name__
        if address == LOCAL:
            raise SetupError(f"--ray: Ray did not start on this machine: {text}") from None
        raise SetupError(
            f"--ray {address}: no connection to this Ray cluster: {text}\n"
            "This machine must belong to the cluster (ray start --address=HOST:PORT), have the same versions "
            "of Ray and Python, and the cluster's token in RAY_AUTH_TOKEN."
        ) from None


def run_on_ray(root: Path, batch: Batch, device: str, address: str, workers: int | None) -> None:
    """Restore a batch on a Ray cluster. Raises WorkflowError, SetupError or ServerError."""
    ray = import_ray()
    first = batch.take()
    if first is None:
        return  # every result exists already, so no cluster is needed
    connect(ray, address)
    pool = WorkerPool(ray, root, batch, device, waiting=deque([first]))
    try:
        slots = plan_slots(ray.nodes(), device, workers)
        kind = "GPU" if slots[0].gpus else "CPU"
        for (machine, threads), count in Counter((slot.machine, slot.threads) for slot in slots).items():
            workers_text = f"{count} {kind} worker{'s' * (count > 1)}"
            print(f"Ray: {workers_text} with {threads} thread{'s' * (threads > 1)} on {machine}", flush=True)
        for slot in slots:
            pool.spawn(Worker(slot))
        pool.work()
    finally:
        pool.shut_down()
        ray.shutdown()
