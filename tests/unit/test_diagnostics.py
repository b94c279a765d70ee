"""Look Inside restores as the other nodes do, and its numbers are right (random weights)."""

import dataclasses

import pytest
import torch
from aior_pack.tests.tiny import TINY, distance, picture

pytestmark = pytest.mark.usefixtures("host")


@pytest.fixture(scope="module")
def look(walk):
    from aior_pack.aior_core.host.diagnostics import diagnose

    def run(prior, restorer=None, model=None, **options):
        with torch.inference_mode():
            return diagnose(model or walk.model, walk.vae, restorer or walk.restorer, prior, **options)

    return run


def test_the_picture_is_that_of_the_two_nodes(walk, look):
    prior = walk.encode(picture(50, 70, channels=4))
    options = {"seed": 3, "steps": 2, "strength": 0.7}
    inside = look(prior, **options)
    assert torch.equal(inside.image, walk.decode(walk.sample(prior, **options), prior))
    assert torch.equal(inside.image, look(prior, **options).image)
    assert not torch.equal(inside.image, look(prior, **{**options, "seed": 4}).image)
    # Nothing of it stays on the MODEL.
    patches = walk.model.model_options["transformer_options"].get("patches", {})
    assert not any(patches.values())


def test_a_batch_is_looked_at_picture_by_picture(walk, look):
    images = picture(48, 64, batch=2)
    prior = walk.encode(images)
    both = look(prior, seed=1, steps=2)
    assert len(both.influence) == 2 and both.influence[0] != both.influence[1]
    assert distance(both.image, walk.decode(walk.sample(prior, seed=1, steps=2), prior)) < 1e-4
    first = look(walk.encode(images[:1]), seed=1, steps=2)
    assert both.influence[0] == pytest.approx(first.influence[0], rel=1e-4)
    for level, alone in zip(both.levels, first.levels, strict=True):
        assert (
            distance(level.votes[:1], alone.votes) < 1e-4
            and distance(level.weights[:1], alone.weights) < 1e-4
        )


def test_influence_of_the_first_step_is_what_daff_adds_to_the_first_feature(walk, look):
    import comfy.sample
    from aior_pack.aior_core.host.daff_patch import embed_condition

    prior = walk.encode(picture(64, 48))
    # A rectified flow starts from the noise alone, at timestep 1000.
    noise = comfy.sample.prepare_noise(torch.zeros_like(prior.latent), 5)
    feature = walk.model.model.diffusion_model.input_blocks[0][0](noise)
    added = walk.restorer.daff.model(feature, embed_condition(walk.restorer, prior), torch.tensor([1000.0]))
    (influence,) = look(prior, seed=5, steps=3).influence
    assert len(influence) == 3 and influence[0] == pytest.approx(
        float(added.norm() / feature.norm()), rel=1e-3
    )


def test_influence_follows_the_strength(walk, look):
    prior = walk.encode(picture(48, 48))
    none, half, whole = (look(prior, steps=2, strength=strength).influence[0] for strength in (0.0, 0.5, 1.0))
    assert none == [0.0, 0.0] and whole[0] > 0.01
    # From the second step on the latents differ.
    assert half[0] == pytest.approx(0.5 * whole[0], rel=1e-4)


def test_guidance_is_metered_on_positive(walk, look):
    prior = walk.encode(picture(48, 48))
    alone, guided = (look(prior, steps=1, cfg=cfg).influence[0] for cfg in (1.0, 3.0))
    # Before the first step nothing that the two do differs.
    assert guided == pytest.approx(alone, rel=1e-5)


def test_windows_are_metered_together(walk, look, monkeypatch):
    from aior_pack.aior_core.host import sampling

    prior = walk.encode(picture(96, 128))
    whole = look(prior, steps=1).influence[0]
    monkeypatch.setattr(sampling, "WHOLE_UP_TO", 64)
    monkeypatch.setattr(sampling, "WINDOW", 128)
    assert look(prior, steps=1).influence[0] == whole
    monkeypatch.setattr(sampling, "WINDOW", 64)
    (windowed,) = look(prior, steps=1).influence
    assert len(windowed) == 1 and 0.5 * whole[0] < windowed[0] < 2 * whole[0]


def test_the_regions_votes_make_the_routers_choice(walk, look):
    from aior_pack.aior_core.pipeline.decode import decode_with_detail
    from aior_pack.aior_core.report.diagnostics import region_shares, winning_shares

    prior = walk.encode(picture(64, 96))
    inside = look(prior, seed=2, steps=1)
    daem, features = walk.restorer.daem.model, [*prior.skips, prior.features]
    context = daem.context(
        prior.features,
        prior.severities,
        probabilities=prior.probabilities,
        global_statistics=daem.global_statistics((prior.picture + 1) / 2),
    )
    latent = walk.sample(prior, seed=2, steps=1)["samples"]
    _, routings = decode_with_detail(
        walk.vae.first_stage_model, daem, latent, features, prior.picture, context
    )
    assert len(inside.levels) == len(routings) == 4
    for level, routing in zip(inside.levels, reversed(routings)):
        assert level.votes.shape == (1, 4, 8, 12)
        assert distance(level.votes.mean(dim=(2, 3)), routing.logits) < 1e-4
        assert distance(level.weights, routing.logits.softmax(dim=1)) < 1e-5
        assert level.weights.argmax() == routing.gates.argmax()
        # Places differ: a constant map would pass all of the above.
        assert level.votes.std(dim=(2, 3)).min() > 1e-3
        assert distance(region_shares(level.votes).sum(dim=1), torch.ones(1, 2, 3)) < 1e-6
        assert sum(winning_shares(level.votes)) == pytest.approx(1)


