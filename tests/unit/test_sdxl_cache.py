"""The cache of SDXL's training: what is read is what would have been made, and nothing else is ever read."""

from __future__ import annotations

import argparse
import dataclasses

import pytest
import torch
from aior_pack.aior_core.training import data, loop
from aior_pack.aior_core.training.pairs import Pairs
from aior_pack.tests.unit.test_training_sdxl import base, options, photographs, sdxl  # noqa: F401  fixtures

NUMBERS = [0, 3, 5, 6]


@pytest.fixture
def made(base, sdxl, tmp_path):  # noqa: F811
    """A function that opens the cache in one folder; its options are those of its `Sources`."""
    from aior_pack.aior_core.training.sdxl_cache import Cache, Sources

    def open_cache(networks=sdxl, say=print, **changes):
        return Cache(
            tmp_path / "cache",
            networks,
            Sources(photographs(), **{"size": 64, "seed": 2, **changes}),
            8,
            "cpu",
            say,
        )

    return open_cache


def files(cache) -> dict[str, int]:
    """Names, and when they were written."""
    return {path.name: path.stat().st_mtime_ns for path in cache.folder.iterdir()}


def calls(*modules) -> list:
    """A list that grows by one whenever one of the modules runs."""
    seen = []
    for module in modules:
        module.register_forward_pre_hook(lambda module, args: seen.append(module))
    return seen


def detach(*modules) -> None:
    for module in modules:
        module._forward_pre_hooks.clear()


@pytest.mark.parametrize(
    "name, kinds",
    [("fusion-a", {"target", "feature"}), ("fusion-b", {"target"}), ("detail", {"target", "lq"})],
)
def test_the_loss_is_the_same_with_and_without(base, sdxl, made, name, kinds):  # noqa: F811
    from aior_pack.aior_core.training.sdxl import SDXL_STAGES, Fresh

    loop.trained_parameters(sdxl, SDXL_STAGES[name].trains)
    cache, step = made(), dataclasses.replace(SDXL_STAGES[name], cached=True).step
    # DAFF's last layer starts at zero and would hide its condition from the loss.
    torch.nn.init.normal_(
        sdxl.daff.spatial_ch_projs.weight, std=0.3, generator=torch.Generator().manual_seed(0)
    )
    if name == "fusion-a":
        # Once, for the encoder to be rounded to fp16 before anything is compared.
        cache.held(NUMBERS).feature()
    # `detail` rolls for its start: seeds whose rolls take none, the wished picture's latent, the damaged
    # one's.
    for seed in (0, 1, 3) if name == "detail" else (0,):
        fresh = Fresh(sdxl, cache.sources.batch([cache.sources.draw(number) for number in NUMBERS], "cpu"))
        expected, logs = step(sdxl, fresh, torch.Generator().manual_seed(seed))
        for _ in range(2):
            loss, said = step(sdxl, made().held(NUMBERS), torch.Generator().manual_seed(seed))
            assert loss.item() == pytest.approx(expected.item(), rel=1e-5) and said.keys() == logs.keys()
        other, _ = step(sdxl, made().held([1, 2, 4, 7]), torch.Generator().manual_seed(seed))
        assert other.item() != pytest.approx(expected.item(), rel=1e-4)
    assert {name.split("-")[0] for name in files(cache)} == kinds


def test_what_is_there_is_read_and_nothing_is_encoded(base, sdxl, made):  # noqa: F811
    from aior_pack.aior_core.training.sdxl import SDXL_STAGES

    loop.trained_parameters(sdxl, SDXL_STAGES["fusion-a"].trains)
    seen = calls(base.vae.encoder, sdxl.prior.trunk)
    try:
        first = made().held(NUMBERS)
        latent, feature = first.latent("target"), first.feature()
        assert len(seen) == 2 and len(files(made())) == 2 * len(NUMBERS)
        again = made().held(NUMBERS)
        assert torch.equal(again.latent("target"), latent) and torch.equal(again.feature(), feature)
        assert len(seen) == 2 and "batch" not in vars(again)
        # Only what is missing is made.
        more = made().held([*NUMBERS, 7])
        assert (
            torch.equal(more.latent("target")[:4], latent)
            and len(seen) == 3
            and len(files(made())) == 2 * len(NUMBERS) + 1
        )
    finally:
        detach(base.vae.encoder, sdxl.prior.trunk)


@pytest.mark.parametrize("kept", [0, 10, 0.5, 0.999])
def test_a_half_written_file_is_made_again(sdxl, made, kept):  # noqa: F811
    said: list[str] = []
    cache = made(say=said.append)
    latent = cache.held(NUMBERS).latent("target")
    path = sorted(cache.folder.iterdir())[1]
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    (cache.folder / f"{path.stem}.123.part").write_bytes(whole[:9])
    # Alone, not in its batch of four: rounding differs.
    again = cache.held(NUMBERS).latent("target")
    assert torch.allclose(again, latent, atol=1e-5)
    assert len(path.read_bytes()) == len(whole) and len(said) == 1 and path.name in said[0]
    assert torch.equal(cache.held(NUMBERS).latent("target"), again) and len(said) == 1


def test_a_file_under_a_wrong_name_is_not_believed(sdxl, made):  # noqa: F811
    cache = made()
    latent = cache.held([0, 3]).latent("target")
    a, b = sorted(cache.folder.iterdir())
    a.write_bytes(b.read_bytes())
    assert (
        torch.allclose(cache.held([0, 3]).latent("target"), latent, atol=1e-5)
        and (latent[0] - latent[1]).abs().max() > 0.1
    )


