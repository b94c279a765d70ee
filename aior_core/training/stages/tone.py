"""The stage `tone`: DAEM's tone curve learns how damage changes the tones of whole pictures.

The curve sees sixty numbers of a picture, and no other network is involved. So most of the stage's time goes
into damaging pictures and measuring those numbers (about a hundred pictures a second on a processor), and the
rest into fitting the curve to them. The numbers are kept in files beside the checkpoint, so that the same
command resumes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from ...atomic import atomic_write
from ...degradations import degrade_batch, sample_world, shares
from ...metrics import as_8bit
from ...models.tone_curve import SMALLEST, ToneCurve, appearance, cells, tones
from .. import checkpoint, data, distributed
from ..losses import PRESENT
from ..networks import Networks
from ..seeds import seeded

EXPORTS = ("daem.curve",)
SIDE = 128
GATHERING = 0.8
"""Share of the stage's time that goes into measuring pictures; the rest goes into fitting."""
MIX = shares("tone")
COUNTS = (0.10, 0.40, 0.38, 0.12)
"""Shares of pictures with 0, 1, 2 and 3 damages."""
SPATIAL = 0.05
ROUNDED = 0.6
"""Share of damaged pictures that are rounded to 8 bits, as pictures from files are."""
SHARD = 4096
"""Pictures in one file."""
ERROR_FLOOR = 3e-4
"""Squared error of tones below which nobody sees a difference: 35 dB."""


@dataclass(frozen=True)
class FitOptions:
    """How the curve is fitted: passes over the pictures, pictures per step, and AdamW's peak learning rate
    and weight decay."""

    epochs: int
    batch: int
    rate: float
    decay: float


FIT = FitOptions(epochs=20, batch=256, rate=2e-3, decay=1e-2)


def train_tone(
    networks: Networks,
    photographs: data.Photographs,
    out: Path,
    *,
    minutes: float,
    seed: int,
    say: Callable[[str], None],
) -> None:
    """Run the whole stage on the CPU and write `tone.safetensors` into `out`. All processes measure pictures;
    the first one fits."""
    folder, seconds, curve = out / "tone", 60 * minutes, networks.daem.curve
    if curve is None:
        raise ValueError("training: these networks have no tone curve; the stage tone trains nothing else")

    def source(number: int) -> Iterator[dict[str, Tensor]]:
        return measurements(photographs, seeded(seed, "tone", distributed.rank(), number))

    gather(source, folder, GATHERING * seconds, say)
    distributed.broadcast_object(True)  # waits for all processes
    if distributed.rank() == 0:
        samples, generator = load_measurements(folder), torch.Generator().manual_seed(seed + 1)
        loss = fit(curve, samples, generator)
        say(f"tone: fitted to {len(samples['tones'])} pictures, loss {loss:.3f}")
        fitted = {f"daem.curve.{key}": value for key, value in curve.state_dict().items()}
        checkpoint.save(
            out / "tone.safetensors", networks, fitted, {"step": 0, "seconds": seconds}, generator
        )


def measurements(photographs: data.Photographs, generator: torch.Generator) -> Iterator[dict[str, Tensor]]:
    """Endless batches of sixteen damaged pictures: their `appearance` `16 60`, the `tones` `16 27` of the
    undamaged pictures, and the `severities` `16 K`.

    Each photograph is damaged in two ways. It is seen as a whole as often as close up, because tones are a
    property of whole pictures.
    """
    while True:
        clean = torch.stack([_view(photographs, generator) for _ in range(8)]).repeat_interleave(2, dim=0)
        recipes = [
            sample_world(generator, weights=MIX, spatial=SPATIAL, count_weights=COUNTS)
            for _ in range(len(clean))
        ]
        lq, severities, _ = degrade_batch(clean, recipes)
        yield {
            "appearance": appearance((as_filed(lq, generator) + 1) / 2),
            "tones": tones(cells((clean + 1) / 2)),
            "severities": severities,
        }


def _view(photographs: data.Photographs, generator: torch.Generator) -> Tensor:
    """A square of a photograph, of any size, as `3 128 128` in -1..1. Flat crops are taken as they are
    drawn."""
    cut = data.draw_cut(photographs, SIDE, generator)
    if cut.flat is not None:
        return data.take(photographs, cut, SIDE)
    height, width = photographs.pictures[cut.picture].shape[1:]
    roll, down, right = torch.rand(3, generator=generator).tolist()
    side = int(SIDE * (min(height, width) / SIDE) ** roll)
    top, left = int(down * (height - side + 1)), int(right * (width - side + 1))
    return data.take(photographs, replace(cut, side=side, top=top, left=left, turns=0), SIDE)


def as_filed(lq: Tensor, generator: torch.Generator) -> Tensor:
    """A damaged picture or a batch of them, rounded to 8 bits with the probability `ROUNDED`."""
    return as_8bit(lq) if torch.rand((), generator=generator).item() < ROUNDED else lq


