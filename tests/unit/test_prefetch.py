"""Batches that other processes make in advance: what seeds them, their order, and where a resumed run
continues."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from aior_pack.aior_core.training import data, distributed
from aior_pack.aior_core.training.seeds import seed_of, seeded

pytest.importorskip("comfy", reason="needs ComfyUI: set COMFYUI_PATH, or run `python3 aior.py test`")

from aior_pack.aior_core.training.prefetch import Prefetcher, Source, batch_requests  # noqa: E402
from aior_pack.aior_core.training.restoration import damage  # noqa: E402

pytestmark = pytest.mark.usefixtures("comfyui")


def photographs() -> data.Photographs:
    picture = (255 * torch.rand(3, 160, 200, generator=torch.Generator().manual_seed(3))).byte()
    return data.Photographs((picture,), ("a",), torch.ones(1, dtype=torch.float64))


def crops(progress: float, step: int) -> tuple[int, int]:
    return (32, 4) if step % 2 == 0 else (64, 2)


def source(**changes) -> Source:
    return dataclasses.replace(Source(photographs(), None, 0.0, {"selective": 0.5}, 7, "detail"), **changes)


def first(made: Source) -> torch.Tensor:
    """The targets of its batch 0."""
    return made[0, (4, 32)][1]


@pytest.mark.slow
def test_batches_come_in_order_with_any_number_of_workers():
    drawn = {}
    for workers in (1, 2):
        ahead = Prefetcher(source(), batch_requests(crops, 2, lambda: 0.0), workers, "cpu")
        drawn[workers] = [ahead(0, 0, torch.Generator()) for _ in range(4)]
    for (clean, mix), (again, also) in zip(drawn[1], drawn[2], strict=True):
        assert torch.equal(clean, again) and torch.equal(mix["made"].lq, also["made"].lq)
        assert (
            torch.equal(clean, mix["made"].target) and damage(clean, torch.Generator(), **mix) is mix["made"]
        )
    assert [tuple(clean.shape) for clean, _ in drawn[1]] == [(8, 3, 32, 32), (4, 3, 64, 64)] * 2
    # Pictures are sent in half precision; everything else is what a single process draws.
    generator = seeded(7, "detail", 1)
    alone = damage(data.draw_batch(photographs(), 4, 64, generator), generator, selective=0.5)
    made = drawn[1][1][1]["made"]
    assert (
        torch.allclose(made.lq, alone.lq, atol=2e-3)
        and torch.equal(made.remove, alone.remove)
        and torch.equal(made.severities, alone.severities)
    )


@pytest.mark.parametrize("seeds", [(0, 1), (0, 2**31), (3, 3 + 2**32), (-1, 0)])
def test_every_seed_draws_other_batches(seeds):
    one, other = (first(source(seed=seed)) for seed in seeds)
    assert not torch.equal(one, other)
    assert torch.equal(one, first(source(seed=seeds[0])))


def test_every_stage_draws_other_batches():
    assert not torch.equal(first(source()), first(source(stage="joint")))


def test_seeds_have_32_bits_and_depend_on_every_part():
    parts = [
        (seed, stage, number)
        for seed in (0, 1, 12, 2**32, 2**40)
        for stage in ("detail", "joint")
        for number in (0, 1, 2, 23)
    ]
    found = {seed_of(*each) for each in parts}
    assert len(found) == len(parts) and all(0 <= seed < 2**32 for seed in found)
    assert seed_of(1, 23) != seed_of(12, 3)
    # The same on every machine: runs and the files of the SDXL cache are continued on others.
    assert seed_of(2, 5) == 0x46D63F68


@pytest.mark.slow
def test_a_resumed_run_gets_the_next_batch():
    ask = batch_requests(crops, 1, lambda: 0.0)
    whole = Prefetcher(source(), ask, 1, "cpu")
    wanted = [whole(0, 0, torch.Generator())[0] for _ in range(5)]
    begun = Prefetcher(source(), ask, 2, "cpu")
    for _ in range(3):
        begun(0, 0, torch.Generator())
    later = Prefetcher(source(), ask, 2, "cpu")
    later.restore(3, begun.state())
    assert [torch.equal(later(0, 0, torch.Generator())[0], batch) for batch in wanted[3:]] == [True, True]
    with pytest.raises(RuntimeError, match="being made already"):
        later.restore(3, None)
    # From a checkpoint without the number no earlier batch comes again.
    unknown = Prefetcher(source(), ask, 1, "cpu")
    unknown.restore(4, None)
    assert torch.equal(unknown(0, 0, torch.Generator())[0], wanted[4])


def test_requests_follow_the_progress_when_a_batch_is_begun():
    done = [0.0]
    ask = batch_requests(lambda progress, step: (64 if progress < 0.5 else 128, 8), 0.25, lambda: done[0])
    assert [ask(0), ask(1)] == [(2, 64)] * 2
    done[0] = 0.9
    assert ask(2) == (2, 128)


@pytest.mark.parametrize(
    "world, count, whole", [(1, 0.4, 1), (1, 2.5, 3), (2, 5, 6), (3, 4, 6), (4, 1, 4), (4, 16, 16)]
)
def test_a_batch_divides_among_the_processes_and_is_never_too_small(monkeypatch, world, count, whole):
    monkeypatch.setattr(distributed, "world", lambda: world)
    assert distributed.divisible(count) == whole
    assert batch_requests(lambda progress, step: (64, count), 1, lambda: 0.0)(0) == (whole, 64)
