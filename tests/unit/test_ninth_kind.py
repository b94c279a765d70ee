"""Another kind of damage is one file: put into a copy of the pack, it is in recipes, batches, nodes, training
and weights. The pack may have any number of kinds before."""

from __future__ import annotations

import ast
import dataclasses
import enum
import importlib
import importlib.util
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
KINDS = ROOT / "aior_core" / "degradations" / "kinds"
COUNT = len([path for path in KINDS.glob("*.py") if path.name != "__init__.py"])
"""How many kinds the pack has: the number of the one that is added."""
CONFETTI = '''
"""Confetti: bright specks."""

import torch

from ..degradation import MIXES, Degradation
from ..fields import stream


def add_confetti(picture, params, seed):
    specks = torch.rand(picture.shape[-2:], generator=stream(seed)) < 0.2 * params["amount"]
    return torch.where(specks.to(picture.device), torch.ones_like(picture), picture)


DEGRADATION = Degradation(
    name="confetti", number=NUMBER, label="confetti", steered="Confetti", trained="confetti", meaning="a lot",
    primary="amount", line=(0.0, 1.0), severities=(0.1, 1.0), mild=(0.02, 0.1), rank=6, typical={},
    sample=lambda draw: (draw.uniform(0.1, 1.0), {}), apply=add_confetti, limits={"amount": (0.0, 1.0)},
    shares=dict.fromkeys(MIXES, 0.4), validation={"confetti": (0.5, {})}, anchor_start=-1.0,
)
'''


@pytest.fixture
def nine(comfyui, tmp_path):
    """Imports a module of a copy of the pack that has one kind more."""
    for name in ("__init__.py", "aior_core", "nodes"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, tmp_path)
    (tmp_path / "aior_core" / "degradations" / "kinds" / "confetti.py").write_text(
        CONFETTI.replace("NUMBER", str(COUNT))
    )
    spec = importlib.util.spec_from_file_location(
        "nine_pack", tmp_path / "__init__.py", submodule_search_locations=[str(tmp_path)]
    )
    sys.modules["nine_pack"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["nine_pack"])
    yield lambda name: importlib.import_module(f"nine_pack.{name}")
    for name in [name for name in sys.modules if name.split(".")[0] == "nine_pack"]:
        del sys.modules[name]


def small(config, module):
    """`config` with the widths of the tests' small model. `module` imports from that copy of the pack."""
    from aior_pack.tests.tiny import TINY

    def translated(value):
        kind = type(value)
        if isinstance(value, enum.Enum):
            return getattr(module(kind.__module__.removeprefix("aior_pack.")), kind.__name__)[value.name]
        if not dataclasses.is_dataclass(value):
            return value
        values = {each.name: translated(getattr(value, each.name)) for each in dataclasses.fields(value)}
        return getattr(module(kind.__module__.removeprefix("aior_pack.")), kind.__name__)(**values)

    narrow, wide = translated(TINY), config.restorer
    prior = dataclasses.replace(narrow.restorer.prior, degradations=wide.prior.degradations)
    daem = dataclasses.replace(
        narrow.restorer.daem, degradations=wide.daem.degradations, anchor_starts=wide.daem.anchor_starts
    )
    return dataclasses.replace(
        narrow, restorer=dataclasses.replace(narrow.restorer, prior=prior, daem=daem, kinds=wide.kinds)
    )


def test_recipes_and_batches_have_it(nine):
    degradations = nine("aior_core.degradations")
    assert len(degradations.KINDS) == COUNT + 1 and degradations.KINDS[COUNT] == "confetti"
    recipe = degradations.preset_recipe("confetti", 0.5, 3)
    assert degradations.Recipe.from_json(recipe.to_json()) == recipe
    picture = torch.zeros(1, 3, 64, 64)
    lq, severities, maps = degradations.degrade_batch(picture, [recipe])
    assert (
        severities.tolist() == [[0.0] * COUNT + [0.5]]
        and maps.shape == (1, COUNT + 1, 8, 8)
        and (maps[0, COUNT] == 0.5).all()
    )
    assert (lq == 1).float().mean().item() == pytest.approx(0.1, abs=0.02)
    with pytest.raises(ValueError, match="amount of confetti"):
        degradations.Recipe.from_json(recipe.to_json().replace('"amount": 0.5', '"amount": 7'))
    generator = torch.Generator().manual_seed(0)
    for mix in ("any", "training", "keep", "maps", "tone"):
        drawn = [degradations.sample_recipe(generator, weights=degradations.shares(mix)) for _ in range(60)]
        assert any("confetti" in each.kinds() for each in drawn), mix
    last = degradations.sample_recipe(
        generator, weights={"confetti": 1.0, "jpeg": 1.0}, count_weights=(0, 0, 1)
    )
    assert last.kinds() == ("jpeg", "confetti")


