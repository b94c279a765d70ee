"""Steer Degradations on a small model: what the networks get, and what the report says."""

import dataclasses

import pytest
import torch
from aior_pack.aior_core.degradations import KINDS
from aior_pack.aior_core.models.daem import DAEM
from aior_pack.aior_core.models.family import SDXL
from aior_pack.tests.tiny import TINY, distance, picture, randomised

pytestmark = pytest.mark.usefixtures("host")

GRAIN_STAYS = {"noise": 0.0}


def steer(prior, weights):
    from aior_pack.aior_core.pipeline.steer import steer_prior

    return steer_prior(prior, weights)


def keep(**weights):
    """A row of weights in the order of KINDS."""
    return torch.tensor([[weights.get(kind, 1.0) for kind in KINDS]])


def test_weight_one_everywhere_is_the_unsteered_prior_bit_for_bit(walk):
    prior = walk.encode(picture(64, 80))
    assert steer(prior, {kind: 1.0 for kind in KINDS}) is prior and steer(prior, {}) is prior
    # Neither does a weight of 1 round anything where another kind is steered.
    steered = steer(prior, GRAIN_STAYS)
    assert torch.equal(steered.to_remove[:, 1:], prior.severities[:, 1:]) and steered.to_remove[0, 0] == 0
    ones = dataclasses.replace(prior, steering=torch.ones_like(prior.severities))
    latents = [walk.sample(each, steps=2) for each in (prior, ones)]
    assert torch.equal(latents[0]["samples"], latents[1]["samples"])
    assert torch.equal(walk.decode(latents[0], prior), walk.decode(latents[1], ones))


def test_steering_twice_multiplies(walk):
    prior = walk.encode(picture(64, 64))
    twice = steer(steer(prior, {"noise": 0.5, "rain": 0.2}), {"noise": 0.5, "haze": 0.0})
    assert torch.allclose(twice.to_remove, prior.severities * keep(noise=0.25, rain=0.2, haze=0.0))
    assert prior.steering is None


def test_the_denoiser_is_told_what_training_tells_it(walk):
    prior = walk.encode(picture(64, 64))
    model, positive, negative = walk.patch(prior)
    steered_model, steered, null = walk.patch(steer(prior, GRAIN_STAYS))
    tokens = walk.restorer.encoder.model.tokens(prior.severities * keep(noise=0.0))
    assert torch.equal(steered[0][0], tokens) and distance(steered[0][0], positive[0][0]) > 1e-2
    # The null tokens and the features say nothing of what is wished.
    assert torch.equal(null[0][0], negative[0][0])
    conditions = [c[0][1]["model_conds"]["aior_prior"].cond for c in (positive, steered)]
    assert torch.equal(*conditions)


def test_the_decoder_is_told_what_training_tells_it(walk):
    from aior_pack.aior_core.picture import from_unit
    from aior_pack.aior_core.pipeline.decode import decode_with_detail

    prior = walk.encode(picture(64, 96))
    daem, features = walk.restorer.daem.model, [*prior.skips, prior.features]
    context = daem.context(
        prior.features,
        prior.severities,
        keep(noise=0.0, rain=0.0),
        prior.probabilities,
        daem.global_statistics((prior.picture + 1) / 2),
    )
    trained, _ = decode_with_detail(
        walk.vae.first_stage_model, daem, prior.latent, features, prior.picture, context
    )
    latent = {"samples": prior.latent}
    decoded = walk.decode(latent, steer(prior, {"noise": 0.0, "rain": 0.0}))
    assert distance(decoded, from_unit(trained)) < 1e-5
    assert not torch.equal(decoded, walk.decode(latent, prior))


def test_own_conditioning_is_left_alone(walk):
    prior = steer(walk.encode(picture(64, 64)), GRAIN_STAYS)
    own = [[torch.randn(1, 8, 24, generator=torch.Generator().manual_seed(0)), {}]]
    assert torch.equal(walk.patch(prior, own, own)[1][0][0], own[0][0])


def test_a_weight_per_picture(walk):
    images = picture(64, 80, batch=2)
    both = steer(walk.encode(images), {"noise": (0.0, 1.0), "blur": 0.5})
    alone = [
        steer(walk.encode(images[:1]), {"noise": 0.0, "blur": 0.5}),
        steer(walk.encode(images[1:]), {"blur": 0.5}),
    ]
    tokens = walk.patch(both)[1][0][0]
    pictures = walk.decode({"samples": both.latent}, both)
    for index, prior in enumerate(alone):
        assert distance(tokens[index : index + 1], walk.patch(prior)[1][0][0]) < 1e-5
        assert distance(pictures[index : index + 1], walk.decode({"samples": prior.latent}, prior)) < 1e-4


