"""What holds for every published recipe.

It is seeded, gets worse with severity, has parameters that JSON keeps, and limits guard these.
"""

import copy
import json

import pytest
import torch
from aior_pack.aior_core.degradations.draw import Draw
from aior_pack.aior_core.degradations.fields import stream
from aior_pack.aior_core.degradations.kinds import KINDS
from aior_pack.aior_core.degradations.published import PUBLISHED

NAMES = sorted(PUBLISHED)
PLAIN = {"gaussian", "gaussian_clipped", "bicubic", "gaussian_blur"}
"""Parameters that severity alone decides."""
DAMAGING = [name for name in NAMES if PUBLISHED[name].kind != "clean"]


def scene(height=96, width=112, seed=0):
    """Return `1 3 H W` in 0..1 with what photographs have: a gradient, flat regions with edges, coloured
    texture.
    """
    generator = torch.Generator().manual_seed(seed)
    rows = torch.linspace(0, 1, height)[:, None].expand(height, width)
    columns = torch.linspace(0, 1, width)[None].expand(height, width)
    picture = torch.stack((0.2 + 0.4 * rows, 0.5 - 0.2 * columns, 0.6 - 0.4 * rows))
    for _ in range(12):
        y, x, size = torch.rand(3, generator=generator).tolist()
        inside = ((rows - y) ** 2 + (columns - x) ** 2) < (0.05 + 0.15 * size) ** 2
        level, tint = torch.rand(1, generator=generator), torch.rand(3, 1, 1, generator=generator)
        picture = torch.where(inside, level * 0.6 + 0.08 + 0.15 * tint, picture)
    texture = torch.randn(1, 1, height // 2, width // 2, generator=generator)
    hue = torch.randn(1, 3, height // 8, width // 8, generator=generator)
    texture, hue = (
        torch.nn.functional.interpolate(part, (height, width), mode="bicubic")[0] for part in (texture, hue)
    )
    return (picture + 0.04 * texture + 0.01 * hue).clamp(0, 1)[None]


def drawn(name, severity, seed=0):
    return PUBLISHED[name].draw(Draw(stream(seed)), severity)


def lost(name, severity, count=6):
    """Return the mean squared error over several pictures and draws, the same ones at every severity."""
    errors = []
    for seed in range(count):
        picture = scene(seed=seed)
        damaged = PUBLISHED[name].apply(picture, drawn(name, severity, seed), seed).clamp(0, 1)
        errors.append((damaged - picture).square().mean().item())
    return sum(errors) / count


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_same_picture_and_nothing_global_is_drawn_from(name):
    picture, params = scene(), drawn(name, 0.7, 3)
    kept, before = copy.deepcopy(params), torch.get_rng_state()
    first = PUBLISHED[name].apply(picture, params, 11)
    torch.rand(5)
    second = PUBLISHED[name].apply(picture.clone(), json.loads(json.dumps(params)), 11)
    torch.set_rng_state(before)
    third = PUBLISHED[name].apply(picture, params, 11)
    assert torch.equal(first, second) and torch.equal(first, third)
    assert torch.equal(torch.get_rng_state(), before)
    assert params == kept and torch.equal(picture, scene())
    assert first.shape == picture.shape and first.dtype == picture.dtype and first.isfinite().all()
    assert drawn(name, 0.7, 3) == params
    assert any(drawn(name, 0.7, seed) != params for seed in range(4, 14)) == (name not in PLAIN)


@pytest.mark.parametrize("name", NAMES)
def test_every_picture_of_a_batch_gets_what_it_gets_alone(name):
    pictures = torch.cat((scene(64, 72, 1), scene(64, 72, 2)))
    params = drawn(name, 0.6, 1)
    together = PUBLISHED[name].apply(pictures, params, 5)
    alone = torch.cat([PUBLISHED[name].apply(picture[None], params, 5) for picture in pictures])
    assert (together - alone).abs().max() < 2e-3


@pytest.mark.slow
@pytest.mark.parametrize("name", DAMAGING)
def test_more_severity_is_more_lost_and_none_is_nearly_nothing(name):
    errors = [lost(name, severity) for severity in (0.0, 0.01, 0.15, 0.4, 0.7, 1.0)]
    assert errors[0] < 1e-5, "severity 0 leaves less than 50 dB"
    assert errors[1] < 10**-3.5, "severity 0.01 leaves less than 35 dB"
    assert all(worse > better * 1.05 for better, worse in zip(errors[1:], errors[2:])), errors


@pytest.mark.parametrize("name", NAMES)
def test_what_is_drawn_is_within_the_limits_at_every_severity(name):
    style = PUBLISHED[name]
    assert style.kind in (*KINDS, "mixture", "clean") and 0 <= style.severities[0] < style.severities[1] <= 1
    for seed in range(40):
        params = drawn(name, (seed % 11) / 10, seed)
        assert set(style.limits) | set(style.choices) == set(params)
        style.require(params)
        assert json.loads(json.dumps(params)) == params
    for severity in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="severity"):
            style.draw(Draw(stream(0)), severity)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_beyond_the_limits_is_refused_by_name(name):
    style, picture = PUBLISHED[name], scene(32, 32)
    params = drawn(name, 0.5)
    for key, (low, high, *counts) in style.limits.items():
        for value in (
            high + 1,
            low - 1,
            float("inf"),
            float("nan"),
            "9",
            None,
            [],
            [low] * 40,
            True,
            [None],
            {},
        ):
            with pytest.raises(ValueError, match=key):
                style.apply(picture, params | {key: value}, 0)
        if not counts:
            with pytest.raises(ValueError, match=key):
                style.apply(picture, params | {key: [low]}, 0)
    for key in style.choices:
        with pytest.raises(ValueError, match=key):
            style.apply(picture, params | {key: "nothing of that name"}, 0)
    for key in params:
        with pytest.raises(ValueError, match=key):
            style.apply(picture, {other: value for other, value in params.items() if other != key}, 0)
    for wrong in (picture[0], picture[:, :1], (picture * 255).byte()):
        with pytest.raises(ValueError, match="B 3 H W"):
            style.apply(wrong, params, 0)


@pytest.mark.parametrize("name", NAMES)
def test_small_and_narrow_pictures_and_other_dtypes_are_damaged_too(name):
    params = drawn(name, 0.8, 2)
    for height, width in ((1, 1), (7, 200), (40, 3)):
        picture = torch.full((1, 3, height, width), 0.4)
        assert PUBLISHED[name].apply(picture, params, 1).shape == picture.shape
        assert PUBLISHED[name].truth(params, 1, height, width).shape == (height, width)
    half = PUBLISHED[name].apply(scene(48, 48).bfloat16(), params, 1)
    assert half.dtype == torch.bfloat16 and half.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_the_truth_is_a_share_and_labels_are_of_kinds(name):
    style, params = PUBLISHED[name], drawn(name, 0.6, 4)
    share = style.truth(params, 9, 60, 50)
    assert share.shape == (60, 50) and 0 <= share.min() and 0 < share.max() <= 1
    if style.kind in ("mixture", "clean"):
        labels = style.said(params)
        assert set(labels) <= set(KINDS) and all(0 <= severity <= 1 for severity in labels.values())
        assert bool(labels) == (style.kind == "mixture")
