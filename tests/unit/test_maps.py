"""Where each damage is: the maps' own network, the stage that trains it, and what the bundled weights
find."""

import dataclasses
from pathlib import Path

import pytest
import torch
from aior_pack.aior_core.degradations import KINDS, Recipe, apply_recipe, preset_recipe, recipe_labels
from aior_pack.aior_core.metrics import as_8bit
from aior_pack.aior_core.models.degradation_head import DegradationHead
from aior_pack.aior_core.models.layers import initialise
from aior_pack.aior_core.models.lq_encoder import PriorEncoder
from aior_pack.aior_core.weights import config_from, describe, load_weights, part
from aior_pack.tests.tiny import TINY, compact_state, distance, randomised
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
PRIOR = TINY.restorer.prior
OLD = dataclasses.replace(PRIOR, place_width=0)


def feature(height: int = 12, width: int = 20) -> torch.Tensor:
    return torch.randn(2, PRIOR.widths[-1], height, width, generator=torch.Generator().manual_seed(1))


def test_only_the_maps_know_of_it():
    encoder, old = randomised(PriorEncoder(PRIOR)), PriorEncoder(OLD).eval()
    old.load_state_dict(
        {key: value for key, value in encoder.state_dict().items() if not key.startswith("head.places.")}
    )
    for now, before, same in zip(
        encoder.estimate(feature()), old.estimate(feature()), (True, True, False), strict=True
    ):
        assert torch.equal(now, before) == same


def test_a_map_is_a_share_of_the_worst_and_starts_from_what_is_said_of_the_whole():
    head = initialise(DegradationHead(24, 8, 16, 12), torch.Generator().manual_seed(0))
    shares, worst = head.places_of(feature())
    _, severity, maps = head(feature())
    assert shares.shape == (2, 8, 12, 20) and torch.equal(worst, severity)
    assert distance(maps.sigmoid(), shares.sigmoid() * worst.sigmoid()[:, :, None, None]) < 1e-5
    _, severity, maps = randomised(head)(feature())
    assert not torch.equal(head.places_of(feature())[1], severity)


def test_pictures_of_a_batch_do_not_see_each_other():
    head, x = randomised(DegradationHead(24, 8, 16, 12)), feature()
    together = head(x)[2]
    assert torch.allclose(together, torch.cat([head(x[i : i + 1])[2] for i in range(2)]), atol=1e-5)


def test_half_precision_is_close():
    head, x = randomised(DegradationHead(24, 8, 16, 12)), feature()
    exact = head(x)[2].sigmoid()
    assert distance(head.to(torch.bfloat16)(x.bfloat16())[2].float().sigmoid(), exact) < 0.05


def test_files_without_it_load_as_they_were(host):
    config = dataclasses.replace(TINY, restorer=dataclasses.replace(TINY.restorer, prior=OLD))
    state = compact_state(config)
    assert not any(key.startswith("prior.head.places.") for key in state)
    assert config_from(state, describe(config)) == config


@pytest.mark.usefixtures("comfyui")
@pytest.mark.slow
def test_the_stage_trains_only_the_maps(tmp_path):
    from aior_pack.aior_core.training import data, loop
    from aior_pack.aior_core.training.networks import build
    from aior_pack.aior_core.training.stages import STAGES
    from aior_pack.aior_core.training.stages.maps import FeatureBuffer

    picture = (255 * torch.rand(3, 160, 200, generator=torch.Generator().manual_seed(3))).byte()
    photographs = data.Photographs((picture,), ("a",), torch.ones(1, dtype=torch.float64))
    networks = build(TINY)
    before = {key: value.clone() for key, value in networks.state_dict().items()}
    stage = dataclasses.replace(STAGES["maps"], crops=lambda progress, step: (32, 8))
    buffer = FeatureBuffer(networks, photographs, "cpu")
    options = loop.Options(tmp_path, 600.0, learning_rate_scale=10.0)
    loop.train(
        networks,
        stage,
        photographs,
        options,
        say=lambda line: None,
        draw=buffer,
        watch=lambda progress: progress.step < 3,
    )
    changed = {key for key, value in networks.state_dict().items() if not torch.equal(value, before[key])}
    assert changed and all(key.startswith("prior.head.places.") for key in changed)
    # Encoded once, and learnt from three times.
    assert buffer.calls == 3 and buffer.count == 8
    features, drawn = buffer(8, 32, torch.Generator().manual_seed(0))
    assert features.shape == (8, PRIOR.widths[-1], 4, 4) and drawn["maps"].shape == (8, len(KINDS), 4, 4)


@pytest.fixture(scope="module")
def bundled():
    """The bundled LQ encoder with its head."""
    state, metadata = load_weights(ROOT / "models" / "aior_compact-00001-of-00002.safetensors")
    encoder = PriorEncoder(config_from(state, metadata).restorer.prior).eval()
    encoder.load_state_dict({key: value.float() for key, value in part(state, "prior").items()})
    return encoder


@torch.inference_mode()
def overlap(encoder: PriorEncoder, path: Path, kind: str, severity: float, seed: int) -> tuple[float, float]:
    """IoU of the damaged half of a picture with its map, cut at half of its height, and with everywhere."""
    with Image.open(path) as image:
        picture = torch.frombuffer(bytearray(image.convert("RGB").tobytes()), dtype=torch.uint8).view(
            image.height, image.width, 3
        )
    side = min(256, image.height // 8 * 8, image.width // 8 * 8)
    clean = picture[:side, :side].movedim(-1, 0)[None].float() / 127.5 - 1
    (step,) = preset_recipe(kind, severity, seed).steps
    recipe = Recipe((dataclasses.replace(step, mask={"seed": seed, "kind": "half"}),))
    index = KINDS.index(kind)
    truth = recipe_labels(recipe, side, side)[1][index] >= 0.5 * severity
    heat = encoder.estimate(encoder.trunk(as_8bit(apply_recipe(clean, recipe)))[-1])[2][0, index]
    seen = heat >= 0.5 * heat.quantile(0.95)
    return ((seen & truth).sum() / (seen | truth).sum()).item(), truth.float().mean().item()


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind, severity, least", [("noise", 0.42, 0.75), ("rain", 0.5, 0.6), ("low_light", 0.6, 0.6)]
)
def test_the_bundled_weights_find_the_damaged_half(bundled, kind, severity, least):
    pairs = [
        overlap(bundled, path, kind, severity, seed)
        for seed, path in enumerate(sorted((ROOT / "tests" / "clean").glob("*.webp")))
    ]
    ours, everywhere = (sum(each) / len(pairs) for each in zip(*pairs))
    assert len(pairs) == 6 and ours > least and ours > everywhere + 0.1
