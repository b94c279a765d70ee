"""Fine-tuning small networks: what it changes, what it keeps after a cancel, and what its file holds."""

from __future__ import annotations

import json

import numpy
import pytest
import torch
from aior_pack.aior_core.models.family import SDXL
from aior_pack.tests.tiny import picture
from PIL import Image

pytestmark = pytest.mark.usefixtures("host")

MINUTES = 0.03
TRAINED = {"detail": ("prior.trunk.", "prior.head.", "daem."), "fusion": ("daff.",)}


@pytest.fixture
def output(tmp_path, monkeypatch):
    """ComfyUI's output and input folders, of this test alone."""
    import folder_paths

    for name in ("output", "input"):
        (tmp_path / name).mkdir(exist_ok=True)
        monkeypatch.setattr(folder_paths, f"{name}_directory", str(tmp_path / name))
    return tmp_path / "output"


def save(path, image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((image[0].numpy() * 255).round().astype(numpy.uint8)).save(path)


@pytest.fixture
def clean(tmp_path):
    for seed in range(2):
        save(tmp_path / "input" / "clean" / f"{seed}.png", picture(139, 150, seed=seed))
    return "clean"


@pytest.fixture
def pairs(tmp_path):
    for seed in range(2):
        image = picture(150, 141, seed=seed)
        save(tmp_path / "input" / "pairs" / "gt" / f"{seed}.png", image)
        save(tmp_path / "input" / "pairs" / "lq" / f"{seed}.jpg", 0.3 + 0.5 * image)
    return "pairs"


def train(walk, folder, *, minutes=MINUTES, stage="detail", damaged=None, clean=None, **options):
    from aior_pack.aior_core.training.finetune import Settings, train_restorer

    settings = Settings(stage, minutes, **options)
    return train_restorer(
        walk.model, walk.vae, walk.restorer, str(folder), settings, damaged=damaged, clean=clean
    )


def weights(restorer) -> dict:
    return {
        f"{name}.{key}": value.clone()
        for name, part in restorer.networks().items()
        for key, value in part.state_dict().items()
    }


def unlike(a: dict, b: dict) -> set[str]:
    assert a.keys() == b.keys()
    return {key for key in a if a[key].dtype != b[key].dtype or not torch.equal(a[key], b[key])}


@pytest.mark.parametrize("stage", list(TRAINED))
def test_a_stage_trains_its_part_of_a_new_restorer_and_leaves_the_wires_alone(walk, clean, output, stage):
    before, vae = (
        weights(walk.restorer),
        {k: v.clone() for k, v in walk.vae.first_stage_model.state_dict().items()},
    )
    unet = {k: v.clone() for k, v in walk.model.model.diffusion_model.state_dict().items()}
    state = torch.random.get_rng_state()
    trained, plot, summary = train(walk, clean, stage=stage, learning_rate=10.0)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not unlike(weights(walk.restorer), before) and not unlike(
        walk.vae.first_stage_model.state_dict(), vae
    )
    assert not unlike(walk.model.model.diffusion_model.state_dict(), unet)
    changed = unlike(weights(trained), before)
    assert all(any(key.startswith(prefix) for key in changed) for prefix in TRAINED[stage])
    assert all(key.startswith(TRAINED[stage]) for key in changed)
    for part in trained.networks().values():
        assert not part.training and not any(p.requires_grad for p in part.parameters())
    assert plot.shape[0] == 1 and plot.shape[3] == 3 and 0 <= plot.min() and plot.max() <= 1
    assert "2 clean pictures" in summary and stage in summary
    assert stage in trained.note and walk.restorer.source in trained.note and "seed 0" in trained.note
    import comfy.model_management as management

    assert not management.in_training and torch.is_inference_mode_enabled()


def test_the_new_restorer_works_with_the_same_model_and_vae(walk, pairs, output):
    from aior_pack.aior_core.host.daem_decode import decode_daem
    from aior_pack.aior_core.host.prior_encode import encode_prior
    from aior_pack.aior_core.host.sampling import sample_daff

    trained, _, summary = train(
        walk, pairs, learning_rate=10.0, damaged=picture(90, 140), clean=picture(90, 140, seed=1)
    )
    assert "2 pairs" in summary and "validation picture" in summary
    prior = encode_prior(trained, walk.vae, picture(50, 70))
    latent = sample_daff(walk.model, trained, prior, steps=1)
    assert torch.isfinite(decode_daem(latent, walk.vae, trained, prior)).all()


def test_pairs_teach_the_head_nothing(walk, pairs, output):
    changed = unlike(weights(train(walk, pairs)[0]), weights(walk.restorer))
    assert any(key.startswith("daem.") for key in changed) and any(
        key.startswith("prior.trunk.") for key in changed
    )
    assert not any(key.startswith("prior.head.") for key in changed)


def test_what_was_learnt_before_a_cancel_is_kept_and_gone_on_with(walk, clean, output, monkeypatch):
    import comfy.model_management as management
    from aior_pack.aior_core.host.restorer import load_restorer
    from aior_pack.aior_core.training import checkpoint
    from aior_pack.aior_core.training.callbacks import Callbacks

    watch = Callbacks.on_step

    def cancel_after_three(self, progress):
        if len(self.curve.losses) == 2:
            management.interrupt_current_processing()
        return watch(self, progress)

    with monkeypatch.context() as patched:
        patched.setattr(Callbacks, "on_step", cancel_after_three)
        with pytest.raises(management.InterruptProcessingException):
            train(walk, clean, minutes=10, learning_rate=10.0)
    assert not management.processing_interrupted() and not management.in_training
    (unfinished,) = (output / "restorers").glob("unfinished-detail-*.safetensors")
    kept = load_restorer(unfinished)
    assert "cancelled" in kept.note and kept.config == walk.restorer.config
    assert any(key.startswith("daem.") for key in unlike(weights(kept), weights(walk.restorer)))
    (path,) = (output / "aior_training").glob("*/detail.safetensors")
    seconds = checkpoint.state(path)["seconds"]
    assert 0 < seconds < 500
    # The same settings with just a little more time: it goes on, and does not begin anew.
    trained, _, summary = train(walk, clean, minutes=seconds / 60 + MINUTES, learning_rate=10.0)
    steps = len(json.loads((path.parent / "curve.json").read_text())["losses"])
    assert steps > 3 and f"{steps} steps" in summary and len(list((output / "aior_training").iterdir())) == 1
    # And once more: nothing is left to do, the result is the same.
    again, _, _ = train(walk, clean, minutes=seconds / 60 + MINUTES, learning_rate=10.0)
    assert not unlike(weights(again), weights(trained))


def test_other_settings_weights_or_pictures_are_another_run(walk, clean, output):
    from aior_pack.aior_core.training.finetune import pictures_fingerprint

    train(walk, clean, minutes=0.001)
    train(walk, clean, minutes=0.001, seed=1)
    before = pictures_fingerprint(clean)
    save(output.parent / "input" / clean / "more.png", picture(130, 130, seed=5))
    assert pictures_fingerprint(clean) != before != "" and pictures_fingerprint("nowhere") == ""
    train(walk, clean, minutes=0.001)
    assert len(list((output / "aior_training").iterdir())) == 3


def test_a_cancel_in_the_middle_of_a_step_waits_for_its_end(tmp_path):
    import comfy.model_management as management
    from aior_pack.aior_core.training.callbacks import Callbacks, Example
    from aior_pack.aior_core.training.loop import Progress

    callbacks = Callbacks(tmp_path / "curve.json", Example(torch.zeros(1, 3, 8, 8)), 60.0)
    calls = []

    def step(x):
        calls.append(x)
        if len(calls) == 1:
            raise management.InterruptProcessingException
        return torch.tensor(0.5), {}

    assert callbacks.uninterrupted(step)(7)[0] == 0.5 and calls == [7, 7]
    with pytest.raises(management.InterruptProcessingException):
        callbacks.on_step(Progress("detail", 1, 2.0, 60.0, {}))
    assert callbacks.curve.losses == [(2.0, 0.5)]


def test_a_saved_restorer_comes_back_bit_for_bit(walk, clean, output, caplog):
    from aior_pack.aior_core.host.folders import weight_files
    from aior_pack.aior_core.host.restorer import load_restorer
    from aior_pack.aior_core.host.restorer_file import restorer_weights, save_restorer
    from aior_pack.aior_core.weights import load_weights

    trained, _, _ = train(walk, clean, learning_rate=10.0)
    with caplog.at_level("INFO"):
        first, second = save_restorer(trained, "restorers/mine"), save_restorer(trained, "restorers/mine")
    assert [record.getMessage() for record in caplog.records] == [
        f"AIOR, restorer saved: {path}" for path in (first, second)
    ]
    assert (
        first.name == "mine_00001_.safetensors"
        and second.name == "mine_00002_.safetensors"
        and first.exists()
    )
    loaded = load_restorer(first)
    assert not unlike(weights(loaded), weights(trained)) and loaded.config == trained.config
    assert loaded.note == trained.note and loaded.source == first.name
    stored, metadata = load_weights(first)
    assert {v.dtype for v in stored.values()} == {torch.float16} and metadata["base"] == walk.restorer.source
    # Rounded to bf16, as on a GPU, the smallest numbers are none of fp16, and stay as they are.
    daff = trained.daff.model
    daff.to(torch.bfloat16)
    kept = {
        k.removeprefix("daff."): v.to(torch.bfloat16)
        for k, v in restorer_weights(trained).items()
        if k.startswith("daff.")
    }
    assert not unlike(kept, daff.state_dict())
    assert isinstance(weight_files(), list)


def broken(folder):
    (folder / "a.png").write_bytes(b"nothing")


def lonely(folder):
    save(folder / "lq" / "a.png", picture(130, 130))
    save(folder / "gt" / "b.png", picture(130, 130))


def one_sided(folder):
    save(folder / "lq" / "a.png", picture(130, 130))


def shifted(folder):
    save(folder / "lq" / "a.png", picture(130, 130))
    save(folder / "gt" / "a.png", picture(130, 140))


def small(folder):
    save(folder / "a.png", picture(60, 300))


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda folder: folder.rmdir(), "no folder .*own"),
        (lambda folder: None, "no pictures in .*own"),
        (broken, "a.png is not a picture"),
        (lonely, "lq/a, gt/b"),
        (one_sided, "lq/ but no gt/"),
        (shifted, "130x130, gt 140x130"),
        (small, "128x128"),
    ],
)
def test_what_is_wrong_with_the_folder_is_said(walk, output, make, words):
    folder = output.parent / "input" / "own"
    folder.mkdir()
    make(folder)
    with pytest.raises(ValueError, match=words):
        train(walk, folder)