@torch.no_grad()
def gather(
    source: Callable[[int], Iterator[dict[str, Tensor]]],
    folder: Path,
    seconds: float,
    say: Callable[[str], None],
) -> None:
    """Write what `source(number)` yields into shard `number` in `folder`, until all shards together took
    `seconds`. Shards that are there already count.

    The number alone decides what is in a shard, so a run that was killed makes the same shards. Tensors are
    stored in fp16.
    """
    folder.mkdir(parents=True, exist_ok=True)
    prefix = f"looked-{distributed.rank()}-"
    spent = [_seconds(path) for path in folder.glob(f"{prefix}*.safetensors")]
    used, number = sum(spent), len(spent)
    while used < seconds:
        path = folder / f"{prefix}{number}.safetensors"
        tensors, took = _measured_shard(source(number), seconds - used)
        _write_shard(path, tensors, took)
        used, number = used + took, number + 1
        count = len(tensors["appearance"])
        say(f"tone: looked {used / 60:.1f} of {seconds / 60:.1f} min, {count} pictures in {path.name}")


def _measured_shard(batches: Iterator[dict[str, Tensor]], seconds: float) -> tuple[dict[str, Tensor], float]:
    """At least one batch, then as many as make a whole shard or as fit into `seconds`; and the seconds
    taken."""
    rows: list[dict[str, Tensor]] = []
    begun, count = time.monotonic(), 0
    while not rows or (count < SHARD and time.monotonic() - begun < seconds):
        rows.append(next(batches))
        count += len(rows[-1]["appearance"])
    took = time.monotonic() - begun
    return {key: torch.cat([row[key] for row in rows]).half().contiguous() for key in rows[0]}, took


def _write_shard(path: Path, tensors: dict[str, Tensor], seconds: float) -> None:
    metadata = {"seconds": json.dumps(seconds)}
    atomic_write(path, lambda partial: save_file(tensors, partial, metadata=metadata))


def _seconds(path: Path) -> float:
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["seconds"])


def load_measurements(folder: Path) -> dict[str, Tensor]:
    """All shards of all processes, in fp32. Raises ValueError if there are none."""
    parts = []
    for path in sorted(folder.glob("looked-*.safetensors")):
        with safe_open(path, "pt") as file:
            parts.append({key: file.get_tensor(key).float() for key in file.keys()})
    if not parts:
        raise ValueError(f"training: {folder} holds nothing for the stage tone; give it more --minutes")
    return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}


def fit(
    curve: ToneCurve, samples: dict[str, Tensor], generator: torch.Generator, *, how: FitOptions = FIT
) -> float:
    """Fit an untrained curve to measurements; returns the mean loss of the last epoch.

    The loss is the logarithm of the squared error of the tones, as PSNR is. The curve also learns to predict
    the size of that error, and which damages there are.
    """
    seen = samples["appearance"]
    torch.nn.init.zeros_(curve.get_parameter("expect.bias"))

    def loss(rows: Tensor) -> Tensor:
        x = seen[rows] + 0.003 * torch.randn(len(rows), seen.shape[1], generator=generator)
        expected, doubt, present = curve.expected(x)
        errors = (expected - samples["tones"][rows]).square().mean(dim=1)
        truly_present = (samples["severities"][rows] > PRESENT).float()
        surprise = ((errors.detach() + SMALLEST).log() - doubt[:, 0]).square()
        return (
            (errors + ERROR_FLOOR).log().mean()
            + 0.05 * surprise.mean()
            + 0.3 * F.binary_cross_entropy_with_logits(present, truly_present)
        )

    with _standardised_inputs(curve.look, seen):
        return _minimise(list(curve.parameters()), loss, len(seen), how, generator)


@contextmanager
def _standardised_inputs(layer: torch.nn.Linear, x: Tensor) -> Iterator[None]:
    """Inside, the layer sees inputs of mean 0 and deviation 1 (less for nearly constant ones). On leaving,
    its own weights take over the standardisation."""
    mean, spread = x.mean(dim=0), x.std(dim=0) + 0.02
    hook = layer.register_forward_pre_hook(lambda _, inputs: ((inputs[0] - mean) / spread,))
    try:
        yield
    finally:
        hook.remove()
        with torch.no_grad():
            layer.weight.div_(spread)
            layer.bias.sub_(layer.weight @ mean)


def _minimise(
    parameters: list[torch.nn.Parameter],
    loss: Callable[[Tensor], Tensor],
    count: int,
    how: FitOptions,
    generator: torch.Generator,
) -> float:
    """AdamW over shuffled rows 0..count-1: 100 steps of warm-up, then a linear decay to 0."""
    optimizer = torch.optim.AdamW(parameters, how.rate, weight_decay=how.decay)
    size = min(how.batch, count)
    steps, step = how.epochs * (count // size), 0
    values: list[float] = []
    for _ in range(how.epochs):
        order = torch.randperm(count, generator=generator)
        values = []
        for rows in order[: count // size * size].split(size):
            for group in optimizer.param_groups:
                group["lr"] = how.rate * min(1, (step + 1) / 100) * (1 - step / steps)
            value = loss(rows)
            optimizer.zero_grad()
            value.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            values.append(value.item())
            step += 1
    return sum(values) / len(values)
