"""Files of weights: what is saved comes back, and what is wrong with a file is said."""

import dataclasses
import json
import pickle

import pytest
import torch
from aior_pack.aior_core.models.calibration import Calibration
from aior_pack.aior_core.models.config import DAEMConfig, DAFFConfig, PriorConfig, RestorerConfig
from aior_pack.aior_core.models.family import SDXL
from aior_pack.aior_core.weights import config_from, describe, load_weights, part, save_weights
from aior_pack.tests.tiny import TINY, compact_state, restorer_state

ODD = RestorerConfig(
    prior=PriorConfig(
        widths=(12, 20, 28, 36), blocks=(2, 1, 0, 1), head_width=17, context_width=26, degradations=5
    ),
    daff=DAFFConfig(
        mode="official",
        unet_width=32,
        condition_width=36,
        width=48,
        heads=3,
        mlp_ratio=3.0,
        double_blocks=2,
        patch=3,
    ),
    daem=DAEMConfig(
        decoder_widths=(10, 14, 18, 22),
        skip_widths=(12, 20, 28, 36),
        widths=(8, 24, 40, 48),
        pools=(8, 2, 2, 1),
        prior_width=36,
        degradations=5,
        context_width=10,
        kernels=(3, 5, 9),
        dilations=(2, 1, 1),
        top_k=1,
        head_channels=8,
    ),
    kinds=("dust", "scratches", "fading", "mould", "tears"),
)
KL = RestorerConfig(
    family=SDXL,
    prior=PriorConfig(
        kind="kl", plain=(), widths=(32, 32, 64, 64), blocks=(2, 2, 2, 2), head_width=16, context_width=24
    ),
    daff=DAFFConfig(
        mode="official",
        unet_width=32,
        condition_width=64,
        width=64,
        heads=2,
        mlp_ratio=4.0,
        patch=1,
        condition_norm="group",
    ),
    daem=None,
)
SINGLE_ONLY = dataclasses.replace(
    TINY.restorer, daff=dataclasses.replace(TINY.restorer.daff, double_blocks=0, single_blocks=2), daem=None
)


@pytest.fixture
def saved(tmp_path):
    paths = save_weights(
        tmp_path / "odd", restorer_state(ODD), describe(ODD) | {"date": "2026-11-24"}, max_bytes=200_000
    )
    assert len(paths) > 2
    return paths


@pytest.mark.parametrize("config", [ODD, KL, SINGLE_ONLY, TINY.restorer], ids=["odd", "kl", "single", "tiny"])
def test_config_is_read_from_the_weights(tmp_path, config):
    (path,) = save_weights(tmp_path / "all", restorer_state(config), describe(config), max_bytes=2**30)
    assert path.name == "all.safetensors"
    assert config_from(*load_weights(path)) == config


def test_compact_config_is_read_from_the_weights(host, tmp_path):
    state = compact_state(TINY)
    assert config_from(state, describe(TINY)) == TINY


def test_weights_from_before_the_anchor_and_the_plain_blocks_load_as_they_were(host):
    none = (0, 0, 0, 0)
    prior, daem = (
        dataclasses.replace(TINY.restorer.prior, plain=none),
        dataclasses.replace(TINY.restorer.daem, anchored=False),
    )
    config = dataclasses.replace(
        TINY,
        autoencoder=dataclasses.replace(TINY.autoencoder, decoder_plain=none),
        restorer=dataclasses.replace(TINY.restorer, prior=prior, daem=daem),
    )
    state = compact_state(config)
    assert not any(key.startswith("daem.anchor") for key in state) and len(state) < len(compact_state(TINY))
    assert config_from(state, describe(config)) == config


def test_defaults_stand_in_for_missing_metadata():
    config = dataclasses.replace(TINY.restorer, calibration=Calibration())
    assert config_from(restorer_state(config), {}) == config
    assert config_from(restorer_state(KL), {}).daff.mode == "official"
    assert config_from(restorer_state(KL), {}).family == SDXL


def test_shards_come_back_as_one_in_half_precision(saved):
    state, metadata = load_weights(saved[1])
    original = restorer_state(ODD)
    assert state.keys() == original.keys()
    for key, value in original.items():
        assert state[key].dtype == torch.float16
        assert torch.equal(state[key], value.half())
    assert metadata == describe(ODD) | {"date": "2026-11-24"}
    assert all(path.stat().st_size < 200_000 + 20_000 for path in saved)


def test_latent_statistics_stay_exact(tmp_path):
    values = torch.tensor([0.1, 1 / 3])
    (path,) = save_weights(tmp_path / "x", {"vae.latent_mean": values, "vae.other": values}, {})
    state, _ = load_weights(path)
    assert torch.equal(state["vae.latent_mean"], values) and not torch.equal(
        state["vae.other"].float(), values
    )


def test_saving_again_removes_the_old_set(tmp_path, saved):
    other = save_weights(tmp_path / "oddball", {"prior.x": torch.ones(2)}, {})
    new = save_weights(tmp_path / "odd-00001-of-00009.safetensors", {"prior.x": torch.ones(2)}, {})
    assert sorted(tmp_path.iterdir()) == sorted(new + other)
    assert new[0].name == "odd.safetensors"


