"""The replay buffer: its samples are those of fresh crops, and it resumes where it was."""

import pytest
import torch
from aior_pack.aior_core.degradations import KINDS
from aior_pack.aior_core.training import batches, data, precision
from aior_pack.aior_core.training.replay_buffer import LatentBuffer, ReplayBuffer
from aior_pack.tests.tiny import TINY


@pytest.mark.usefixtures("comfyui")
def test_fusion_learns_from_latents_that_are_encoded_once():
    from aior_pack.aior_core.training.networks import build
    from aior_pack.aior_core.training.restoration import damage, encode_prior
    from aior_pack.aior_core.training.stages import fusion_loss

    picture = (255 * torch.rand(3, 160, 200, generator=torch.Generator().manual_seed(3))).byte()
    photographs, networks = (
        data.Photographs((picture,), ("a",), torch.ones(1, dtype=torch.float64)),
        build(TINY),
    )
    generator = torch.Generator().manual_seed(0)
    fresh = batches.fresh_crops(photographs, None, 0.0, "cpu")
    buffer = LatentBuffer(networks, fresh, "cpu", capacity=16, reused=4, selective=0.0)
    latent, mix = buffer(8, 64, generator)
    assert (
        latent.shape == (8, 16, 8, 8)
        and mix["feature"].shape == (8, 24, 8, 8)
        and mix["severities"].shape == (8, len(KINDS))
    )
    # The buffer holds what a step that encodes by itself would have seen.
    again = torch.Generator().manual_seed(0)
    clean = data.draw_batch(photographs, 8, 64, again)
    batch = damage(clean, again, selective=0.0)  # a look-alike of damage changes the target too
    with torch.no_grad(), precision.autocast("cpu"):
        wanted = networks.vae.encode(batch.target), encode_prior(networks, batch.lq).features[-1]
    for kept, own in zip(buffer.parts, wanted):
        assert torch.allclose(kept[:8].float(), own.float(), rtol=0.02, atol=0.02)
    loss, _ = fusion_loss(networks, latent, generator, **mix)
    loss.backward()
    assert networks.unet.out[2].weight.grad.abs().sum() > 0


class Numbered(ReplayBuffer):
    """Samples that are their own number."""

    names = ("twice",)
    encoded = 0

    def encode(self, count, side, generator):
        numbers = torch.arange(self.encoded, self.encoded + count, dtype=torch.float32)
        self.encoded += count
        return numbers, 2 * numbers


def test_the_newest_samples_are_kept_and_each_is_used_several_times():
    buffer, generator = Numbered(20, 3, "cpu"), torch.Generator().manual_seed(0)
    seen = torch.zeros(8 * 11)
    for call in range(30):
        numbers, mix = buffer(8, 64, generator)
        assert torch.equal(mix["twice"], 2 * numbers)
        encoded = 8 * (call // 3 + 1)
        assert buffer.encoded == encoded and buffer.count == min(20, encoded)
        assert numbers.min() >= encoded - 20 and numbers.max() < encoded
        seen[numbers.long()] += 1
    assert seen[:64].mean() == pytest.approx(3, abs=0.5)
    # Of more samples than fit, the last ones.
    buffer.add((torch.arange(100.0, 125.0), torch.arange(200.0, 225.0)))
    assert sorted(buffer.parts[0].tolist()) == list(range(105, 125))


@pytest.mark.parametrize("capacity", [20, 12, 32])
def test_the_state_in_a_checkpoint_of_an_earlier_version_is_restored(capacity):
    """Earlier versions wrote these very numbers. Another capacity keeps the newest samples."""
    whole, generator = Numbered(20, 3, "cpu"), torch.Generator().manual_seed(0)
    for _ in range(13):
        whole(8, 64, generator)
    state = whole.state()
    assert state.numbers == {"calls": 13, "count": 20, "next": 0, "kept": 20}
    state.numbers["next"] = 7
    resumed = Numbered(capacity, 3, "cpu")
    resumed.restore(13, state)
    assert resumed.calls == 13 and resumed.count == min(capacity, 20)
    oldest_first = whole.parts[0].roll(-7)
    if capacity == 20:
        assert torch.equal(resumed.parts[0], whole.parts[0]) and resumed.next == 7
    else:
        assert torch.equal(resumed.parts[0][: resumed.count], oldest_first[-resumed.count :])
