"""DAEM Decode with a noise mask on the LATENT: outside of the mask the result is the damaged picture."""

import pytest
import torch
from aior_pack.aior_core.picture import feathered
from aior_pack.aior_core.picture.mask import FEATHER
from aior_pack.tests.tiny import distance, ksampler, picture
from aior_pack.tests.unit.test_sdxl import restorer as sdxl_restorer
from aior_pack.tests.unit.test_sdxl import vae as sdxl_vae  # noqa: F401 - fixtures

__all__ = ["sdxl_restorer", "sdxl_vae"]
HEIGHT, WIDTH, EDGE = 60, 90, 40


def left(height: int = HEIGHT, width: int = WIDTH, edge: int = EDGE) -> torch.Tensor:
    """A MASK `1 H W` of all columns before `edge`."""
    mask = torch.zeros(1, height, width)
    mask[..., :edge] = 1
    return mask


def test_a_weight_is_nothing_outside_all_inside_and_rises_between():
    mask = left()[None]
    weight = feathered(mask)
    row = weight[0, 0, HEIGHT // 2]
    assert (
        weight.shape == mask.shape
        and torch.all(weight[..., EDGE:] == 0)
        and torch.all(weight[..., : EDGE - FEATHER] == 1)
    )
    assert torch.all(row[EDGE - FEATHER : EDGE].diff() < 0) and torch.equal(weight, row.expand_as(weight))
    for value in (0.0, 0.3, 1.0):
        assert distance(feathered(torch.full((1, 1, 20, 30), value)), torch.tensor(value)) < 1e-6


@pytest.mark.parametrize("thickness", [1, 2, 5, 9])
def test_a_thin_stroke_counts_in_full_on_its_middle_line(thickness):
    mask = torch.zeros(1, 1, 40, 40)
    mask[..., 10 : 10 + thickness] = 1
    weight = feathered(mask)
    assert torch.all(weight[..., 10 + thickness // 2] == 1) and torch.all(weight <= mask)


@pytest.fixture(scope="module")
def work(walk):
    """A prior, what was sampled of it, and what DAEM Decode makes of all of it."""
    with torch.inference_mode():
        prior = walk.encode(picture(HEIGHT, WIDTH, batch=2))
        samples = walk.sample(prior, steps=1)["samples"]
        return prior, samples, walk.decode({"samples": samples}, prior)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tile": 32},
        {"strength": 0.0},
        {"ensemble": 2},
        {"color_fix": "adain"},
        {"strength": 0.0, "tile": 32},
    ],
)
def test_outside_the_mask_is_the_damaged_picture_and_deep_inside_the_repaired_one(host, walk, work, options):
    prior, samples, _ = work
    out = walk.decode({"samples": samples, "noise_mask": left()}, prior, **options)
    whole = walk.decode({"samples": samples}, prior, **options)
    assert torch.equal(out[:, :, EDGE:], prior.unpadded[:, :, EDGE:])
    assert torch.equal(out[:, :, : EDGE - FEATHER], whole[:, :, : EDGE - FEATHER])
    assert distance(whole[:, :, EDGE:], prior.unpadded[:, :, EDGE:]) > 0.02


def test_the_border_lies_between_the_two(host, walk, work):
    prior, samples, whole = work
    out = walk.decode({"samples": samples, "noise_mask": left()}, prior)
    low, high = torch.minimum(whole, prior.unpadded), torch.maximum(whole, prior.unpadded)
    assert torch.all((out >= low - 1e-6) & (out <= high + 1e-6))
    border = slice(EDGE - FEATHER, EDGE - 1)
    assert (
        distance(out[:, :, border], whole[:, :, border])
        > 1e-3
        < distance(out[:, :, border], prior.unpadded[:, :, border])
    )


def test_nothing_masked_is_the_damaged_picture_and_all_masked_the_repaired_one(host, walk, work):
    prior, samples, whole = work
    for value, wanted in ((0.0, prior.unpadded), (1.0, whole)):
        assert torch.equal(
            walk.decode({"samples": samples, "noise_mask": torch.full((1, HEIGHT, WIDTH), value)}, prior),
            wanted,
        )


@pytest.mark.parametrize("count", [1, 2, 3])
def test_masks_are_repeated_for_a_batch_as_the_host_does(host, walk, work, count):
    prior, samples, whole = work
    masks = torch.cat([left(edge=edge) for edge in (30, 60, 90)[:count]])
    # As Set Latent Noise Mask leaves them.
    out = walk.decode({"samples": samples, "noise_mask": masks[:, None]}, prior)
    for index, edge in enumerate((30, 30) if count == 1 else (30, 60)):
        assert torch.equal(out[index, :, edge:], prior.unpadded[index, :, edge:])
        assert torch.equal(out[index, :, : edge - FEATHER], whole[index, :, : edge - FEATHER])


@pytest.mark.parametrize("size", [(15, 45), (120, 180), (8, 12)])
def test_masks_of_other_sizes_are_stretched_over_the_picture(host, walk, work, size):
    prior, samples, whole = work
    out = walk.decode({"samples": samples, "noise_mask": left(*size, edge=size[1] // 2)}, prior)
    # Of the border's own cell, half on either side is interpolated.
    cell = max(1, WIDTH // size[1])
    assert torch.equal(out[:, :, WIDTH // 2 + cell :], prior.unpadded[:, :, WIDTH // 2 + cell :])
    deep = slice(0, WIDTH // 2 - cell - FEATHER)
    assert distance(out[:, :, deep], whole[:, :, deep]) < 1e-6


def test_several_latents_of_one_picture_and_alpha(host, walk):
    image = torch.cat(
        [picture(64, 64), torch.rand(1, 64, 64, 1, generator=torch.Generator().manual_seed(1))], dim=-1
    )
    prior = walk.encode(image)
    out = walk.decode({"samples": prior.latent.repeat(3, 1, 1, 1), "noise_mask": left(64, 64, 32)}, prior)
    assert out.shape == (3, 64, 64, 4) and torch.equal(out[:, :, 32:], image[:, :, 32:].expand(3, -1, -1, -1))


@pytest.mark.parametrize("sampler", ["DAFF Sampler", "stock"])
def test_with_any_sampler(host, walk, sampler):
    image = picture(64, 96)
    prior = walk.encode(image)
    latent = {"samples": prior.latent, "noise_mask": left(64, 96, 48)}
    if sampler == "stock":
        model, positive, negative = walk.patch(prior)
        latent = {
            **latent,
            "samples": ksampler(model, positive, negative, prior.latent, noise_mask=latent["noise_mask"]),
        }
    else:
        latent = walk.sample(prior, latent=latent, steps=2)
    out = walk.decode(latent, prior)
    assert torch.equal(out[:, :, 48:], image[:, :, 48:]) and distance(out[:, :, :40], image[:, :, :40]) > 0.02


@pytest.mark.parametrize("tile", [0, 64])
def test_with_the_vae_of_sdxl(host, sdxl_restorer, sdxl_vae, tile):
    from aior_pack.aior_core.host.daem_decode import decode_daem
    from aior_pack.aior_core.host.prior_encode import encode_prior

    image = picture(HEIGHT, WIDTH)
    prior = encode_prior(sdxl_restorer, sdxl_vae, image)
    latent = {"samples": prior.latent + 0.5, "noise_mask": left()}
    out, whole = (
        decode_daem(each, sdxl_vae, sdxl_restorer, prior, tile=tile)
        for each in (latent, {"samples": latent["samples"]})
    )
    assert torch.equal(out[:, :, EDGE:], image[:, :, EDGE:]) and torch.equal(
        out[:, :, : EDGE - FEATHER], whole[:, :, : EDGE - FEATHER]
    )


@pytest.mark.parametrize(
    "mask", ["a mask", torch.zeros(5), torch.zeros(0, 8, 8), torch.full((1, 8, 8), float("nan"))]
)
def test_what_is_no_mask_is_refused(host, walk, work, mask):
    prior, samples, _ = work
    with pytest.raises(ValueError, match="noise mask"):
        walk.decode({"samples": samples, "noise_mask": mask}, prior)
    with pytest.raises(ValueError, match="noise mask"):
        walk.sample(prior, latent={"samples": samples, "noise_mask": mask})
