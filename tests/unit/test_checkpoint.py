"""What a checkpoint holds, exactly as it was, and that no kill leaves half of one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from aior_pack.aior_core.training import checkpoint
from safetensors import safe_open
from safetensors.torch import save_file

pytestmark = pytest.mark.usefixtures("comfyui")

TESTS = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def tiny():
    sys.path.insert(0, str(TESTS))
    import train_tiny

    yield train_tiny
    sys.path.remove(str(TESTS))


class Killed(Exception):
    """Stands for a kill."""


def contents(path: Path) -> dict[str, torch.Tensor]:
    with safe_open(path, "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}


@pytest.mark.slow
def test_a_checkpoint_keeps_every_number_as_it_is(tiny, tmp_path):
    networks = tiny.networks()
    odd = {key: value.clone() for key, value in networks.state_dict().items()}
    # Beyond fp16's range, and between its steps.
    odd[min(odd)].mul_(1 + 1e-6).add_(1e5)
    networks.load_state_dict(odd)
    ema = {key: value * (1 - 1e-6) for key, value in odd.items() if key.startswith("daem.")}
    path = tmp_path / "detail.safetensors"
    extras = {
        "optimizer/a/b": torch.tensor([1e-30, 7e4]),
        "draw/part0": torch.tensor([0.1], dtype=torch.bfloat16),
    }
    checkpoint.save(
        path, networks, ema, {"step": 1, "seconds": 2.0}, torch.Generator().manual_seed(3), extras
    )
    averaged, raw, state, generator = checkpoint.load(path)
    assert averaged.keys() == odd.keys()
    assert all(torch.equal(averaged[key], ema.get(key, value)) for key, value in odd.items())
    assert raw.keys() == ema.keys() and all(torch.equal(raw[key], odd[key]) for key in raw)
    assert state == {"step": 1, "seconds": 2.0}
    assert torch.equal(generator, torch.Generator().manual_seed(3).get_state())
    assert all(torch.equal(checkpoint.extras(path)[key], value) for key, value in extras.items())
    # What shipped weights hold is kept in their 16 bits, which loses nothing and halves the file.
    networks.load_state_dict({key: value.half().float().clamp(-6e4, 6e4) for key, value in odd.items()})
    checkpoint.save(path, networks, {}, {"step": 1, "seconds": 2.0}, torch.Generator())
    assert {value.dtype for key, value in contents(path).items() if key.startswith("ema/")} == {torch.float16}


def test_averages_may_be_the_weights_themselves(tiny, tmp_path):
    """As in stages that average nothing."""
    networks = tiny.networks()
    odd = {
        key: value.mul_(1.0001)
        for key, value in networks.state_dict().items()
        if key.startswith("daem.curve.")
    }
    checkpoint.save(
        tmp_path / "tone.safetensors", networks, odd, {"step": 0, "seconds": 1.0}, torch.Generator()
    )
    ema, raw, _, _ = checkpoint.load(tmp_path / "tone.safetensors")
    assert all(torch.equal(ema[key], value) and torch.equal(raw[key], value) for key, value in odd.items())


def test_a_kill_in_the_middle_of_writing_leaves_the_checkpoint_before(tiny, tmp_path, monkeypatch):
    path = tmp_path / "prior.safetensors"
    checkpoint.save(path, tiny.networks(), {}, {"step": 2, "seconds": 2.0}, torch.Generator())
    before = path.read_bytes()

    def half(tensors, place, **options):
        save_file(tensors, place, **options)
        with open(place, "rb+") as file:
            file.truncate(100)
        raise Killed

    monkeypatch.setattr(checkpoint, "save_file", half)
    with pytest.raises(Killed):
        checkpoint.amend(path, {"seconds": 1.0}, {})
    assert path.read_bytes() == before
    monkeypatch.undo()
    checkpoint.amend(path, {"seconds": 1.0}, {})
    assert checkpoint.state(path) == {"step": 2, "seconds": 1.0}