def test_tiles_see_the_same_votes(walk):
    from aior_pack.aior_core.host.daem_decode import decode_daem

    prior = walk.encode(picture(136, 200))
    seen = {}
    for tile in (0, 64):
        canvases = [torch.full((1, 4, 17, 25), float("nan")) for _ in range(4)]
        calls = []

        def watch(index, level, region, routing, votes, canvases=canvases, calls=calls):
            calls.append((index, level))
            region.place(canvases[level], region.inner(votes))

        image = decode_daem({"samples": prior.latent}, walk.vae, walk.restorer, prior, tile=tile, watch=watch)
        assert torch.equal(image, walk.decode({"samples": prior.latent}, prior, tile=tile))
        seen[tile] = canvases, calls
    assert len(seen[0][1]) == 4 and len(seen[64][1]) == 4 * 12
    assert all(distance(a, b) < 1e-4 for a, b in zip(seen[0][0], seen[64][0]))


def test_regions_are_counted_right():
    from aior_pack.aior_core.report.diagnostics import region_shares, winning_shares

    votes = torch.zeros(1, 3, 6, 10)
    votes[:, 1, :, :4] = 2.0
    votes[:, 2, :, 4:] = 1.0
    shares = region_shares(votes)
    # 6 by 10 places are 2 by 3 regions of 4 by 4, those at the ends smaller.
    assert shares.shape == (1, 3, 2, 3) and winning_shares(votes) == pytest.approx([0, 1 / 3, 2 / 3])
    assert shares[0, 1, 0, 0] == pytest.approx(torch.tensor([0.0, 2.0, 0.0]).softmax(0)[1].item())


def test_words_and_pictures_say_the_same_numbers(walk):
    from aior_pack.aior_core.pipeline.diagnostics import Inside, Level
    from aior_pack.aior_core.report.diagnostics import (
        expert_names,
        expert_sheet,
        influence_chart,
        inside_text,
    )
    from aior_pack.aior_core.report.palette import BLUE

    prior, config = walk.encode(picture(64, 64)), TINY.restorer.daem
    weights, votes = torch.tensor([[0.1, 0.2, 0.65, 0.05]]), torch.zeros(1, 4, 8, 8)
    votes[:, 2, :, :4], votes[:, 0, :, 4:] = 9.0, 9.0
    inside = Inside([[0.4, 0.1]], [Level(weights, votes)], torch.zeros(1, 64, 64, 3))
    assert expert_names(config) == ["3x3", "5x5", "7x7", "3x3 over 9x9"]
    text = inside_text(inside, prior, config)
    assert text.startswith("Picture 1 (64x64)") and "step by step: 40%, 10%" in text
    assert "full size: 7x7 (weight 65.0%); regions speak for: 3x3 50%, 7x7 50%" in text
    chart = influence_chart(inside.influence)[0]
    heights = (chart == torch.tensor(BLUE) / 255).all(dim=-1).sum(dim=0)
    first, second = heights[100:300].max(), heights[400:600].max()
    # The axis ends at 50 %.
    assert 160 < first < 200 and float(second / first) == pytest.approx(0.25, abs=0.03)
    sheet = expert_sheet(inside, prior, config)[0]
    left, right = sheet[200, 60], sheet[200, 340]
    # Blue-green for the third expert, blue for the first, over one grey picture.
    assert left.argmax() == 1 and right.argmax() == 2


def test_regions_follow_the_latents_scale(walk):
    """The regions cover the picture with any VAE: here 16 pixels of the picture are one latent pixel."""
    from aior_pack.aior_core.pipeline.diagnostics import Inside, Level
    from aior_pack.aior_core.report.diagnostics import expert_sheet

    prior, votes = walk.encode(picture(64, 128)), torch.zeros(1, 4, 4, 8)
    votes[:, 2, :, :4], votes[:, 0, :, 4:] = 9.0, 9.0
    inside = Inside([[0.5]], [Level(torch.full((1, 4), 0.25), votes)], torch.zeros(1, 64, 128, 3))
    sheet = expert_sheet(inside, prior, TINY.restorer.daem)[0]
    assert sheet[150, 180].argmax() == 1 and sheet[150, 230].argmax() == 2


def test_without_daem_the_sheet_says_so(walk, look):
    from aior_pack.aior_core.report.diagnostics import expert_sheet, inside_text

    prior = walk.encode(picture(48, 48))
    inside = look(prior, dataclasses.replace(walk.restorer, daem=None), steps=1)
    assert inside.levels == [] and "no DAEM" in inside_text(inside, prior, None)
    assert expert_sheet(inside, prior, None).std() > 0.01


@pytest.mark.parametrize("steps", [1, 7, 200])
def test_charts_hold_any_number_of_steps(steps):
    from aior_pack.aior_core.report.diagnostics import influence_chart

    chart = influence_chart([[0.5 * (i + 1) / steps for i in range(steps)], [0.0] * steps])
    assert chart.shape == (2, 360, 640, 3) and chart[0].std() > chart[1].std()


def test_what_does_not_fit_is_said_in_the_name_of_the_node(walk, look):
    prior = walk.encode(picture(48, 48))
    with pytest.raises(ValueError, match="^cfg"):
        look(prior, cfg=float("nan"))
    with pytest.raises(ValueError, match="^prior is a str"):
        look("prior")
    with pytest.raises(ValueError, match="^model"):
        look(prior, model="model")
