"""DAEM Decode's ensemble: the mean of mirrored copies."""

import dataclasses

import pytest
import torch
from aior_pack.aior_core.picture import Geometry
from aior_pack.tests.tiny import distance, picture

pytestmark = pytest.mark.usefixtures("host")


def turned(walk, prior, latent: torch.Tensor, dimensions: tuple[int, ...]):
    """A prior without padding, and its latent, with `dimensions` (of `B H W C`) of the picture flipped."""
    inner = [dimension + 1 for dimension in dimensions]
    seen = walk.encode(prior.image.flip(dimensions))
    other = dataclasses.replace(prior, image=seen.image, features=seen.features, skips=seen.skips)
    return other, {"samples": latent.flip(inner)}


@pytest.mark.parametrize(
    "dimensions", [(1,), (2,), (1, 2)], ids=["upside down", "left to right", "half a turn"]
)
def test_all_four_do_not_care_which_way_up_the_picture_is(walk, dimensions):
    prior = walk.encode(picture(64, 96))
    other, latent = turned(walk, prior, prior.latent, dimensions)
    for ensemble, same in ((4, True), (1, False)):
        one = walk.decode({"samples": prior.latent}, prior, ensemble=ensemble)
        two = walk.decode(latent, other, ensemble=ensemble).flip(dimensions)
        assert (distance(one, two) < 1e-5) == same


def test_two_are_the_mean_of_both(walk):
    prior = walk.encode(picture(64, 96))
    other, latent = turned(walk, prior, prior.latent, (1, 2))
    wanted = (walk.decode({"samples": prior.latent}, prior) + walk.decode(latent, other).flip((1, 2))) / 2
    assert distance(walk.decode({"samples": prior.latent}, prior, ensemble=2), wanted) < 1e-6


@pytest.mark.parametrize("kept", [True, False], ids=["small", "large"])
def test_a_copy_has_its_own_features_at_every_level(walk, monkeypatch, kept):
    """For a small picture, and for one whose fine features are not kept: no copy uses another's features."""
    from aior_pack.aior_core.host.prior_encode import encode_features
    from aior_pack.aior_core.pipeline import encode
    from aior_pack.tests.tiny import decode_job

    monkeypatch.setattr(encode, "KEPT_SKIPS_PIXELS", 2**20 if kept else 0)
    prior = walk.encode(picture(64, 96))

    def encoded(image):
        return encode_features(walk.restorer, image, tile=4096, shown=False)

    copy, wanted = decode_job(walk, prior).mirrored((2,), encoded).prior, walk.encode(prior.image.flip(2))
    assert (
        torch.equal(copy.features, wanted.features) and distance(copy.features, prior.features.flip(3)) > 0.01
    )
    assert (copy.skips is None) == (not kept) and (
        not kept or all(torch.equal(*pair) for pair in zip(copy.skips, wanted.skips))
    )


@pytest.mark.parametrize("strength", [1.0, 0.0])
def test_a_padded_picture_stays_where_it_is(walk, strength):
    image = picture(61, 83, channels=4, batch=2)
    prior = walk.encode(image)
    latent = {"samples": prior.latent}
    one, two = (walk.decode(latent, prior, ensemble=count, strength=strength) for count in (1, 2))
    assert two.shape == (2, 61, 83, 4) and two.is_contiguous() and torch.equal(two[..., 3], image[..., 3])
    # The copy has its padding above and to the left, and it is cut off there.
    whole = dataclasses.replace(prior, geometry=Geometry(64, 88, 0, 0), alpha=None)
    other, flipped = turned(walk, whole, prior.latent, (1, 2))
    copy = walk.decode(flipped, other, strength=strength).flip((1, 2))[:, :61, :83]
    assert distance(two[..., :3], (one[..., :3] + copy) / 2) < 1e-6


def test_tiled_it_equals_the_whole(walk):
    prior = walk.encode(picture(200, 264))
    latent = {"samples": prior.latent}
    assert (
        distance(walk.decode(latent, prior, ensemble=2), walk.decode(latent, prior, ensemble=2, tile=64))
        < 1e-4
    )


@pytest.mark.parametrize("ensemble", [0, 5, -1])
def test_another_number_is_refused(walk, ensemble):
    prior = walk.encode(picture(64, 64))
    with pytest.raises(ValueError, match=f"^ensemble is {ensemble}; expected 1"):
        walk.decode({"samples": prior.latent}, prior, ensemble=ensemble)