def test_tiles_follow_the_steering_too(walk):
    prior = steer(walk.encode(picture(136, 200)), GRAIN_STAYS)
    latent = {"samples": prior.latent}
    assert distance(walk.decode(latent, prior, tile=64), walk.decode(latent, prior)) < 1e-4


def test_the_report_says_what_is_there_and_what_is_left_in(walk):
    from aior_pack.aior_core.report.degradation_report import report_maps, report_plot, report_text

    prior = walk.encode(picture(64, 64, batch=2))
    steered = steer(prior, {"noise": (0.0, 1.0), "low_light": (0.6, 1.0), "rain": (1.0, 0.0)})
    assert torch.equal(steered.severities, prior.severities)
    plain, first, second = report_text(prior), *report_text(steered).split("\n\n")
    assert "left in" not in plain
    assert "To be left in: noise, low light (40%)." in first and "To be left in: rain." in second
    assert [line for line in report_text(steered).splitlines() if "left in" not in line] == plain.splitlines()
    assert all(torch.equal(a, b) for a, b in zip(report_maps(prior), report_maps(steered)))
    charts = report_plot(prior), report_plot(steered)
    assert charts[0].shape == charts[1].shape and not torch.equal(*charts)


@pytest.mark.parametrize(
    "weights, message",
    [
        ({"noise": 1.5}, "weight of noise is 1.5"),
        ({"rain": float("nan")}, "rain is nan"),
        ({"blur": (0.0, -0.1)}, "weight of blur is -0.1"),
        ({"grain": 0.0}, "unknown degradation 'grain'.*noise"),
        ({"haze": (0.0, 0.0, 1.0)}, "3 weights of haze for 2 pictures"),
    ],
)
def test_wrong_weights_are_refused(walk, weights, message):
    prior = walk.encode(picture(64, 64, batch=2))
    with pytest.raises(ValueError, match=message):
        steer(prior, weights)


def test_where_nothing_would_follow_it_is_refused(walk):
    prior = walk.encode(picture(64, 64))
    config = dataclasses.replace(walk.restorer.config, family=SDXL)
    deaf = dataclasses.replace(walk.restorer, daem=None, config=config)
    from aior_pack.aior_core.host.compatibility import require_steerable

    require_steerable(deaf, prior)
    with pytest.raises(ValueError, match="^the prior is steered.*no DAEM"):
        require_steerable(deaf, steer(prior, GRAIN_STAYS))
    require_steerable(dataclasses.replace(walk.restorer, daem=None), steer(prior, GRAIN_STAYS))


def test_the_node(walk):
    from aior_pack.nodes import NODES

    (node,) = [each for each in NODES if each.GET_SCHEMA().node_id == "AIOR_SteerPrior"]
    schema = node.GET_SCHEMA()
    assert [entry.id for entry in schema.inputs] == ["prior", *KINDS]
    assert [entry.io_type for entry in schema.outputs] == ["AIOR_PRIOR"]
    assert all((entry.default, entry.min, entry.max) == (1.0, 0.0, 1.0) for entry in schema.inputs[1:])
    prior = walk.encode(picture(64, 64))
    (steered,) = node.execute(prior, **{kind: 0.0 if kind == "noise" else 1.0 for kind in KINDS}).result
    assert torch.equal(steered.to_remove, prior.severities * keep(noise=0.0))


def test_what_is_kept_comes_back_by_its_share_and_nothing_else_changes():
    daem = randomised(DAEM(TINY.restorer.daem))
    generator = torch.Generator().manual_seed(0)
    h, decoded, lq, feature = (
        torch.randn(1, c, n, n, generator=generator) for c, n in ((8, 16), (3, 16), (3, 16), (24, 2))
    )
    severities = torch.full((1, 8), 0.5)

    def output(first):
        steering = torch.ones(1, 8)
        steering[0, 0] = first
        # All else that is told of the steering stays as without it.
        context = dataclasses.replace(daem.context(feature, severities), steering=steering)
        return daem.output(h, decoded, lq, context)

    nothing, half, whole = output(1.0), output(0.5), output(0.0)
    daem.kept = None
    assert torch.equal(nothing, output(0.0)) and not torch.allclose(whole, nothing)
    assert torch.allclose(half - nothing, (whole - nothing) / 2, atol=1e-5)
