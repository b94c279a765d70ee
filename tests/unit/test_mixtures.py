"""Which damages training draws together, and how often."""

from collections import Counter

import pytest
import torch
from aior_pack.aior_core.degradations import world
from aior_pack.aior_core.training.restoration import COUNTS, SELECTIVE_COUNTS, draw_plan


def plans(count, **more):
    generator = torch.Generator().manual_seed(3)
    return [draw_plan(generator, **more) for _ in range(count)]


@pytest.fixture
def plain(monkeypatch):
    """Plain forms only: chains, mixtures and patches have a fixed number of damages, and looks take longer to
    draw.
    """
    monkeypatch.setattr(world, "SOURCES", {"plain": 1.0})


@pytest.mark.slow
@pytest.mark.parametrize(("selective", "counts"), [(0.0, COUNTS), (1.0, SELECTIVE_COUNTS)])
def test_as_many_damages_at_once_as_is_said(selective, counts, plain):
    drawn = Counter(len(plan.recipe.kinds()) for plan in plans(3000, selective=selective))
    assert [drawn[many] / 3000 for many in range(4)] == pytest.approx(counts, abs=0.03)


@pytest.mark.slow
def test_a_third_of_noisy_rain_is_hazy_where_three_come_together_and_haze_stays_rarer_alone(plain):
    drawn = [plan.recipe.kinds() for plan in plans(12000, selective=0.0)]
    wet = [kinds for kinds in drawn if {"noise", "rain"} <= set(kinds)]
    alone = [kinds for kinds in drawn if len(kinds) == 1]
    assert sum("haze" in kinds for kinds in wet) / len(wet) == pytest.approx(0.33, abs=0.05)
    assert sum("haze" in kinds for kinds in alone) / len(alone) == pytest.approx(0.11, abs=0.02)


@pytest.mark.slow
def test_weights_that_are_given_hold_for_three_as_well():
    drawn = plans(400, weights={"noise": 0.6, "blur": 0.3, "jpeg": 0.1})
    kinds = [plan.recipe.kinds() for plan in drawn]
    assert {kind for each in kinds for kind in each} == {"noise", "blur", "jpeg"}
    assert any(len(each) == 3 for each in kinds)


@pytest.mark.slow
def test_what_may_be_kept_can_be_parted():
    drawn = plans(300, selective=1.0)
    assert all(len(step.severities()) == 1 for plan in drawn for step in plan.recipe.steps)
    assert sum(bool(plan.kept) for plan in drawn) > 150


def test_the_same_seed_draws_the_same_plans():
    assert plans(50) == plans(50)
