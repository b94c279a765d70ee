"""Where the workers of a Ray cluster go, and what the command line takes for one. Without Ray."""

import importlib.util
from pathlib import Path

import pytest

from scripts.ray_cluster import plan_slots
from scripts.steps import SetupError

ROOT = Path(__file__).resolve().parents[2]
GIB = 2**30


def node(name, *, alive=True, **resources):
    return {"NodeID": name, "NodeManagerHostname": name, "Alive": alive, "Resources": resources}


def test_one_worker_per_gpu_and_no_more():
    nodes = [
        node("a", CPU=16.0, GPU=2.0, memory=60.0 * GIB),
        node("b", CPU=8.0, GPU=1.0),
        node("c", CPU=64.0),
        node("d", alive=False, GPU=8.0),
    ]
    slots = plan_slots(nodes, "auto", None)
    assert [(slot.node, slot.gpus, slot.cores, slot.threads) for slot in slots] == [
        ("a", 1, 0, 8),
        ("a", 1, 0, 8),
        ("b", 1, 0, 8),
    ]
    assert [slot.node for slot in plan_slots(nodes, "gpu", 2)] == ["a", "b"]
    with pytest.raises(SetupError, match="has 3 GPUs"):
        plan_slots(nodes, "auto", 4)


def test_workers_share_the_processors_of_machines_without_a_gpu():
    nodes = [
        node("a", CPU=16.0, memory=60.0 * GIB),
        node("b", CPU=2.0, memory=3.0 * GIB),
        node("c", CPU=32.0, memory=9.0 * GIB),
    ]
    slots = plan_slots(nodes, "auto", None)
    assert [(slot.machine, slot.gpus, slot.cores) for slot in slots] == [("a", 0, 4)] * 4 + [("b", 0, 2)] + [
        ("c", 0, 16)
    ] * 2
    shared = plan_slots(nodes[1:2], "cpu", 3)
    assert [slot.threads for slot in shared] == [1, 1, 1] and sum(slot.cores for slot in shared) <= 2
    assert [slot.node for slot in plan_slots([node("a", CPU=4.0, GPU=1.0, memory=8.0 * GIB)], "cpu", 2)] == [
        "a",
        "a",
    ]
    with pytest.raises(SetupError, match="no machine of this Ray cluster has a GPU"):
        plan_slots(nodes, "gpu", None)
    with pytest.raises(SetupError, match="no living machine"):
        plan_slots([node("a", alive=False)], "auto", None)


def test_arguments(capsys):
    spec = importlib.util.spec_from_file_location("aior_entry", ROOT / "aior.py")
    entry = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(entry)
    taken = [
        entry.parse(["restore", "a.png", *more])
        for more in ([], ["--ray"], ["--ray", "auto"], ["--ray", "host:6379", "--workers", "2"])
    ]
    assert [(one.ray, one.workers) for one in taken] == [
        (None, None),
        ("local", None),
        ("auto", None),
        ("host:6379", 2),
    ]
    for wrong, sentence in (
        (["--ray", "a.png"], "Name the pictures before --ray"),
        (["a.png", "--ray", "--workers", "0"], "1 or more"),
        (["a.png", "--workers", "2"], "--workers needs --ray"),
    ):
        with pytest.raises(SystemExit):
            entry.parse(["restore", *wrong])
        assert sentence in capsys.readouterr().err
