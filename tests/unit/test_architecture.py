"""The networks: shapes, identities at the start, DAFF's two modes, DAEM's routing."""

import pytest
import torch
from aior_pack.aior_core.models.autoencoder import Autoencoder, finish
from aior_pack.aior_core.models.config import DAEMConfig, DAFFConfig, PriorConfig
from aior_pack.aior_core.models.daem import DAEM, PictureContext
from aior_pack.aior_core.models.daem_level import Routing
from aior_pack.aior_core.models.daff import DAFF
from aior_pack.aior_core.models.layers import NAFBlock, initialise, sinusoid
from aior_pack.aior_core.models.low_frequency_anchor import low_frequency_correction
from aior_pack.aior_core.models.lq_encoder import PriorEncoder
from aior_pack.aior_core.pipeline.decode import decode_with_detail
from aior_pack.aior_core.training import losses
from aior_pack.tests.tiny import TINY, randomised

RESTORER = TINY.restorer
DAEM_KEYS = ("levels", "context1", "context2", "tone", "anchor", "head", "kept", "curve")


def tensor(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_autoencoder_shapes_and_walk():
    vae = randomised(Autoencoder(TINY.autoencoder))
    picture = tensor(2, 3, 32, 48)
    latent = vae.encode(picture)
    assert latent.shape == (2, 16, 4, 6)
    assert vae.decode(latent).shape == picture.shape
    stops = []
    finish(vae.walk(latent), lambda level, h: stops.append((level, tuple(h.shape))) or h)
    assert stops == [(3, (2, 24, 4, 6)), (2, (2, 16, 8, 12)), (1, (2, 12, 16, 24)), (0, (2, 8, 32, 48))]


def test_autoencoder_normalises_its_latents():
    vae = randomised(Autoencoder(TINY.autoencoder))
    picture = tensor(1, 3, 32, 32)
    plain, decoded = vae.encode(picture), vae.decode(tensor(1, 16, 4, 4))
    vae.latent_mean.fill_(0.5)
    vae.latent_std.fill_(2.0)
    assert torch.allclose(vae.encode(picture), (plain - 0.5) / 2)
    assert torch.allclose(vae.decode((tensor(1, 16, 4, 4) - 0.5) / 2), decoded, atol=1e-4)


def test_trunk_of_a_tile_with_halo_is_exact():
    encoder = randomised(PriorEncoder(RESTORER.prior))
    picture = tensor(1, 3, 96, 96)
    whole = encoder.trunk(picture)[-1]
    tile = encoder.trunk(picture[..., 16:80, 16:80])[-1]
    # It looks 1 + 1 + 2 + 3*4 + 8 pixels far: three of the f8 feature.
    assert torch.allclose(tile[..., 3:5, 3:5], whole[..., 5:7, 5:7], atol=1e-5)


def test_prior_encoder_shapes():
    encoder = randomised(PriorEncoder(RESTORER.prior))
    features, presence, severities, maps = encoder(tensor(2, 3, 32, 48))
    assert [tuple(f.shape) for f in features] == [
        (2, 8, 32, 48),
        (2, 12, 16, 24),
        (2, 16, 8, 12),
        (2, 24, 4, 6),
    ]
    assert presence.shape == severities.shape == (2, 8) and maps.shape == (2, 8, 4, 6)
    for estimate in encoder.estimate(features[-1]):
        assert estimate.dtype == torch.float32 and 0 <= estimate.min() and estimate.max() <= 1


def test_kl_encoder_shapes():
    config = PriorConfig(
        kind="kl", plain=(), widths=(32, 32, 64, 64), blocks=(2, 2, 2, 2), head_width=16, context_width=24
    )
    features = randomised(PriorEncoder(config)).trunk(tensor(1, 3, 32, 48))
    assert [tuple(f.shape) for f in features] == [
        (1, 32, 32, 48),
        (1, 32, 16, 24),
        (1, 64, 8, 12),
        (1, 64, 4, 6),
    ]


def test_tokens_tell_severities_apart_and_null_does_not():
    tokens = randomised(PriorEncoder(RESTORER.prior)).tokens
    low, high = torch.zeros(1, 8), torch.zeros(1, 8)
    high[0, 3] = 1.0
    assert tokens(low).shape == (1, 8, 24)
    changed = (tokens(low) - tokens(high)).abs().amax(dim=2)[0]
    assert changed[3] > 0.01 and changed[[0, 1, 2, 4, 5, 6, 7]].max() == 0
    assert torch.equal(tokens.unknown(low), tokens.unknown(high))


@pytest.mark.parametrize("mode", ["paper", "official"])
def test_daff_starts_as_nothing(mode):
    daff = initialise(
        DAFF(DAFFConfig(mode=mode, unet_width=32, condition_width=24, width=48, heads=2)),
        torch.Generator().manual_seed(0),
    )
    h = tensor(2, 32, 5, 7)
    residual = daff(h, daff.embed(tensor(2, 24, 5, 7)), torch.tensor([951.0, 3.0]))
    assert residual.shape == h.shape and residual.abs().max() == 0


@pytest.mark.parametrize("patch", [1, 2])
def test_daff_works_on_odd_sizes_and_each_picture_alone(patch):
    daff = randomised(DAFF(DAFFConfig(unet_width=32, condition_width=24, width=48, heads=2, patch=patch)))
    h, condition, t = tensor(2, 32, 5, 7), daff.embed(tensor(2, 24, 5, 7)), torch.tensor([951.0, 3.0])
    both = daff(h, condition, t)
    assert both.shape == h.shape and both.abs().mean() > 0.01
    for i in range(2):
        assert torch.allclose(
            both[i : i + 1], daff(h[i : i + 1], condition[i : i + 1], t[i : i + 1]), atol=1e-4
        )


def official():
    return randomised(
        DAFF(DAFFConfig(mode="official", unet_width=32, condition_width=24, width=48, heads=2, patch=1))
    )


def run_official(daff, t=951.0):
    return daff(tensor(1, 32, 4, 4), daff.embed(tensor(1, 24, 4, 4, seed=1)), torch.tensor([t]))


def test_official_daff_does_not_depend_on_its_dead_weights():
    daff = official()
    before = run_official(daff)
    block = daff.information_transformer_layers.double_blocks[0]
    width = 48
    with torch.no_grad():
        for parameter in [
            *block.img_attn.proj.parameters(),
            *block.img_mlp.parameters(),
            block.img_attn.norm.query_norm.scale,
        ]:
            parameter.normal_(generator=torch.Generator().manual_seed(1))
        block.img_attn.qkv.weight[:width] = 7
        block.img_attn.qkv.bias[:width] = 7
        # shift1 and scale1 come first and are alive.
        block.img_mod.lin.weight[2 * width :] = 7
    assert torch.equal(run_official(daff), before)
    with torch.no_grad():
        block.txt_attn.proj.weight.mul_(2)
    assert not torch.equal(run_official(daff), before)


def test_paper_daff_uses_what_is_dead_in_official_mode():
    daff = randomised(
        DAFF(DAFFConfig(mode="paper", unet_width=32, condition_width=24, width=48, heads=2, patch=1))
    )
    before = run_official(daff)
    with torch.no_grad():
        daff.information_transformer_layers.double_blocks[0].img_mlp[2].weight.mul_(2)
    assert not torch.allclose(run_official(daff), before)


def test_official_daff_rounds_the_timestep_and_paper_is_smooth():
    daff = official()
    assert torch.equal(run_official(daff, 951.0), run_official(daff, 951.0004))
    assert (run_official(daff, 951.0) - run_official(daff, 950.0)).abs().max() > 1e-3
    assert (sinusoid(torch.tensor([951.0]), 256) - sinusoid(torch.tensor([951.0004]), 256)).abs().max() < 1e-3


def daem_case(batch=2, size=4, seed=0):
    features = [
        tensor(batch, w, size * 2 ** (3 - i), size * 2 ** (3 - i), seed=seed + i)
        for i, w in enumerate((8, 12, 16, 24))
    ]
    lq = tensor(batch, 3, size * 8, size * 8, seed=seed + 9).clamp(-1, 1)
    return (
        features,
        lq,
        torch.linspace(0, 1, 8).expand(batch, 8),
        tensor(batch, 16, size, size, seed=seed + 10),
    )


def run_daem(vae, daem, features, lq, severities, latent, **options):
    context = daem.context(features[-1], severities)
    return decode_with_detail(vae, daem, latent, features, lq, context, **options)


def test_daem_starts_near_the_damaged_picture_and_silenced_as_the_decoder():
    vae = initialise(Autoencoder(TINY.autoencoder), torch.Generator().manual_seed(1))
    daem = initialise(DAEM(RESTORER.daem), torch.Generator().manual_seed(0))
    features, lq, severities, latent = daem_case()
    h, decoded = finish(vae.walk(latent))
    near = run_daem(vae, daem, features, lq, severities, latent)[0]
    assert 0 < (near - lq).abs().mean() < 0.5 * (decoded - lq).abs().mean()
    daem.silence()
    assert torch.equal(run_daem(vae, daem, features, lq, severities, latent)[0], decoded)
    context = PictureContext(tensor(len(lq), daem.config.context_width), *torch.ones(4, len(lq), 1))
    assert torch.equal(randomised(daem).output(h, decoded, lq, context, 0.0), decoded)


def low_frequencies(x):
    return low_frequency_correction(x, torch.zeros_like(x), torch.zeros(1, 1, 1, 1))


def test_the_anchor_holds_tones_that_the_damage_left_alone():
    vae = initialise(Autoencoder(TINY.autoencoder), torch.Generator().manual_seed(1))
    daem = initialise(DAEM(RESTORER.daem), torch.Generator().manual_seed(0))
    features, lq, _, latent = daem_case()
    blurred, hazy = torch.zeros(2, 8), torch.zeros(2, 8)
    blurred[:, 1], hazy[:, 5] = 0.5, 0.5
    # A network that darkens: its offset is part of what the anchor undoes.
    torch.nn.init.constant_(daem.tone.bias, -0.3)
    held, loose = (run_daem(vae, daem, features, lq, severities, latent)[0] for severities in (blurred, hazy))
    assert low_frequencies(held - lq).abs().mean() < 0.1 * low_frequencies(loose - lq).abs().mean()
    assert (loose - lq).mean() < -0.2 and (held - lq).mean().abs() < 0.02
    # What is steered away from being removed counts as absent, so its tones stay too.
    kept = torch.ones(2, 8).index_fill(1, torch.tensor([5]), 0.0)
    assert (
        daem.context(features[-1], hazy).anchor.max() == 0
        and daem.context(features[-1], hazy, kept).anchor.min() == 1
    )


def test_daem_is_deterministic_and_each_picture_alone_gives_the_same():
    vae, daem = randomised(Autoencoder(TINY.autoencoder)), randomised(DAEM(RESTORER.daem), seed=3)
    case = daem_case()
    both, routings = run_daem(vae, daem, *case)
    again, _ = run_daem(vae, daem, *case)
    assert torch.equal(both, again)
    assert all((r.gates > 0).sum(dim=1).eq(RESTORER.daem.top_k).all() for r in routings)
    for i in range(2):
        alone, _ = run_daem(vae, daem, [f[i : i + 1] for f in case[0]], *(x[i : i + 1] for x in case[1:]))
        assert torch.allclose(both[i : i + 1], alone, atol=1e-4)


def test_daem_noise_moves_routing_only_when_given():
    daem = randomised(DAEM(RESTORER.daem))
    level, h, skip = daem.levels[0], tensor(4, 8, 16, 16), tensor(4, 8, 16, 16, seed=1)
    context = tensor(4, 12, seed=2)
    quiet, noisy = (level(h, skip, context, noise=n)[1] for n in (None, torch.Generator().manual_seed(0)))
    assert torch.equal(quiet.logits, quiet.noisy) and torch.equal(quiet.logits, noisy.logits)
    assert not torch.equal(noisy.logits, noisy.noisy)


def test_daem_statistics_of_two_halves_are_those_of_the_whole():
    level = randomised(DAEM(RESTORER.daem)).levels[1]
    x, small = level.combine(tensor(1, 12, 16, 16), tensor(1, 12, 16, 16, seed=1))
    assert level.pool == 2 and small.shape == (1, 3 * x.shape[1], 8, 8)
    whole = level.statistics(small)
    halves = level.statistics(small[..., :3]) + level.statistics(small[..., 3:])
    for name in ("total", "gram", "q2", "k2"):
        assert torch.allclose(getattr(whole, name), getattr(halves, name), atol=1e-4)
    assert torch.allclose(whole.total / whole.pixels, x.mean(dim=(2, 3)), atol=1e-5)
    assert whole.pixels == halves.pixels == 64


def test_daem_mixes_each_sample_with_its_own_experts():
    level = randomised(DAEM(RESTORER.daem)).levels[1]
    x, gate = (
        tensor(5, level.join.out_channels, 8, 8),
        torch.rand(5, level.join.out_channels, generator=torch.Generator().manual_seed(4)),
    )
    gates = torch.zeros(5, len(level.experts))
    gates[range(5), [2, 0, 2, 3, 1]] = torch.tensor([0.9, 0.4, 0.3, 0.7, 0.5])
    second = gates.clone()
    second[range(5), [1, 3, 0, 0, 2]] = 0.2
    for chosen in (gates, second):
        wished = sum(
            chosen[:, e, None, None, None] * expert(x, gate) for e, expert in enumerate(level.experts)
        )
        assert torch.allclose(level.mix(x, chosen, gate), wished, atol=1e-5)


def test_daem_is_told_what_to_leave():
    daem, severities = randomised(DAEM(RESTORER.daem)), torch.full((1, 8), 0.4)
    feature, leave = tensor(1, 24, 4, 4), torch.ones(1, 8).index_fill(1, torch.tensor([0]), 0.0)
    assert torch.equal(
        daem.context(feature, severities).vector, daem.context(feature, severities, torch.ones(1, 8)).vector
    )
    assert not torch.allclose(
        daem.context(feature, severities, leave).vector, daem.context(feature, severities * leave).vector
    )


def routing(logits):
    return Routing(logits, logits, logits.softmax(dim=1))


def test_balance_loss_is_least_when_experts_share_the_work():
    even = torch.eye(4) * 4
    lopsided = torch.tensor([[4.0, 0, 0, 0]]).expand(4, 4)
    assert losses.balance(routing(even), 1) < 1e-6 < 0.5 < losses.balance(routing(lopsided), 1)


def test_balance_loss_gradient_spreads_the_load():
    logits = torch.tensor([[2.0, 0, 0, 0]]).repeat(4, 1).requires_grad_()
    losses.balance(routing(logits), 1).backward()
    assert (logits.grad[:, 0] > 0).all()


def test_naf_block_starts_near_the_identity_and_keeps_its_size():
    for kernel, dilation in ((3, 1), (7, 1), (3, 4)):
        block = initialise(NAFBlock(8, kernel=kernel, dilation=dilation), torch.Generator().manual_seed(0))
        x = tensor(1, 8, 9, 11)
        assert 0 < (block(x) - x).std() < 0.3 * x.std()
        assert randomised(block)(x).shape == x.shape


def test_same_seed_same_start():
    a, b, c = (
        initialise(DAEM(RESTORER.daem), torch.Generator().manual_seed(s)).state_dict() for s in (1, 1, 2)
    )
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert any(not torch.equal(a[key], c[key]) for key in a)
    assert {key.split(".")[0] for key in a} == set(DAEM_KEYS)


def test_daem_levels_may_be_narrower_than_a_head():
    config = DAEMConfig(
        decoder_widths=(8,),
        skip_widths=(8,),
        widths=(8,),
        pools=(1,),
        prior_width=24,
        context_width=12,
        kernels=(3, 5),
        dilations=(1, 1),
        top_k=1,
    )
    added, _ = randomised(DAEM(config)).levels[0](tensor(1, 8, 8, 8), tensor(1, 8, 8, 8), tensor(1, 12))
    assert added.shape == (1, 8, 8, 8) and added.abs().max() > 0