def test_nothing_to_save_and_wrong_metadata_are_refused(tmp_path):
    with pytest.raises(ValueError, match="nothing to save"):
        save_weights(tmp_path / "x", {}, {})
    with pytest.raises(ValueError, match="step"):
        save_weights(tmp_path / "x", {"prior.x": torch.ones(1)}, {"step": 3})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value, dtype, said", [
    (65_520.0, torch.float16,
    r"cannot be saved in float16, whose numbers end at 65504: prior.x \(6.55e\+04\)"),
    (-1e30, torch.float16, "cannot be saved in float16"), (float("nan"), torch.float16,
    "NaN or infinite weights in prior.x are not saved"),
    (float("inf"), None, "NaN or infinite weights in prior.x are not saved"),
])  # fmt: skip
def test_what_could_not_be_loaded_is_not_saved(tmp_path, value, dtype, said):
    (before,) = save_weights(tmp_path / "x", {"prior.x": torch.ones(2)}, {})
    held = before.read_bytes()
    with pytest.raises(ValueError, match=said):
        save_weights(
            tmp_path / "x", {"prior.a": torch.ones(2), "prior.x": torch.tensor([1.0, value])}, {}, dtype=dtype
        )
    assert [path.name for path in tmp_path.iterdir()] == [before.name] and before.read_bytes() == held


def test_the_largest_that_half_precision_holds_is_saved(tmp_path):
    # Rounded down to 65504; and what is multiplied with every latent stays in fp32, however large.
    (path,) = save_weights(
        tmp_path / "x", {"prior.x": torch.tensor([65_519.0]), "vae.latent_std": torch.tensor([1e6])}, {}
    )
    state, _ = load_weights(path)
    assert state["prior.x"].item() == 65_504 and state["vae.latent_std"].item() == 1e6


def test_missing_shard_is_named(saved):
    saved[1].unlink()
    with pytest.raises(FileNotFoundError, match=saved[1].name):
        load_weights(saved[0])


@pytest.mark.slow
def test_shards_of_two_sets_are_refused(tmp_path, saved):
    other = save_weights(
        tmp_path / "other" / "odd", restorer_state(ODD, seed=1), describe(ODD), max_bytes=200_000
    )
    other[1].replace(saved[1])
    with pytest.raises(ValueError, match="do not belong together"):
        load_weights(saved[0])


@pytest.mark.parametrize("keep", [0, 5, 400, -100])
def test_truncated_file_is_named(saved, keep):
    saved[0].write_bytes(saved[0].read_bytes()[:keep])
    with pytest.raises(ValueError, match=f"{saved[0].name}.*truncated or damaged"):
        load_weights(saved[0])


@pytest.mark.parametrize("name", ["model.pth", "model.safetensors"])
@pytest.mark.parametrize("zipped", [True, False])
def test_pickles_are_refused_with_the_way_to_convert(tmp_path, name, zipped):
    path = tmp_path / name
    if zipped:
        torch.save({"prior.x": torch.ones(2)}, path)
    else:
        path.write_bytes(pickle.dumps({"prior.x": [1, 2]}))
    with pytest.raises(ValueError, match="save_file"):
        load_weights(path)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent.safetensors"):
        load_weights(tmp_path / "absent.safetensors")


@pytest.mark.slow
def test_missing_unknown_and_misshapen_keys_are_listed():
    state = restorer_state(TINY.restorer)
    del state["prior.head.conv2.bias"]
    with pytest.raises(ValueError, match="missing head.conv2.bias"):
        config_from(state)
    with pytest.raises(ValueError, match="unknown extra.weight"):
        config_from(restorer_state(TINY.restorer) | {"daem.extra.weight": torch.ones(1)})
    with pytest.raises(ValueError, match=r"wrong shape head.conv2.bias \(3,\) instead of \(16,\)"):
        config_from(restorer_state(TINY.restorer) | {"prior.head.conv2.bias": torch.ones(3)})
    gone = {key: value for key, value in restorer_state(TINY.restorer).items() if "latent_in" not in key}
    with pytest.raises(ValueError, match="latent_in"):
        config_from(gone)


def test_foreign_files_and_parts_are_refused():
    with pytest.raises(ValueError, match="not AIOR weights.*model.diffusion_model.x"):
        config_from({"model.diffusion_model.x": torch.ones(1)})
    daff_only = {
        key: value for key, value in restorer_state(TINY.restorer).items() if key.startswith("daff.")
    }
    with pytest.raises(ValueError, match="Incomplete"):
        config_from(daff_only)


def test_part_strips_its_prefix():
    assert part({"prior.a.b": 1, "priority.c": 2, "daff.prior.d": 3}, "prior") == {"a.b": 1}


def test_metadata_is_text():
    metadata = describe(TINY)
    assert metadata["scale"] == "compact" and json.loads(metadata["settings"])["unet.head_channels"] == 16
    assert all(isinstance(value, str) for value in metadata.values())
