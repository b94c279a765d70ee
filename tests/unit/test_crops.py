"""Crops from photographs: how far they are reduced, and that sharpness and brightness stay."""

import pytest
import torch
from aior_pack.aior_core.training.data import REDUCED, REDUCED_SHARE, Photographs, draw_cut, take


def photographs(*sizes):
    generator = torch.Generator().manual_seed(1)
    pictures = tuple(
        torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8) for size in sizes
    )
    return Photographs(
        pictures, tuple(map(str, range(len(sizes)))), torch.ones(len(sizes), dtype=torch.float64)
    )


def cuts(of, size, count, **more):
    generator = torch.Generator().manual_seed(2)
    return [draw_cut(of, size, generator, **more) for _ in range(count)]


def test_most_crops_are_reduced_by_any_factor():
    drawn = [cut.side / 64 for cut in cuts(photographs((400, 300)), 64, 600)]
    reduced = [factor for factor in drawn if factor != 1]
    assert len(reduced) / len(drawn) == pytest.approx(REDUCED_SHARE, abs=0.05)
    assert REDUCED[0] <= min(reduced) < 1.6 and 2.9 < max(reduced) <= REDUCED[1]
    whole = [factor for factor in reduced if factor in (2, 3)]
    assert (
        len(whole) / len(reduced) == pytest.approx(0.5, abs=0.06) and 0.3 < whole.count(2) / len(whole) < 0.7
    )


def test_no_crop_reaches_beyond_its_photograph():
    of = photographs((130, 220), (96, 97), (64, 300))
    for cut in cuts(of, 64, 400):
        height, width = of.pictures[cut.picture].shape[1:]
        assert 0 <= cut.top <= height - cut.side and 0 <= cut.left <= width - cut.side
        assert take(of, cut, 64).shape == (3, 64, 64)


def test_whole_factors_take_plain_means():
    of = photographs((200, 200))
    cut = next(
        cut
        for cut in cuts(of, 64, 200)
        if cut.side == 128 and cut.gains is None and cut.flat is None and cut.turns == 0
    )
    block = of.pictures[0][:, cut.top : cut.top + 2, cut.left : cut.left + 2].float().mean(dim=(1, 2))
    assert torch.allclose(take(of, cut, 64)[:, 0, 0], block / 127.5 - 1, atol=1e-5)


def test_a_photograph_that_is_too_small_is_not_reduced():
    assert {cut.side for cut in cuts(photographs((90, 300)), 64, 100)} == {64}


def test_faithful_crops_are_not_reduced():
    assert {cut.side for cut in cuts(photographs((400, 300)), 64, 100, faithful=True)} == {64}


def test_what_is_reduced_is_not_aliased_and_keeps_its_brightness():
    """Stripes of one pixel become the grey between them, and a bright picture stays as bright."""
    stripes = (torch.arange(192) % 2 * 255).to(torch.uint8).expand(3, 192, 192).contiguous()
    of = Photographs((stripes,), ("stripes",), torch.ones(1, dtype=torch.float64))
    reduced = [
        cut
        for cut in cuts(of, 64, 60)
        if cut.side > 120 and cut.side % 64 and cut.gains is None and cut.flat is None
    ]
    assert len(reduced) > 5
    for cut in reduced:
        crop = take(of, cut, 64)
        assert crop[:, 4:-4, 4:-4].std() < 0.15 and abs(crop.mean()) < 0.02
