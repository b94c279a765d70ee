"""The anchor: for which damages low frequencies may change, and which they are."""

import pytest
import torch
from aior_pack.aior_core.models.calibration import Calibration
from aior_pack.aior_core.models.confidence import ConfidenceGates
from aior_pack.aior_core.models.config import FIRST_KINDS
from aior_pack.aior_core.models.daem import DAEM
from aior_pack.aior_core.models.layers import initialise
from aior_pack.aior_core.models.low_frequency_anchor import (
    ANCHOR_REACH,
    low_frequency_correction,
)
from aior_pack.tests.tiny import TINY

RESTORER = TINY.restorer
GATES = ConfidenceGates(FIRST_KINDS, Calibration())


def tensor(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def low_frequencies(x):
    return low_frequency_correction(x, torch.zeros_like(x), torch.zeros(1, 1, 1, 1))


def test_the_anchor_lets_go_for_what_is_likely_only():
    daem = initialise(DAEM(RESTORER.daem), torch.Generator().manual_seed(0))
    feature, hazy = tensor(1, 24, 8, 8), torch.zeros(1, 8).index_fill(1, torch.tensor([5]), 0.2)
    anchors = [
        daem.context(feature, hazy, probabilities=torch.full((1, 8), p)).anchor.item()
        for p in (0.1, 0.5, 0.625, 0.75, 1.0)
    ]
    assert anchors[:2] == [1, 1] and 0 < anchors[2] < 1 and anchors[3:] == [0, 0]
    assert daem.context(feature, hazy).anchor.item() == 0


def test_haze_counts_where_two_opinions_agree(monkeypatch):
    daem = initialise(DAEM(RESTORER.daem), torch.Generator().manual_seed(0))
    feature, hazy, looks = (
        tensor(1, 24, 8, 8),
        torch.zeros(1, 8).index_fill(1, torch.tensor([5]), 0.2),
        torch.zeros(1, 3, 64, 64),
    )

    def anchor(first: float, second: float, noise: float) -> float:
        monkeypatch.setattr(daem.curve, "hazy", lambda appearance: torch.full((1,), second))
        said = (
            torch.zeros(1, 8).index_fill(1, torch.tensor([5]), first).index_fill(1, torch.tensor([0]), noise)
        )
        return daem.context(feature, hazy, None, said, daem.global_statistics(looks)).anchor.item()

    # One alone is not enough, however sure it is; behind noise both need not be sure, without it the first
    # must be.
    assert anchor(0.98, 0.1, 1.0) == anchor(0.1, 0.98, 1.0) == 1
    assert anchor(0.9, 0.9, 1.0) == 0 and 0 < anchor(0.65, 0.8, 1.0) < 1
    assert anchor(0.69, 0.98, 0.0) == 1 and 0 < anchor(0.8, 0.98, 0.0) < 1 and anchor(0.95, 0.8, 0.0) == 0
    # Of other damages the first opinion is all there is.
    rain = torch.zeros(1, 8).index_fill(1, torch.tensor([3]), 0.5)
    monkeypatch.setattr(daem.curve, "hazy", lambda appearance: torch.zeros(1))
    assert (
        daem.context(
            feature, rain, None, torch.full((1, 8), 0.9), daem.global_statistics(looks)
        ).anchor.item()
        == daem.context(feature, rain).anchor.item()
        == 0
    )


def test_of_haze_that_is_not_believed_nothing_is_told():
    severities = torch.full((4, 8), 0.4)
    said = torch.zeros(4, 8).index_fill(1, torch.tensor([5]), 0.9)
    said[3, 5] = 0.5
    heard = GATES.gate_severity(severities, said, torch.tensor([0.9, 0.3, 0.35, 0.95]))
    # Both sure; the second is not; between; and not the first.
    assert (
        heard[0, 5] == severities[0, 5]
        and heard[1, 5] == heard[3, 5] == 0
        and 0 < heard[2, 5] < severities[2, 5]
    )
    others = [index for index in range(8) if index != 5]
    assert torch.equal(heard[:, others], severities[:, others]) and (severities == 0.4).all()


def test_low_frequencies_of_a_tile_with_their_reach_are_exact():
    x = tensor(1, 3, 96, 96)
    assert torch.allclose(low_frequencies(torch.full((1, 3, 16, 24), 0.3)), torch.full((1, 3, 16, 24), 0.3))
    tile = low_frequencies(x[..., 8:88, 8:88])[..., ANCHOR_REACH:-ANCHOR_REACH, ANCHOR_REACH:-ANCHOR_REACH]
    assert torch.allclose(
        tile,
        low_frequencies(x)[..., 8 + ANCHOR_REACH : 88 - ANCHOR_REACH, 8 + ANCHOR_REACH : 88 - ANCHOR_REACH],
        atol=1e-6,
    )
    wave = torch.cos(torch.arange(96) * torch.pi)[None, None, None].expand(1, 3, 96, 96)
    assert low_frequencies(wave).abs().max() < 1e-5


def test_what_has_nothing_wrong_comes_back_as_it_was(walk, host):
    """And what is found is repaired in full; in between the picture is changed in part.

    Per picture of a batch.
    """
    from dataclasses import replace

    picture = torch.rand(3, 40, 48, 3, generator=torch.Generator().manual_seed(1))
    prior = walk.encode(picture)

    def decode(certainties):
        rows = torch.zeros_like(prior.probabilities)
        rows[:, 7] = torch.tensor(certainties)
        return walk.decode({"samples": prior.latent}, replace(prior, probabilities=rows))

    sound, found, between = decode([0.1, 0.0, 0.05]), decode([0.5, 0.6, 0.9]), decode([0.3, 0.0, 0.5])
    assert torch.equal(sound, picture) and (found - picture).abs().mean() > 0.01
    assert torch.equal(between[1], picture[1]) and (between[2] - picture[2]).abs().mean() > 0.01
    assert GATES.picture_change(torch.tensor([[0.0, 0.1], [0.3, 0.2], [0.2, 0.5]])).tolist() == pytest.approx(
        [0.0, 0.5, 1.0]
    )
