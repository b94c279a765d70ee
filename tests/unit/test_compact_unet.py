"""The compact denoiser at latents of odd sides, where ComfyUI's UNet alone is far off everywhere."""

from pathlib import Path

import pytest
import torch
from aior_pack.tests.tiny import TINY, randomised
from PIL import Image
from torch.nn import functional as F

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("host")


def network():
    import comfy.ops
    from aior_pack.aior_core.host.compact_unet import CompactUNet
    from aior_pack.aior_core.models.unet import unet_parameters

    return randomised(
        CompactUNet(
            **unet_parameters(TINY.unet), dtype=torch.float32, operations=comfy.ops.disable_weight_init
        )
    )


def asked(unet, x):
    tokens = torch.randn(1, 8, TINY.unet.context_dim, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        return unet(x, timesteps=torch.tensor([600.0]), context=tokens)


def latent(height, width):
    return torch.randn(1, TINY.unet.in_channels, height, width, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize(("height", "width"), [(9, 13), (8, 13), (9, 12), (5, 1), (1, 6)])
def test_an_odd_latent_is_continued_by_its_edge_and_cut_again(height, width):
    unet, x = network(), latent(height, width)
    even = asked(unet, F.pad(x, (0, width % 2, 0, height % 2), mode="replicate"))
    assert torch.equal(asked(unet, x), even[..., :height, :width])


def test_an_even_latent_goes_through_the_hosts_unet_as_it_is(monkeypatch):
    from aior_pack.aior_core.host.compact_unet import CompactUNet

    unet, x = network(), latent(8, 12)
    made = asked(unet, x)
    monkeypatch.delattr(CompactUNet, "_forward")
    assert torch.equal(made, asked(unet, x))


def test_the_model_of_a_file_is_of_that_class(walk):
    from aior_pack.aior_core.host.compact_unet import CompactUNet

    assert type(walk.model.get_model_object("diffusion_model")) is CompactUNet


def test_a_noisy_picture_of_31_cells_is_repaired_by_four_steps_as_well_as_by_none():
    """At 30 cells both agree to 55 dB; where the UNet saw an odd side, to 49."""
    import numpy as np
    from aior_pack.aior_core.host.compact_model import load_compact
    from aior_pack.aior_core.host.daem_decode import decode_daem
    from aior_pack.aior_core.host.prior_encode import encode_prior
    from aior_pack.aior_core.host.sampling import sample_daff
    from aior_pack.aior_core.metrics import psnr

    model, vae, restorer = load_compact(sorted((ROOT / "models").glob("*.safetensors"))[0])
    with Image.open(ROOT / "tests/pictures/astronaut_noise.jpg") as file:
        image = (
            torch.from_numpy(np.asarray(file.convert("RGB").crop((200, 100, 448, 348))).copy())[None].float()
            / 255
        )
    prior = encode_prior(restorer, vae, image)
    latents = {"samples": prior.latent}, sample_daff(model, restorer, prior, seed=0, steps=4)
    plain, sampled = (decode_daem(each, vae, restorer, prior) for each in latents)
    assert psnr(*(2 * x.movedim(-1, 1) - 1 for x in (sampled, plain))).item() > 53
