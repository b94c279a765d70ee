"""The halo of half a reach, with the weights that ship: tiles give what the whole picture gives."""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image

pytestmark = pytest.mark.usefixtures("host")
ROOT = Path(__file__).resolve().parents[2]


def test_tiles_of_the_bundled_model_equal_the_whole_to_a_tenth_of_a_level():
    from aior_pack.aior_core.host.compact_model import load_compact
    from aior_pack.aior_core.host.daem_decode import decode_daem, decoding_need
    from aior_pack.aior_core.host.prior_encode import encode_prior

    _, vae, restorer = load_compact(str(sorted((ROOT / "models").glob("*.safetensors"))[0]))
    with Image.open(ROOT / "tests" / "pictures" / "astronaut_noise.jpg") as picture:
        image = (
            torch.from_numpy(numpy.asarray(picture.convert("RGB").crop((96, 0, 416, 256)), numpy.float32))[
                None
            ]
            / 255
        )
    whole, tiled = (encode_prior(restorer, vae, image, tile=tile) for tile in (0, 160))
    latent = {"samples": whole.latent}
    # Otherwise nothing is cut off.
    assert decoding_need(vae, restorer, True, whole.latent.shape).halo < 112
    difference = (
        255
        * (
            decode_daem(latent, vae, restorer, tiled, tile=160) - decode_daem(latent, vae, restorer, whole)
        ).abs()
    )
    assert difference.max() < 0.1
