"""Memory: an estimate first, numbers in the refusal, half the tile when it runs out all the same."""

import gc
import logging
import os
import platform
import sys
from pathlib import Path

import pytest
import torch
from aior_pack.aior_core.pipeline.memory_need import GIB
from aior_pack.tests.tiny import distance, picture
from torch.nn import Linear

pytestmark = pytest.mark.usefixtures("host")
CPU = torch.device("cpu")


@pytest.fixture
def memory(monkeypatch):
    from aior_pack.aior_core.host import memory

    def of(gibibytes):
        monkeypatch.setattr(memory, "available", lambda device: gibibytes * GIB)
        return memory

    return of


def need(memory, side=4096, per_pixel=1024.0, **options):
    return memory.Need(side, side, per_pixel, **options)


def test_the_whole_picture_where_it_fits(memory):
    room = memory(40)
    assert room.choose_tile(0, need(room), CPU, "X") == 4096


def test_the_largest_tile_that_fits_where_not(memory, caplog):
    room = memory(4)
    with caplog.at_level(logging.INFO):
        chosen = room.choose_tile(0, need(room, halo=128), CPU, "a stage")
    assert chosen == 1536 and need(room, halo=128).bytes(chosen) <= 0.8 * 4 * GIB < need(
        room, halo=128
    ).bytes(2048)
    assert "AIOR, a stage: tiles of 1536 pixels" in caplog.text and "GiB are free" in caplog.text


def test_what_is_asked_for_and_does_not_fit_is_refused_with_what_would(memory):
    room = memory(4)
    with pytest.raises(
        RuntimeError,
        match=r"(?s)^4096x4096 pixels in tiles of 2048 would take about 4\.\d GiB.*4\.0 GiB are "
        r"free.*Set tile to 1536",
    ):
        room.choose_tile(2048, need(room, halo=64), CPU, "a stage")
    assert room.choose_tile(1024, need(room, halo=64), CPU, "a stage") == 1024
    assert room.choose_tile(1, need(room), CPU, "a stage") == room.LEAST


def test_nothing_fits(memory):
    room = memory(0.01)
    with pytest.raises(RuntimeError, match="(?s).*free on cpu.*Close other programs"):
        room.choose_tile(0, need(room, held=2**30), CPU, "a stage")


def test_models_that_are_gone_hold_nothing(monkeypatch):
    import comfy.model_management as management
    from aior_pack.aior_core.host.memory import available
    from comfy.model_patcher import ModelPatcher

    def loaded(patcher):
        entry = management.LoadedModel(patcher)
        monkeypatch.setattr(management, "current_loaded_models", [entry])
        return entry

    patcher = ModelPatcher(Linear(2, 2), CPU, CPU)
    entry = loaded(patcher)
    assert available(CPU) > 0
    del patcher
    gc.collect()
    assert entry.model is None and available(CPU) > 0


RAN_OUT = (
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you "
    "tried to allocate 70368744177664 bytes. Error code 12 (Cannot allocate memory)",
    "[enforce fail at alloc_cpu.cpp:117] data. DefaultCPUAllocator: not enough memory: you tried "
    "to allocate 911360 bytes.",
    "MPS backend out of memory (MPS allocated: 20.48 GiB, other allocations: 146.27 GiB, max allowed: 163.20 "
    "GiB). Tried to allocate 1.00 GiB on private pool. "
    "Use PYTORCH_MPS_HIGH_WATERMARK_RATIO=0.0 to disable upper limit for memory allocations (may "
    "cause system failure).",
    "Invalid buffer size: 24.00 GiB",
    "Could not allocate tensor with 134217728 bytes. There is not enough GPU video memory available!",
    "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported at some other API call",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    "level_zero backend failed with error: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)",
)
"""What PyTorch 2 says on Linux, Windows, Macs, DirectML, CUDA where its error has no class of its own, and
Intel's GPUs."""
OTHERS = (
    "CUDA error: an illegal memory access was encountered",
    "mat1 and mat2 shapes cannot be multiplied",
    "Expected a 'mps' device type",
    "invalid buffer size",
)


