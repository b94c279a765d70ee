"""What a stage learns from several times: encoded crops, as fresh ones would be."""

import pytest
import torch
from aior_pack.aior_core.degradations import KINDS
from aior_pack.aior_core.training import data, loop, precision
from aior_pack.tests.tiny import TINY


def test_fusion_learns_from_latents_that_are_encoded_once():
    pytest.importorskip("comfy")
    from aior_pack.aior_core.training.networks import build
    from aior_pack.aior_core.training.recall import Latents
    from aior_pack.aior_core.training.restoration import damage, look
    from aior_pack.aior_core.training.stages import fusion_loss

    picture = (255 * torch.rand(3, 160, 200, generator=torch.Generator().manual_seed(3))).byte()
    photographs, networks = data.Photographs((picture,), ("a",), torch.ones(1, dtype=torch.float64)), build(TINY)
    generator = torch.Generator().manual_seed(0)
    recall = Latents(networks, loop.fresh(photographs, None, 0.0, "cpu"), "cpu", kept=16, reused=4, selective=0.0)
    latent, mix = recall(8, 64, generator)
    assert latent.shape == (8, 16, 8, 8) and mix["feature"].shape == (8, 24, 8, 8) and mix["severities"].shape == (8, len(KINDS))
    recall(8, 64, generator)
    assert len(recall.seen) == 10
    # What is kept is what a step that encodes by itself would have seen.
    again = torch.Generator().manual_seed(0)
    clean = data.draw_batch(photographs, 8, 64, again)
    lq = damage(clean, again, selective=0.0).lq
    with torch.no_grad(), precision.autocast("cpu"):
        wanted = networks.vae.encode(clean), look(networks, lq).features[-1]
    for kept, own in zip(zip(*list(recall.seen)[:8]), wanted):
        assert torch.allclose(torch.stack(kept).float(), own.float(), rtol=0.02, atol=0.02)
    loss, _ = fusion_loss(networks, latent, generator, **mix)
    loss.backward()
    assert networks.unet.out[2].weight.grad.abs().sum() > 0
