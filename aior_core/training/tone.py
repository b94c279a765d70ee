"""The stage `tone`: what DAEM's tone curve knows of tones.

It sees sixty numbers of a picture, and no other network is asked. So for most of the time damaged pictures are looked at, a hundred a second
on a processor, and in the rest it is fitted to those numbers. They are kept beside the checkpoint: the same command goes on.
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

from ..degradations import degrade_batch, sample_world, shares
from ..metrics import as_8bit
from ..models.tone_curve import SMALLEST, ToneCurve, appearance, cells, tones
from . import data, distributed
from .files import write_whole
from .losses import PRESENT

SIDE = 128
LOOKING = 0.8
"""Share of the stage's minutes; the rest fits."""
MIX = shares("tone")
COUNTS = (0.10, 0.40, 0.38, 0.12)
SPATIAL = 0.05
ROUNDED = 0.6
"""Pictures that come from files are in 8 bits."""
SHARD = 4096
ERRORS = 3e-4
"""Squared error of tones below which nobody sees a difference: 35 dB."""


@dataclass(frozen=True)
class Fit:
    """How it is fitted."""

    epochs: int
    batch: int
    rate: float
    decay: float


FIT = Fit(epochs=20, batch=256, rate=2e-3, decay=1e-2)


def looked_at(photographs: data.Photographs, generator: torch.Generator) -> Iterator[dict[str, Tensor]]:
    """Sixteen damaged pictures after the other: their `appearance` `16 60`, `tones` `16 27` of the undamaged ones, `severities` `16 K`.

    Each photograph is seen twice, and as a whole as often as close up: tones are of whole pictures.
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
    """A square of a photograph, of any size, as `3 128 128`, -1..1; or a crop as the other stages have them, so that flat ones are seen."""
    cut = data.draw_cut(photographs, SIDE, generator)
    if cut.flat is not None:
        return data.take(photographs, cut, SIDE)
    height, width = photographs.pictures[cut.picture].shape[1:]
    roll, down, right = torch.rand(3, generator=generator).tolist()
    side = int(SIDE * (min(height, width) / SIDE) ** roll)
    top, left = int(down * (height - side + 1)), int(right * (width - side + 1))
    return data.take(photographs, replace(cut, side=side, top=top, left=left, turns=0), SIDE)


def as_filed(lq: Tensor, generator: torch.Generator) -> Tensor:
    """A damaged picture or a batch of them, most often in 8 bits."""
    return as_8bit(lq) if torch.rand((), generator=generator).item() < ROUNDED else lq


@torch.no_grad()
def gather(
    source: Callable[[int], Iterator[dict[str, Tensor]]],
    folder: Path,
    seconds: float,
    say: Callable[[str], None],
) -> None:
    """Write what `source(number)` gives into shard `number` of `folder`, until all took `seconds`; those that are there count.

    A shard's number decides what is in it, so that a run that was killed makes the shards that it would have made.
    fp16, whole or not at all.
    """
    folder.mkdir(parents=True, exist_ok=True)
    mine = f"looked-{distributed.rank()}-"
    spent = [_seconds(path) for path in folder.glob(f"{mine}*.safetensors")]
    used, number = sum(spent), len(spent)
    while used < seconds:
        rows, begun, batches = [], time.monotonic(), source(number)
        while (
            sum(len(row["appearance"]) for row in rows) < SHARD and used + time.monotonic() - begun < seconds
        ):
            rows.append(next(batches))
        path = folder / f"{mine}{number}.safetensors"
        took = time.monotonic() - begun
        tensors = {key: torch.cat([row[key] for row in rows]).half().contiguous() for key in rows[0]}
        write_whole(path, lambda part: save_file(tensors, part, metadata={"seconds": json.dumps(took)}))
        used, number = used + took, number + 1
        say(
            f"tone: looked {used / 60:.1f} of {seconds / 60:.1f} min, {len(tensors['appearance'])} pictures in {path.name}"
        )


def _seconds(path: Path) -> float:
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["seconds"])


def gathered(folder: Path) -> dict[str, Tensor]:
    """All shards of all processes, fp32. Raises ValueError if there are none."""
    parts = []
    for path in sorted(folder.glob("looked-*.safetensors")):
        with safe_open(path, "pt") as file:
            parts.append({key: file.get_tensor(key).float() for key in file.keys()})
    if not parts:
        raise ValueError(f"training: {folder} holds nothing for the stage tone; give it more --minutes")
    return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}


def fit(curve: ToneCurve, samples: dict[str, Tensor], generator: torch.Generator, *, how: Fit = FIT) -> float:
    """Fit a curve that knows nothing yet; the mean loss of the last epoch.

    By the logarithm of its squared error, which is what PSNR is of; how large that will be, and what damages there are, it learns beside.
    """
    seen = samples["appearance"]
    torch.nn.init.zeros_(curve.expect.bias)

    def loss(rows: Tensor) -> Tensor:
        x = seen[rows] + 0.003 * torch.randn(len(rows), seen.shape[1], generator=generator)
        wished, doubt, present = curve.expected(x)
        errors = (wished - samples["tones"][rows]).square().mean(dim=1)
        there = (samples["severities"][rows] > PRESENT).float()
        surprise = ((errors.detach() + SMALLEST).log() - doubt[:, 0]).square()
        return (
            (errors + ERRORS).log().mean()
            + 0.05 * surprise.mean()
            + 0.3 * F.binary_cross_entropy_with_logits(present, there)
        )

    with _standardised(curve.look, seen):
        return _descend(list(curve.parameters()), loss, len(seen), how, generator)


@contextmanager
def _standardised(layer: torch.nn.Linear, x: Tensor) -> Iterator[None]:
    """While it is fitted a layer sees its inputs with mean 0 and spread 1 (nearly constant ones less); after that its own weights do that."""
    mean, spread = x.mean(dim=0), x.std(dim=0) + 0.02
    hook = layer.register_forward_pre_hook(lambda _, inputs: ((inputs[0] - mean) / spread,))
    try:
        yield
    finally:
        hook.remove()
        with torch.no_grad():
            layer.weight.div_(spread)
            layer.bias.sub_(layer.weight @ mean)


def _descend(
    parameters: list[Tensor],
    loss: Callable[[Tensor], Tensor],
    count: int,
    how: Fit,
    generator: torch.Generator,
) -> float:
    optimizer = torch.optim.AdamW(parameters, how.rate, weight_decay=how.decay)
    size = min(how.batch, count)
    steps, step, losses = how.epochs * (count // size), 0, []
    for _ in range(how.epochs):
        order, losses = torch.randperm(count, generator=generator), []
        for rows in order[: count // size * size].split(size):
            for group in optimizer.param_groups:
                group["lr"] = how.rate * min(1, (step + 1) / 100) * (1 - step / steps)
            value = loss(rows)
            optimizer.zero_grad()
            value.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            losses.append(value.item())
            step += 1
    return sum(losses) / len(losses)