def test_what_is_wrong_with_the_inputs_is_said(walk, clean, output):
    from dataclasses import replace
    from types import SimpleNamespace

    for words, call in {
        "no folder is given": lambda: train(walk, " "),
        "degradations are off": lambda: train(walk, clean, kinds=()),
        "without the damaged": lambda: train(walk, clean, clean=picture(32, 32)),
        "32x32 and 40x32": lambda: train(walk, clean, damaged=picture(32, 32), clean=picture(32, 40)),
        "8x40": lambda: train(walk, clean, damaged=picture(40, 8)),
    }.items():
        with pytest.raises(ValueError, match=words):
            call()
    other = SimpleNamespace(
        **vars(walk) | {"restorer": replace(walk.restorer, config=replace(walk.restorer.config, family=SDXL))}
    )
    with pytest.raises(ValueError, match="family sdxl"):
        train(other, clean)


def test_a_curve_forgets_what_is_done_again_and_other_pictures_numbers(tmp_path):
    from aior_pack.aior_core.training.loss_curve import LossCurve

    curve = LossCurve("a", [(float(i), 1 / (i + 1)) for i in range(40)], [(0.0, 20.0), (39.0, 25.0)])
    assert curve.ends()[0] > curve.ends()[1]
    assert curve.draw("detail").shape == (1, 512, 768, 3) and LossCurve().draw("detail").shape == (
        1,
        256,
        768,
        3,
    )
    curve.save(tmp_path / "deep" / "curve.json")
    same, other = (LossCurve.load(tmp_path / "deep" / "curve.json", name) for name in ("a", "b"))
    assert same == curve and other.losses == curve.losses and not other.decibels
    same.cut(10.0)
    assert len(same.losses) == 11 and same.decibels == [(0.0, 20.0)]


def test_the_node_offers_the_stages_that_there_are(comfyui):
    from aior_pack.aior_core.training.finetune import STAGE_NAMES
    from aior_pack.nodes.train import STAGES

    assert STAGES == STAGE_NAMES