def test_other_networks_have_files_of_their_own(base, sdxl, made):  # noqa: F811
    def all_of(cache):
        held = cache.held([0])
        return held.latent("target"), held.feature()

    loop.trained_parameters(sdxl, ("daff",))
    latent, feature = all_of(made())
    before = files(made())
    vae, trunk = base.vae.encoder.conv_out.bias, sdxl.prior.trunk.conv_in.bias
    kept = vae[0].item(), trunk[0].item()
    with torch.no_grad():
        vae[0] += 1
        other = all_of(made())
        assert (
            (other[0] - latent).abs().max() > 1e-2
            and torch.equal(other[1], feature)
            and len(files(made())) == len(before) + 1
        )
        vae[0] = kept[0]
        trunk[0] += 1
        other = all_of(made())
        assert (
            torch.equal(other[0], latent)
            and (other[1] - feature).abs().max() > 1e-2
            and len(files(made())) == len(before) + 2
        )
        trunk[0] = kept[1]
    assert {name: files(made())[name] for name in before} == before


def test_samples_depend_on_the_seed_the_crop_and_the_photograph(sdxl, made):  # noqa: F811
    def pictures(**changes):
        sources = made(**changes).sources
        return sources.batch([sources.draw(number) for number in range(4)], "cpu")

    first, again = pictures(), pictures()
    assert (
        torch.equal(first.lq, again.lq)
        and torch.equal(first.target, again.target)
        and not torch.equal(first.lq, first.target)
    )
    assert not torch.equal(first.lq[0], first.lq[1]) and not torch.equal(pictures(seed=3).lq, first.lq)
    made().held([0]).latent("lq")
    made(size=128).held([0]).latent("lq")
    made(seed=3).held([0]).latent("lq")
    assert len(files(made())) == 3
    cache = made()
    changed = tuple(picture.clone() for picture in cache.sources.photographs.pictures)
    for picture in changed:
        picture[:, ::2] ^= 1
    object.__setattr__(cache.sources.photographs, "pictures", changed)
    cache.held([0]).latent("lq")
    assert len(files(cache)) == 4


def test_real_pairs_are_taken_as_they_are(sdxl, made):  # noqa: F811
    gt = photographs()
    pairs = Pairs(data.Photographs(tuple(255 - picture for picture in gt.pictures), gt.names, gt.weights), gt)
    cache = made(pairs=pairs, pair_share=0.5)
    samples = [cache.sources.draw(number) for number in range(12)]
    batch = cache.sources.batch(samples, "cpu")
    rows = [row for row, sample in enumerate(samples) if sample.plan.real]
    assert 0 < len(rows) < 12 and [row for row, known in enumerate(batch.known) if not known] == rows
    assert torch.allclose(batch.lq[rows], -batch.target[rows], atol=1e-5) and not batch.severities[rows].any()
    held = cache.held(list(range(12)))
    assert torch.allclose(held.latent("lq"), sdxl.base.encode(batch.lq), atol=1e-5)
    assert torch.allclose(held.latent("target"), sdxl.base.encode(batch.target), atol=1e-5)


def test_features_of_an_encoder_that_learns_are_refused(sdxl, made):  # noqa: F811
    loop.trained_parameters(sdxl, ("daff", "prior.trunk"))
    with pytest.raises(RuntimeError, match="LQ encoder learns"):
        made().held([0]).feature()


def test_a_run_that_goes_on_reads_what_the_first_wrote(base, tmp_path, monkeypatch):  # noqa: F811
    """By the command's own way; the checkpoint in between keeps the LQ encoder in fp16."""
    from aior_pack.aior_core.training import run, sdxl_run

    clean = photographs()
    pictures = run.Pictures(clean, data.Photographs((), (), torch.ones(0)), None)
    monkeypatch.setattr(sdxl_run, "load_pictures", lambda options: pictures)
    original, steps = loop.train, []

    def train(*args, **kwargs):
        return original(
            *args,
            **{
                **kwargs,
                "watch": lambda progress: steps.append(progress.losses["eps"]) or len(steps) % 4 > 0,
            },
        )

    monkeypatch.setattr(loop, "train", train)
    setting = options(tmp_path / "run", batch=2, cache=tmp_path / "cache", cache_crops=2, minutes=30.0)
    sdxl_run.run_sdxl(setting, "cpu", base)
    written = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()}
    assert len(steps) == 4 and len(written) == 4
    seen = calls(base.vae.encoder)
    try:
        sdxl_run.run_sdxl(argparse.Namespace(**{**vars(setting), "minutes": 60.0}), "cpu", base)
        # The next stage too: of the same wished pictures.
        sdxl_run.run_sdxl(
            argparse.Namespace(
                **{**vars(setting), "phase": "b", "start": [tmp_path / "run" / "fusion-a.safetensors"]}
            ),
            "cpu",
            base,
        )
        assert len(steps) == 12 and not seen
    finally:
        detach(base.vae.encoder)
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()} == written


def test_the_command_says_what_the_cache_is_for(capsys):
    from aior_pack.aior_core.training.__main__ import parse

    for words in (
        ["fusion", "--cache", "x"],
        ["fusion", "--scale", "sdxl", "--checkpoint", "x", "--cache", "x", "--cache-crops", "0"],
    ):
        with pytest.raises(SystemExit):
            parse(words)
        assert "--cache is for --family sdxl" in capsys.readouterr().err
