"""The prior of some pictures of a batch, compared with ComfyUI's nodes for images and latents."""

import dataclasses

import pytest
import torch
from aior_pack.tests.tiny import distance, picture

pytestmark = pytest.mark.usefixtures("host")


@pytest.fixture(scope="module")
def batch(walk):
    """A prior of four pictures with alpha, steered picture by picture."""
    from aior_pack.aior_core.pipeline.steer import steer_prior

    with torch.inference_mode():
        return steer_prior(
            walk.encode(picture(60, 90, batch=4, channels=4)), {"noise": [0.0, 0.25, 0.5, 1.0]}
        )


def same(a, b) -> bool:
    """Whether two priors hold the same, field by field."""

    def parts(prior):
        for field in dataclasses.fields(prior):
            value = getattr(prior, field.name)
            if field.name == "global_statistics":
                yield from (getattr(value, each.name) for each in dataclasses.fields(value))
            else:
                yield from value if isinstance(value, tuple) else (value,)

    return all(
        torch.equal(x, y) if torch.is_tensor(x) else x == y for x, y in zip(parts(a), parts(b), strict=True)
    )


@pytest.mark.parametrize(
    "index, length", [(0, 1), (2, 1), (1, 2), (-1, 1), (-3, 2), (2, 9), (9, 1), (-9, 2), (0, 4)]
)
def test_equal_numbers_give_what_the_host_gives_of_latents(batch, index, length):
    from aior_pack.aior_core.pipeline.prior_batch import prior_from_batch

    import nodes

    if index < nodes.LatentFromBatch.INPUT_TYPES()["required"]["batch_index"][1]["min"]:
        pytest.skip("the node of this ComfyUI counts from the start only")
    (latent,) = nodes.LatentFromBatch().frombatch({"samples": batch.latent}, index, length)
    taken = prior_from_batch(batch, index, length)
    assert torch.equal(taken.latent, latent["samples"])
    first = latent["batch_index"][0]
    rows = slice(first, first + len(taken.latent))
    assert (
        torch.equal(taken.steering, batch.steering[rows])
        and torch.equal(taken.alpha, batch.alpha[rows])
        and taken.geometry == batch.geometry
    )
    assert all(len(skip) == len(taken.latent) for skip in taken.skips) and torch.equal(
        taken.global_statistics.appearance, batch.global_statistics.appearance[rows]
    )


def test_one_of_several_is_the_prior_of_it_alone(walk):
    from aior_pack.aior_core.pipeline.prior_batch import prior_from_batch

    images = picture(60, 90, batch=3)
    taken, alone = prior_from_batch(walk.encode(images), 1, 1), walk.encode(images[1:2])
    assert (
        distance(taken.features, alone.features) < 1e-5
        and torch.equal(taken.image, alone.image)
        and taken.geometry == alone.geometry
    )
    assert distance(taken.severities, alone.severities) < 1e-5
    assert same(prior_from_batch(alone, 0, 1), alone) and not same(taken, walk.encode(images[:1]))


def test_it_is_restored_as_in_the_batch(walk):
    from aior_pack.aior_core.pipeline.prior_batch import prior_from_batch

    import nodes

    prior = walk.encode(picture(64, 96, batch=3))
    whole = walk.decode(walk.sample(prior, latent={"samples": prior.latent}, seed=3, steps=2), prior)
    (latent,) = nodes.LatentFromBatch().frombatch({"samples": prior.latent}, 2, 1)
    taken = prior_from_batch(prior, 2, 1)
    assert distance(walk.decode(walk.sample(taken, latent=latent, seed=3, steps=2), taken), whole[2:]) < 1e-4


@pytest.mark.parametrize(
    "prior, length, message",
    [(None, 1, "prior is nothing"), ("text", 1, "prior is a str"), ("batch", 0, "length is 0")],
)
def test_what_is_no_prior_and_no_length_is_refused(batch, prior, length, message):
    from aior_pack.aior_core.pipeline.prior_batch import prior_from_batch

    with pytest.raises(ValueError, match=message):
        prior_from_batch(batch if prior == "batch" else prior, 0, length)