def test_nodes_and_reports_have_it(nine):
    from aior_pack.tests.tiny import picture

    damaged, text = nine("nodes.degrade").Degrade.execute(picture(40, 48), "confetti", 0.8, 1).result
    assert damaged.shape == (1, 40, 48, 3) and json.loads(text)["steps"][0]["kind"] == "confetti"
    for module, node in (("nodes.steer", "SteerPrior"), ("nodes.train", "TrainRestorer")):
        entry = next(
            each for each in getattr(nine(module), node).define_schema().inputs if each.id == "confetti"
        )
        assert "onfetti" in entry.tooltip
    assert nine("aior_core.report.degradation_report").label("confetti") == "confetti"
    assert "confetti" in nine("aior_core.training.validation").PRESETS


def test_training_learns_it_and_its_weights_say_so(nine):
    networks, stages = nine("aior_core.training.networks"), nine("aior_core.training.stages")
    weights = nine("aior_core.weights")
    config = small(networks.COMPACT, nine)
    built = networks.build(config)
    starts = built.daem.anchor.weight[0] * 10
    assert (
        starts.shape == (COUNT + 1,)
        and starts[COUNT].item() == pytest.approx(-1.0)
        and starts[5].item() == pytest.approx(-8.0)
    )
    generator = torch.Generator().manual_seed(0)
    clean = torch.rand(4, 3, 64, 64, generator=generator) * 2 - 1
    batch = nine("aior_core.training.restoration").damage(
        clean, generator, weights={"confetti": 1.0}, selective=0.0
    )
    assert batch.severities[:, COUNT].any() and not batch.severities[:, :COUNT].any()
    nine("aior_core.training.loop").trained_parameters(built, stages.STAGES["detail"].trains)
    loss, _ = stages.STAGES["detail"].step(built, clean, generator, made=batch, choice="none")
    loss.backward()
    assert built.prior.head.local.weight.grad[COUNT].abs().sum() > 0
    metadata = weights.describe(config)
    assert json.loads(metadata["kinds"])[COUNT] == "confetti"
    assert weights.config_from(built.state_dict(), metadata) == config
    restorer = nine("aior_core.host.restorer").build_restorer(built.state_dict(), config.restorer, "nine")
    assert restorer.config.kinds[COUNT] == "confetti"
    # Without that file, the same weights load all the same: what they find is reported by its name.
    from aior_pack.aior_core.host.restorer import build_restorer

    assert build_restorer(built.state_dict(), config.restorer, "nine").config.kinds[COUNT] == "confetti"


def test_weights_of_eight_kinds_go_on_working(nine):
    from aior_pack.tests.tiny import TINY, picture, restorer_state

    state = restorer_state(TINY.restorer)
    config = nine("aior_core.weights").config_from(state, {})
    assert len(config.kinds) == 8
    restorer = nine("aior_core.host.restorer").build_restorer(state, config, "eight")
    assert restorer.config.prior.degradations == 8
    prior_module, report = nine("aior_core.pipeline.prior"), nine("aior_core.report.degradation_report")
    geometry = nine("aior_core.picture").pad_to_multiple(torch.zeros(1, 3, 64, 64))[1]
    some = torch.full((1, 8), 0.6)
    prior = prior_module.Prior(
        features=torch.zeros(1, 24, 8, 8),
        skips=None,
        image=picture(64, 64),
        latent=torch.zeros(1, 16, 8, 8),
        severities=some,
        probabilities=some,
        maps=torch.rand(1, 8, 8, 8, generator=torch.Generator().manual_seed(0)),
        geometry=geometry,
    )
    assert "JPEG" in report.report_text(prior) and "confetti" not in report.report_text(prior)
    assert report.report_plot(prior).shape[0] == 1 and report.report_maps(prior)[1].shape[0] == 8
    steer = nine("aior_core.pipeline.steer").steer_prior
    kinds = nine("aior_core.degradations").KINDS
    assert steer(prior, dict.fromkeys(kinds, 1.0)) is prior
    assert steer(prior, {**dict.fromkeys(kinds, 1.0), "rain": 0.0}).steering.tolist()[0][3] == 0
    with pytest.raises(ValueError, match="knows no confetti"):
        steer(prior, {"confetti": 0.5})


def test_a_file_that_is_not_whole_is_refused():
    from aior_pack.aior_core.degradations import of

    haze = of("haze")
    with pytest.raises(ValueError, match="haze has shares of"):
        dataclasses.replace(haze, shares={"any": 1.0})
    with pytest.raises(ValueError, match="not a valid name of a kind"):
        dataclasses.replace(haze, name="Heavy fog")


@pytest.mark.slow
def test_no_other_file_lists_the_kinds():
    from aior_pack.aior_core.degradations import KINDS

    # What weights know that do not say it, and what a whole shot of the camera can be asked for.
    allowed = (
        "aior_core/models/config.py",
        "aior_core/degradations/camera/shot.py",
        "aior_core/degradations/camera/labels.py",
    )
    for folder in ("aior_core", "nodes", "scripts"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                inside = (
                    getattr(node, "elts", []) + getattr(node, "keys", [])
                    if isinstance(node, (ast.Tuple, ast.List, ast.Set, ast.Dict))
                    else []
                )
                named = {
                    each.value for each in inside if isinstance(each, ast.Constant) and each.value in KINDS
                }
                place = path.relative_to(ROOT).as_posix()
                assert len(named) < 5 or place in allowed, f"{place}:{node.lineno} lists {sorted(named)}"
