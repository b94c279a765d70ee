"""Weights say what they know and how they are calibrated: kinds by name, calibrations in metadata, models
side by side."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from aior_pack.aior_core.models.calibration import Calibration, Ramp
from aior_pack.aior_core.models.confidence import ConfidenceGates
from aior_pack.aior_core.models.config import FIRST_KINDS
from aior_pack.aior_core.models.daem import DAEM
from aior_pack.aior_core.models.family import COMPACT, FAMILIES, SDXL
from aior_pack.aior_core.models.tone_curve import APPEARANCE, TONES, ToneCurve
from aior_pack.aior_core.weights import config_from, describe
from aior_pack.tests.tiny import SIX, SIX_KINDS, TINY, picture, randomised, restorer_state, save_tiny
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parents[2]
OTHER = Calibration(
    degradation_confidence=Ramp(0.1, 0.9),
    haze_severity=Ramp(0.0, 1.0),
    noise_underestimate=1.5,
    found_severity=0.25,
    daem_memory=3.0,
)


def rows(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_calibration_comes_back_from_the_metadata():
    config = dataclasses.replace(TINY.restorer, calibration=OTHER)
    metadata = describe(config)
    assert json.loads(metadata["calibration"])["haze_severity"] == [0.0, 1.0]
    assert config_from(restorer_state(config), metadata).calibration == OTHER


def test_weights_without_a_calibration_have_the_eleventh_weights_own():
    config = dataclasses.replace(TINY.restorer, calibration=OTHER)
    metadata = describe(config)
    metadata["calibration"] = '{"noise_underestimate": 1.5}'
    some = config_from(restorer_state(config), metadata).calibration
    assert some == Calibration(noise_underestimate=1.5)
    del metadata["calibration"]
    none = config_from(restorer_state(config), metadata).calibration
    assert none == Calibration() and none.degradation_confidence == Ramp(0.5, 0.75)


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("{", "'calibration' of these weights is no JSON"),
        ("[" * 100_000, "'calibration' of these weights is no JSON"),
        ("[1]", "'calibration' of these weights is a list; expected a JSON object"),
        ('{"haze": [0, 1]}', "names that this pack does not know: haze.*update the pack"),
        ('{"haze_severity": [0.5, 0.5]}', "haze_severity is .*expected a Ramp with 0 <= start < end <= 1"),
        ('{"haze_severity": [0.5, 0.1]}', "haze_severity is .*expected a Ramp"),
        ('{"haze_severity": [0.1, 0.2, 0.3]}', "haze_severity is .*expected a Ramp"),
        ('{"haze_severity": ["a", 0.3]}', "haze_severity is .*expected a Ramp"),
        ('{"haze_severity": [false, true]}', "haze_severity is .*expected a Ramp"),
        ('{"haze_severity": [NaN, 1]}', "haze_severity is .*expected a Ramp"),
        ('{"haze_severity": 0.5}', "haze_severity is 0.5; expected a Ramp"),
        ('{"noise_underestimate": NaN}', r"noise_underestimate is nan; expected a number in 0.5..2"),
        ('{"noise_underestimate": 1e99}', r"noise_underestimate is 1e\+99; expected a number in 0.5..2"),
        ('{"noise_underestimate": 1' + "0" * 3000 + "}", "noise_underestimate is 10000.*expected a number"),
        ('{"noise_underestimate": true}', "noise_underestimate is True; expected a number"),
        ('{"noise_underestimate": null}', "noise_underestimate is None; expected a number"),
        ('{"receptive_field_share": 0}', "receptive_field_share is 0; expected a number in 0.05..1"),
        ('{"daem_memory": -Infinity}', "daem_memory is -inf; expected a number"),
    ],
)
def test_a_hostile_calibration_is_named(text, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        config_from(restorer_state(TINY.restorer), describe(TINY.restorer) | {"calibration": text})
    assert len(str(caught.value)) < 400


def test_the_calibration_of_a_daem_is_the_one_that_it_gates_by():
    feature, severities, sure = rows(1, 24, 8, 8), torch.full((1, 8), 0.5), torch.full((1, 8), 0.5)
    usual, other = (randomised(DAEM(TINY.restorer.daem, calibration=c)) for c in (Calibration(), OTHER))
    # Half of the certainty does not count by the eleventh weights' calibration, and half by the other.
    silent, heard = (daem.context(feature, severities, None, sure) for daem in (usual, other))
    assert silent.sigma == 0 < heard.sigma
    assert heard.sigma == pytest.approx(0.5 * 0.5 * 1.5 * 60 / 255, rel=1e-6)


PERMUTED = tuple(reversed(FIRST_KINDS))


def test_gates_follow_the_names_and_not_the_places():
    probabilities, severities, hazy = rows(64, 8), rows(64, 8, seed=1), rows(64, seed=2)
    order = [FIRST_KINDS.index(kind) for kind in PERMUTED]
    one, other = (ConfidenceGates(kinds, Calibration()) for kinds in (FIRST_KINDS, PERMUTED))
    assert torch.equal(one(probabilities, hazy)[:, order], other(probabilities[:, order], hazy))
    assert torch.equal(
        one.gate_severity(severities, probabilities, hazy)[:, order],
        other.gate_severity(severities[:, order], probabilities[:, order], hazy),
    )
    assert torch.equal(
        one.gate_probability(probabilities)[:, order], other.gate_probability(probabilities[:, order])
    )


def test_weights_that_do_not_know_haze_have_no_gate_for_it():
    kinds = tuple(kind for kind in FIRST_KINDS if kind != "haze")
    probabilities, severities, hazy = rows(64, 7), rows(64, 7, seed=1), rows(64, seed=2)
    gates = ConfidenceGates(kinds, Calibration())
    assert torch.equal(gates.gate_severity(severities, probabilities, hazy), severities)
    assert torch.equal(gates.gate_probability(probabilities), probabilities)
    assert torch.equal(gates(probabilities, hazy), gates(probabilities))


def test_a_tone_curve_follows_the_names_and_not_the_places():
    order = [FIRST_KINDS.index(kind) for kind in PERMUTED]
    one, other = randomised(ToneCurve(FIRST_KINDS, 16)), randomised(ToneCurve(PERMUTED, 16))
    other.load_state_dict(one.state_dict())
    for part in (other.expect.weight, other.expect.bias):
        part.data[TONES + 1 :] = part.data[TONES + 1 :][order]
    seen, steering, looks, now = (
        rows(9, 8),
        rows(9, 8, seed=1),
        rows(9, APPEARANCE, seed=2),
        rows(9, 27, seed=3),
    )
    curve = one(seen, steering, looks, now)
    assert curve.abs().max() > 1e-3
    assert torch.equal(curve, other(seen[:, order], steering[:, order], looks, now))
    assert torch.equal(one.hazy(looks), other.hazy(looks))


def test_a_tone_curve_without_haze_and_darkness_moves_nothing():
    curve = randomised(ToneCurve(("noise", "blur"), 16))
    seen, looks, now = torch.ones(3, 2), rows(3, APPEARANCE), rows(3, 27, seed=1)
    assert curve(seen, torch.ones(3, 2), looks, now).abs().max() == 0
    assert curve.hazy(looks).tolist() == [0, 0, 0]


def test_a_daem_wants_a_name_for_each_of_its_degradations():
    for kinds in (FIRST_KINDS[:6], (*FIRST_KINDS, "dust"), ("noise",) * 8):
        with pytest.raises(ValueError, match="expected 8 different names"):
            DAEM(TINY.restorer.daem, kinds=kinds)


def nine() -> tuple[object, tuple[str, ...]]:
    kinds = (*FIRST_KINDS, "dust")
    prior = dataclasses.replace(TINY.restorer.prior, degradations=9)
    daem = dataclasses.replace(TINY.restorer.daem, degradations=9)
    return dataclasses.replace(
        TINY, restorer=dataclasses.replace(TINY.restorer, prior=prior, daem=daem, kinds=kinds)
    ), kinds


def walk_of(path: str | Path, image: torch.Tensor):
    """Load a compact model and restore a picture with it: its prior, the repaired IMAGE, and the report."""
    from aior_pack.aior_core.host.compact_model import load_compact
    from aior_pack.aior_core.host.daem_decode import decode_daem
    from aior_pack.aior_core.host.prior_encode import encode_prior
    from aior_pack.aior_core.host.sampling import sample_daff
    from aior_pack.aior_core.report.degradation_report import report_text

    model, vae, restorer = load_compact(path)
    prior = encode_prior(restorer, vae, image)
    latent = sample_daff(model, restorer, prior, steps=2, seed=3)
    return prior, decode_daem(latent, vae, restorer, prior), report_text(prior)


def test_weights_of_nine_kinds_restore_steer_and_report(host, tmp_path):
    from aior_pack.aior_core.pipeline.steer import steer_prior
    from aior_pack.aior_core.report.degradation_report import report_maps, report_plot

    config, kinds = nine()
    prior, image, text = walk_of(save_tiny(tmp_path, config), picture(48, 56))
    assert prior.kinds == kinds and prior.severities.shape == (1, 9)
    assert image.shape == (1, 48, 56, 3) and torch.isfinite(image).all()
    assert "dust" in text and len(text.splitlines()) == 10
    assert report_maps(prior)[1].shape == (9, 48, 56) and report_plot(prior).shape[0] == 1
    # The pack has no file for dust, and it can be left in all the same.
    assert steer_prior(prior, {"dust": 0.0}).steering.tolist() == [[1.0] * 8 + [0.0]]
    with pytest.raises(ValueError, match="unknown degradation 'fog'; expected one of .*dust"):
        steer_prior(prior, {"fog": 0.0})


def test_a_second_model_lies_beside_the_bundled_one_and_neither_changes_the_other(
    host, tmp_path, monkeypatch
):
    """Load AIOR Compact lists both. The second has six kinds, other widths and another calibration."""
    import folder_paths
    from aior_pack.aior_core.host import folders
    from aior_pack.nodes.loaders import LoadCompact

    bundled = sorted((ROOT / "models").glob("*.safetensors"))
    for path in bundled:
        (tmp_path / path.name).symlink_to(path)
    save_tiny(tmp_path, SIX, name="aior_small")
    names = folder_paths.folder_names_and_paths
    places = ([str(ROOT / "models"), str(tmp_path)], names[folders.FOLDER][1])
    monkeypatch.setitem(names, folders.FOLDER, places)
    monkeypatch.setattr(folder_paths, "filename_list_cache", {})
    listed = next(each for each in LoadCompact.define_schema().inputs if each.id == "file").options
    small = next(name for name in listed if name.startswith("aior_small"))
    assert bundled[0].name in listed

    image = picture(64, 80, seed=5)
    first = walk_of(folders.weight_path(bundled[0].name), image)
    prior, restored, text = walk_of(folders.weight_path(small), image)
    again = walk_of(folders.weight_path(bundled[0].name), image)
    assert (
        prior.kinds == SIX_KINDS and prior.latent.shape[1] == 8 and prior.calibration.found_probability == 0.3
    )
    assert (
        restored.shape == image.shape and torch.isfinite(restored).all() and not torch.equal(restored, image)
    )
    assert "scratches" in text and "blur" not in text
    assert first[0].kinds == FIRST_KINDS and first[0].calibration == Calibration()
    assert torch.equal(first[1], again[1]) and first[2] == again[2]


def test_priors_and_restorers_of_two_models_are_told_apart(host, tmp_path):
    from aior_pack.aior_core.host.compact_model import load_compact
    from aior_pack.aior_core.host.daem_decode import decode_daem

    prior, _, _ = walk_of(save_tiny(tmp_path), picture(40, 40))
    _, vae, restorer = load_compact(save_tiny(tmp_path, SIX, name="six"))
    with pytest.raises(ValueError, match="features have 24 channels, this restorer's 32"):
        decode_daem({"samples": prior.latent}, vae, restorer, prior)


def test_a_file_says_its_family_under_both_names_and_old_files_under_the_old():
    metadata = describe(TINY.restorer)
    assert metadata["family"] == metadata["scale"] == "compact"
    del metadata["family"]
    state = restorer_state(TINY.restorer)
    assert config_from(state, metadata).family == COMPACT
    assert config_from(state, metadata | {"scale": "sdxl"}).family == SDXL
    with pytest.raises(ValueError, match="scale of these weights is 'huge'; expected compact or sdxl"):
        config_from(state, metadata | {"scale": "huge"})
    assert {name: family.name for name, family in FAMILIES.items()} == {"compact": "compact", "sdxl": "sdxl"}


def test_a_restorer_file_keeps_kinds_and_calibration(host, tmp_path):
    from aior_pack.aior_core.host.restorer import load_restorer
    from aior_pack.aior_core.host.restorer_file import write_restorer

    path = tmp_path / "small.safetensors"
    save_file(restorer_state(SIX.restorer), path, metadata=describe(SIX.restorer))
    restorer = load_restorer(write_restorer(load_restorer(path), tmp_path / "again"))
    assert restorer.config == SIX.restorer and restorer.daem.model.kinds == SIX_KINDS
    assert restorer.daem.model.calibration == SIX.restorer.calibration
