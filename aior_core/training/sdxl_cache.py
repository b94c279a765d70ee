"""What the frozen networks of SDXL's stages give for a fixed set of samples, computed once and kept on disk.

A sample is a crop with its damage. It follows from the seed and its number alone, so another run, another
stage or a larger set reuses the files. A file's name is a hash of everything that its values depend on.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from . import data, distributed
from .pairs import Pairs
from .precision import fast_dtype
from .restoration import Batch, Plan, damaged, draw_plan
from .sdxl import SDXLNetworks
from .seeds import seeded

PACK = Path(__file__).resolve().parents[1]
SOURCES = (
    *sorted((PACK / "degradations").rglob("*.py")),
    *(PACK / "training" / name for name in ("data.py", "restoration.py")),
)
"""The code that makes crops and damages. An edit there makes other pictures from the same recipes."""


@dataclass(frozen=True)
class Sample:
    """A crop of a photograph or of a real pair, and the plan for its damage."""

    cut: data.Cut
    plan: Plan


@dataclass(frozen=True)
class Sources:
    """Where samples come from: photographs, and real pairs for a share of `pair_share`. Crops are `size`
    pixels a side."""

    photographs: data.Photographs
    size: int
    seed: int = 0
    pairs: Pairs | None = None
    pair_share: float = 0.0

    def draw(self, number: int) -> Sample:
        """Sample `number`, which is always the same."""
        generator = seeded(self.seed, number)
        real = self.pairs is not None and torch.rand((), generator=generator).item() < self.pair_share
        photographs = self.photographs if self.pairs is None or not real else self.pairs.gt
        cut = data.draw_cut(photographs, self.size, generator, faithful=real)
        return Sample(cut, Plan(real=True) if real else draw_plan(generator))

    def of(self, sample: Sample, *, lq: bool = False) -> data.Photographs:
        """The photographs from which a sample is cut. lq: those of its damaged picture."""
        if not sample.plan.real or self.pairs is None:
            return self.photographs
        return self.pairs.lq if lq else self.pairs.gt

    def batch(self, samples: list[Sample], device: str) -> Batch:
        """The pictures of the samples."""
        clean = data.stack_crops([data.take(self.of(sample), sample.cut, self.size) for sample in samples])
        lq = data.stack_crops(
            [data.take(self.of(sample, lq=True), sample.cut, self.size) for sample in samples]
        )
        return damaged(clean.to(device), [sample.plan for sample in samples], lq.to(device))


class Cache:
    """Latents and LQ features of `count` samples in `folder`, for frozen networks.

    Values are stored in the dtype in which they are computed, so nothing is rounded. The LQ encoder's weights
    are rounded to fp16 before its features are computed, because an exported file stores fp16, and the next
    stage may start from that file.
    """

    def __init__(
        self,
        folder: Path,
        networks: SDXLNetworks,
        sources: Sources,
        count: int,
        device: str,
        say: Callable[[str], None] = print,
    ):
        self.folder, self.networks, self.sources, self.count, self.device, self.say = (
            folder,
            networks,
            sources,
            count,
            device,
            say,
        )
        folder.mkdir(parents=True, exist_ok=True)
        self._hashes: dict[tuple[bool, bool, int], str] = {}

    def draw(self, count: int, size: int, generator: torch.Generator) -> tuple[Held, dict]:
        """This process's rows of `count` random samples, as `loop.train` takes them."""
        numbers = torch.randint(self.count, (count,), generator=generator)[distributed.rows(count)]
        return self.held(numbers.tolist()), {}

    def held(self, numbers: list[int]) -> Held:
        return Held(self, tuple(self.sources.draw(number) for number in numbers))

    def values(self, kind: str, samples: tuple[Sample, ...], batch: Callable[[], Batch]) -> Tensor:
        """The values of `kind` for `samples`, stacked. Missing ones are computed from the rows of `batch()`
        and written.

        kind: "target" or "lq" for latents, "feature" for the LQ encoder's deepest feature.
        """
        described = [self._describe(kind, sample) for sample in samples]
        read = [self._read(kind, text) for text in described]
        found = {row: value for row, value in enumerate(read) if value is not None}
        missing = [row for row in range(len(samples)) if row not in found]
        if missing:
            made = self._make(kind, batch(), missing)
            for row, value in zip(missing, made.cpu(), strict=True):
                found[row] = value
                self._write(kind, described[row], value)
        return torch.stack([found[row] for row in range(len(samples))]).to(self.device)

    @torch.no_grad()
    def _make(self, kind: str, batch: Batch, rows: list[int]) -> Tensor:
        if kind == "feature":
            return self.networks.prior.trunk(batch.lq[rows])[-1]
        return self.networks.base.encode(getattr(batch, kind)[rows])

    def path(self, kind: str, described: str) -> Path:
        return self.folder / f"{kind}-{hashlib.sha256(described.encode()).hexdigest()[:32]}.safetensors"

    def _read(self, kind: str, described: str) -> Tensor | None:
        path = self.path(kind, described)
        if not path.exists():
            return None
        try:
            with safe_open(path, "pt") as file:
                return file.get_tensor("value") if file.metadata() == {"of": described} else None
        except SafetensorError as error:
            self.say(f"cache: {path} is broken ({error}); it is made again")
            return None

    def _write(self, kind: str, described: str, value: Tensor) -> None:
        path = self.path(kind, described)
        part = path.with_suffix(f".{os.getpid()}.part")
        try:
            save_file({"value": value.contiguous()}, part, metadata={"of": described})
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)

    def _describe(self, kind: str, sample: Sample) -> str:
        """Everything that a value depends on, as JSON."""
        plan, lq = sample.plan, kind != "target"
        recipe = plan.recipe if lq else plan.recipe.only(plan.kept)
        feature = kind == "feature"
        described = {
            "kind": "feature" if feature else "latent",
            "picture": self._picture(sample, lq),
            "cut": _cut(sample.cut),
            "size": self.sources.size,
            "recipe": recipe.to_json(),
            "look": plan.look.to_json(),
            "network": self._trunk if feature else self._vae,
            "dtype": str(fast_dtype(self.device)),
            "code": _code(),
        }
        return json.dumps(described, sort_keys=True)

    def _picture(self, sample: Sample, lq: bool) -> str:
        key = (sample.plan.real, lq and sample.plan.real, sample.cut.picture)
        if key not in self._hashes:
            pixels = self.sources.of(sample, lq=lq).pictures[sample.cut.picture]
            self._hashes[key] = hash_of({"pixels": pixels})
        return self._hashes[key]

    @functools.cached_property
    def _vae(self) -> str:
        return hash_of(self.networks.base.vae.state_dict())

    @functools.cached_property
    def _trunk(self) -> str:
        # Not when the cache is made: a run that goes on gets its weights after that.
        trunk = self.networks.prior.trunk
        if any(parameter.requires_grad for parameter in trunk.parameters()):
            raise RuntimeError("cache: the LQ encoder learns in this stage, so its features cannot be kept")
        _round(trunk)
        return hash_of(trunk.state_dict())


class Held:
    """Samples of a cache. Values on disk are read, and pictures are made only on demand."""

    def __init__(self, cache: Cache, samples: tuple[Sample, ...]):
        self.cache, self.samples = cache, samples

    @functools.cached_property
    def batch(self) -> Batch:
        return self.cache.sources.batch(list(self.samples), self.cache.device)

    def latent(self, which: str) -> Tensor:
        return self.cache.values(which, self.samples, lambda: self.batch)

    def feature(self) -> Tensor:
        return self.cache.values("feature", self.samples, lambda: self.batch)


@torch.no_grad()
def _round(network: nn.Module) -> None:
    for parameter in network.parameters():
        parameter.copy_(parameter.half())


def hash_of(tensors: dict[str, Tensor]) -> str:
    """SHA-256 of the names, dtypes, shapes and bytes of tensors."""
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


@functools.cache
def _code() -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in SOURCES)).hexdigest()


def _cut(cut: data.Cut) -> dict[str, Any]:
    described = asdict(cut)
    return described | {"picture": None, "gains": None if cut.gains is None else cut.gains.flatten().tolist()}