@pytest.mark.parametrize("text", RAN_OUT)
def test_what_every_system_says_is_known(memory, text):
    room = memory(1)
    assert room.is_out_of_memory(RuntimeError(text)) and not room.is_out_of_memory(ValueError(text))


@pytest.mark.parametrize("text", OTHERS)
def test_other_texts_are_not_taken_for_it(memory, text):
    assert not memory(1).is_out_of_memory(RuntimeError(text))


def test_what_this_system_says_is_known(memory):
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert memory(1).is_out_of_memory(caught.value)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        MemoryError(),
        *(RuntimeError(text) for text in RAN_OUT[:3]),
    ],
)
def test_running_out_halves_the_tile_and_says_so(memory, error, caplog):
    tried = []

    def run(tile):
        tried.append(tile)
        if tile > 300:
            raise error
        return f"done with {tile}"

    assert memory(1).with_smaller_tiles(run, 1500, "a stage") == "done with 128" and tried == [
        1500,
        704,
        320,
        128,
    ]
    assert "out of memory with tiles of 704 pixels; going on with 320" in caplog.text


def test_other_errors_are_not_taken_for_it_and_there_is_an_end(memory):
    room = memory(1)

    def broken(tile):
        raise ValueError("something else")

    def hungry(tile):
        raise MemoryError

    with pytest.raises(ValueError, match="something else"):
        room.with_smaller_tiles(broken, 512, "a stage")
    with pytest.raises(RuntimeError, match="^out of memory even with tiles of 128 pixels"):
        room.with_smaller_tiles(hungry, 512, "a stage")


def test_a_restoration_goes_on_after_running_out(walk, small_windows, monkeypatch, caplog):
    """Each of the three stages runs out once in its first tile, and gives what it would have given with half
    of it."""
    image = picture(200, 264)
    prior = walk.encode(image)
    expected = walk.decode({"samples": prior.latent}, prior)

    def once(where, name):
        function, calls = getattr(where, name), []

        def fails_first(*arguments, **options):
            calls.append(1)
            if len(calls) == 1:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return function(*arguments, **options)

        monkeypatch.setattr(where, name, fails_first)

    once(walk.restorer.encoder.model.trunk, "forward")
    once(walk.vae, "encode_unit")
    again = walk.encode(image)
    assert distance(again.features, prior.features) < 1e-4 and distance(again.latent, prior.latent) < 1e-4
    once(walk.restorer.daem.model.levels[0], "combine")
    assert distance(walk.decode({"samples": prior.latent}, prior), expected) < 1e-4
    once(walk.model.model.diffusion_model, "forward")
    latent = walk.sample(prior, steps=1)["samples"]
    assert torch.equal(latent, walk.sample(prior, steps=1, tile=128)["samples"])
    assert [
        caplog.text.count(f"AIOR, {stage}: out of memory")
        for stage in ("encoding the prior", "encoding the latent", "decoding", "sampling")
    ] == [1, 1, 1, 1]


@pytest.mark.skipif(
    sys.platform != "linux" or platform.libc_ver()[0] != "glibc",
    reason="only glibc keeps freed memory so, and gives it back when told",
)
def test_what_the_c_library_keeps_of_freed_memory_is_given_back():
    from aior_pack.aior_core.host.memory import give_back_freed

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    # Of a size that its heap is used for; every other one is freed, so that what is kept lies in holes.
    blocks = [torch.ones(10_000) for _ in range(4_000)]
    full = resident()
    del blocks[::2]
    kept = resident()
    give_back_freed(CPU, 2**20 - 1)
    assert full - kept < 40e6 and abs(kept - resident()) < 5e6
    give_back_freed(CPU, 2**20)
    assert kept - resident() > 40e6
    assert all(block.sum() == 10_000 for block in blocks)
