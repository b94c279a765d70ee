"""The stage `tone`: DAEM's tone curve, fitted to what the rest of the model leaves wrong of a picture's tones.

What the curve sees of a picture is some hundred numbers. So pictures are not drawn anew for every step: for a part of the time damaged
pictures are looked at (a hundred a second on a processor; the networks are not asked), for a part some go through the whole model, and in what
is left the two judgements are fitted to those numbers. They are kept beside the checkpoint: the same command goes on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from ..architecture.tone import SMALLEST, ToneCurve, appearance, cells, curve_between, share_to_remove, shift, tones
from ..degradations import degrade_batch, sample_recipe
from . import data, distributed
from .networks import Networks
from .restoration import Plan, damaged, draw_kept, look, repair

SIDE, LARGE = 128, 192
LOOKED_AT, RESTORED = 0.4, 0.4
"""Shares of the stage's minutes; the rest fits."""
MIX = {"noise": 0.26, "blur": 0.02, "low_resolution": 0.02, "rain": 0.08, "snow": 0.08, "haze": 0.26, "low_light": 0.26, "jpeg": 0.02}
MIX_RESTORED = {"noise": 0.28, "blur": 0.08, "low_resolution": 0.05, "rain": 0.10, "snow": 0.08, "haze": 0.16, "low_light": 0.16, "jpeg": 0.09}
COUNTS, COUNTS_RESTORED = (0.10, 0.40, 0.38, 0.12), (0.12, 0.45, 0.33, 0.10)
SPATIAL = 0.05
ROUNDED = 0.6
"""Pictures that come from files are in 8 bits."""
SHARD = {"looked": 4096, "restored": 256}
MOST = (LARGE // 8) ** 2
ERRORS = 3e-4
"""Squared error of tones below which nobody sees a difference: 35 dB."""
PRESENT = 0.02


@dataclass(frozen=True)
class Fit:
    """How a judgement is fitted."""

    epochs: int
    batch: int
    rate: float
    decay: float


EXPECT = Fit(epochs=20, batch=256, rate=2e-3, decay=1e-2)
CAUTION = Fit(epochs=100, batch=64, rate=1e-2, decay=1.0)


def looked_at(photographs: data.Photographs, generator: torch.Generator) -> Iterator[dict[str, Tensor]]:
    """Sixteen damaged pictures after the other: their `appearance` `16 60`, `tones` `16 27` of the undamaged ones, `severities` `16 K`.

    Each photograph is seen twice, and as a whole as often as close up: tones are of whole pictures.
    """
    while True:
        clean = torch.stack([_view(photographs, generator) for _ in range(8)]).repeat_interleave(2, dim=0)
        recipes = [sample_recipe(generator, weights=MIX, spatial=SPATIAL, count_weights=COUNTS) for _ in range(len(clean))]
        lq, severities, _ = degrade_batch(clean, recipes)
        yield {"appearance": appearance((_as_filed(lq, generator) + 1) / 2), "tones": tones(cells((clean + 1) / 2)), "severities": severities}


def restored(networks: Networks, photographs: data.Photographs, generator: torch.Generator) -> Iterator[dict[str, Tensor]]:
    """Damaged pictures that went through the model without its curve: `cells` of the result and of the target (`B 3 N`, padded with NaN), what
    the curve is judged from, and the `rest`, the squared error within cells."""
    while True:
        large = torch.rand((), generator=generator).item() < 0.3
        clean = data.draw_batch(photographs, 4 if large else 8, LARGE if large else SIDE, generator)
        recipes = [sample_recipe(generator, weights=MIX_RESTORED, spatial=2 * SPATIAL, count_weights=COUNTS_RESTORED) for _ in range(len(clean))]
        batch = damaged(clean, [Plan(recipe, draw_kept(recipe, generator)) for recipe in recipes])
        lq = _as_filed(batch.lq, generator)
        estimate = look(networks, lq)
        made = (repair(networks, estimate, lq, networks.vae.encode(lq), batch.keep)[0] + 1).div(2).clamp(0, 1)
        target = (batch.target + 1) / 2
        now, wished = cells(made), cells(target)
        severities, probabilities = estimate.severities.sigmoid(), estimate.presence.sigmoid()
        yield {
            "appearance": appearance((lq + 1) / 2), "now": _padded(now), "wished": _padded(wished),
            "rest": ((made - target).square().mean(dim=(1, 2, 3)) - (now - wished).square().mean(dim=(1, 2, 3))).clamp_min(0),
            "seen": torch.cat([severities, probabilities], dim=1), "share": share_to_remove(severities, probabilities, batch.keep),
        }  # fmt: skip


def _view(photographs: data.Photographs, generator: torch.Generator) -> Tensor:
    """A square of a photograph, of any size, as `3 128 128`, -1..1; or a crop as the other stages have them, so that flat ones are seen."""
    cut = data.draw_cut(photographs, SIDE, generator)
    if cut.flat is not None:
        return data.take(photographs, cut, SIDE)
    picture = photographs.pictures[cut.picture]
    height, width = picture.shape[1:]
    roll, down, right = torch.rand(3, generator=generator).tolist()
    side = int(SIDE * (min(height, width) / SIDE) ** roll)
    top, left = int(down * (height - side + 1)), int(right * (width - side + 1))
    square = picture[:, top : top + side, left : left + side].float() / 255
    square = F.interpolate(square[None], size=(SIDE, SIDE), mode="area")[0]
    return (square if cut.gains is None else (square.clamp_min(1e-4) ** cut.gamma * cut.gains).clamp(0, 1)) * 2 - 1


def _as_filed(lq: Tensor, generator: torch.Generator) -> Tensor:
    if torch.rand((), generator=generator).item() >= ROUNDED:
        return lq
    return (lq.clamp(-1, 1) * 127.5 + 127.5).round() / 127.5 - 1


def _padded(coarse: Tensor) -> Tensor:
    flat = coarse.flatten(2)
    return F.pad(flat, (0, MOST - flat.shape[2]), value=torch.nan)


@torch.no_grad()
def gather(name: str, source: Iterator[dict[str, Tensor]], folder: Path, seconds: float, say: Callable[[str], None]) -> None:
    """Write what `source` gives into shards of `folder`, until they took `seconds`; those that are there count. fp16, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    mine = f"{name}-{distributed.rank()}-"
    used = sum(_seconds(path) for path in folder.glob(f"{mine}*.safetensors"))
    number = len(list(folder.glob(f"{mine}*.safetensors")))
    while used < seconds:
        rows, begun = [], time.monotonic()
        while sum(len(row["appearance"]) for row in rows) < SHARD[name] and used + time.monotonic() - begun < seconds:
            rows.append(next(source))
        part, path = folder / f"{mine}{number}.part", folder / f"{mine}{number}.safetensors"
        took = time.monotonic() - begun
        tensors = {key: torch.cat([row[key] for row in rows]).half().contiguous() for key in rows[0]}
        save_file(tensors, part, metadata={"seconds": json.dumps(took)})
        part.replace(path)
        used, number = used + took, number + 1
        say(f"tone: {name} {used / 60:.1f} of {seconds / 60:.1f} min, {len(tensors['appearance'])} pictures in {path.name}")


def _seconds(path: Path) -> float:
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["seconds"])


def gathered(name: str, folder: Path) -> dict[str, Tensor]:
    """All shards of all processes, fp32. Raises ValueError if there are none."""
    parts = []
    for path in sorted(folder.glob(f"{name}-*.safetensors")):
        with safe_open(path, "pt") as file:
            parts.append({key: file.get_tensor(key).float() for key in file.keys()})
    if not parts:
        raise ValueError(f"training: {folder} holds nothing for the stage tone; give it more --minutes")
    return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}


def fit_expectations(curve: ToneCurve, samples: dict[str, Tensor], how: Fit, generator: torch.Generator) -> float:
    """Fit what tones are expected, from nothing; the mean loss of the last epoch."""
    seen = samples["appearance"]
    layers = (curve.look, curve.think, curve.judge, curve.expect)

    def loss(rows: Tensor) -> Tensor:
        x = seen[rows] + 0.003 * torch.randn(len(rows), seen.shape[1], generator=generator)
        wished, doubt, present = curve.expected(x)
        errors = (wished - samples["tones"][rows]).square().mean(dim=1)
        there = (samples["severities"][rows] > PRESENT).float()
        surprise = ((errors.detach() + SMALLEST).log() - doubt[:, 0]).square()
        return (errors + ERRORS).log().mean() + 0.05 * surprise.mean() + 0.3 * F.binary_cross_entropy_with_logits(present, there)

    with _standardised(curve.look, seen):
        return _fit([p for layer in layers for p in layer.parameters()], loss, len(seen), how, generator)


def fit_caution(curve: ToneCurve, samples: dict[str, Tensor], how: Fit, generator: torch.Generator) -> float:
    """Fit how cautiously to go towards what is expected, by the squared error of the whole result; the mean loss of the last epoch."""
    there = ~samples["now"][:, :1].isnan()
    now, target = samples["now"].nan_to_num(), samples["wished"].nan_to_num()
    now_tones = torch.cat([tones(row[:, :, mask[0]]) for row, mask in zip(now.split(1), there)])
    with torch.no_grad():
        wished, off, damages = curve.known(samples["seen"], samples["appearance"], now_tones)
        torch.nn.init.zeros_(curve.caution.weight)
        torch.nn.init.zeros_(curve.caution.bias)
    curves = curve_between(now_tones, wished)

    def loss(rows: Tensor) -> Tensor:
        trust = curve.trusted(off[rows], damages[rows]) * samples["share"][rows]
        x = now[rows]
        moved = (x + shift(x[..., None], curves[rows] * trust[..., None])[..., 0]).clamp(0, 1)
        errors = ((moved - target[rows]).square().mean(dim=1) * there[rows, 0]).sum(dim=1) / there[rows, 0].sum(dim=1)
        return (errors + samples["rest"][rows] + ERRORS).log().mean()

    return _fit(list(curve.caution.parameters()), loss, len(damages), how, generator)


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


def _fit(parameters: list[Tensor], loss: Callable[[Tensor], Tensor], count: int, how: Fit, generator: torch.Generator) -> float:
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
