"""Second-order chains and the plain forms of tables, by numbers: kernels, order, labels, codecs."""

import io
import math

import numpy as np
import pytest
import torch
from aior_pack.aior_core.degradations.blur import convolve
from aior_pack.aior_core.degradations.draw import Draw
from aior_pack.aior_core.degradations.fields import stream
from aior_pack.aior_core.degradations.kinds import of
from aior_pack.aior_core.degradations.published import chains
from aior_pack.aior_core.degradations.published.chains import STYLES
from aior_pack.aior_core.degradations.published.kernels import FORMS, kernel_of
from aior_pack.aior_core.degradations.published.plain import STYLES as PLAIN
from PIL import Image

OFF = {"sigma": [0.0, 0.0], "scale": [1.0, 1.0], "noise": [0.0, 0.0], "quality": [100, 100], "ringing": 0.0}


def drawn(name, severity, seed=0, **instead):
    return STYLES[name].draw(Draw(stream(seed)), severity) | instead


def texture(size=96, seed=0):
    small = torch.rand(1, 3, size // 3, size // 3, generator=stream(seed))
    return torch.nn.functional.interpolate(small, size=(size, size), mode="bicubic").clamp(0.1, 0.9)


@pytest.mark.parametrize("form", FORMS)
def test_kernels_keep_the_light_and_have_their_width_and_direction(form):
    for sigma in (0.02, 0.8, 2.0, 3.0):
        kernel = kernel_of(form, sigma, 0.5, 0.0, 1.0)
        assert kernel.shape[0] % 2 == 1 and kernel.sum().item() == pytest.approx(1.0, abs=1e-5)
    axis = torch.arange(kernel.shape[0], dtype=torch.float32) - kernel.shape[0] // 2
    along, across = (kernel.sum(0) * axis**2).sum(), (kernel.sum(1) * axis**2).sum()
    if form == "gaussian":
        assert along.sqrt().item() == pytest.approx(3.0, rel=0.03)
    if form != "sinc":
        assert along > 1.5 * across
        turned = kernel_of(form, 3.0, 0.5, 90.0, 1.0)
        assert (turned - kernel.T).abs().max() < 1e-6
    else:
        assert kernel.min() < -1e-3, "an ideal filter rings"


def test_the_ideal_filter_stops_what_is_finer_than_its_cutoff():
    """A cutoff of `pi / 2` radians per pixel is a period of 4 pixels."""
    columns = torch.arange(128, dtype=torch.float32)
    kernel = kernel_of("sinc", 2.0, 1.0, 0.0, 1.0)
    for period, least, most in ((12.0, 0.85, 1.15), (2.5, 0.0, 0.15)):
        wave = torch.cos(2 * math.pi * columns / period).expand(1, 1, 128, 128)
        left = convolve(wave, kernel)[..., 30:-30, 30:-30]
        assert least <= (left.std() / wave.std()).item() <= most


@pytest.mark.parametrize("side", [7, 15])
def test_convolution_is_the_plain_one(side):
    picture, kernel = texture(), torch.rand(side, side, generator=stream(4))
    padded = torch.nn.functional.pad(picture, (side // 2,) * 4, mode="replicate")
    flipped = kernel.flip(0, 1).expand(3, 1, side, side)
    expected = torch.nn.functional.conv2d(padded, flipped, groups=3)
    assert (convolve(picture, kernel) - expected).abs().max() < 1e-4


@pytest.mark.parametrize("name", sorted(STYLES))
def test_with_every_step_off_nothing_changes_in_any_order(name):
    picture = texture()
    for seed in range(5):
        assert (STYLES[name].apply(picture, drawn(name, 1.0, seed, **OFF), seed) - picture).abs().max() < 1e-6


def test_every_step_does_its_own_part_and_nothing_else():
    picture = texture() * 0.5 + 0.25
    style, params = STYLES["realesrgan"], drawn("realesrgan", 1.0, 1, **OFF)
    params |= {"form0": "gaussian", "ratio": [1.0, 1.0], "kind0": "color", "kind1": "grey", "filter0": "area"}
    noisy = style.apply(picture, params | {"noise": [12.0, 0.0]}, 0) - picture
    assert noisy.std().item() * 255 == pytest.approx(12.0, rel=0.03)
    grey = style.apply(picture, params | {"noise": [0.0, 12.0]}, 0) - picture
    assert (grey[:, 0] - grey[:, 1]).abs().max() < 1e-6 and grey.std() > 0.03
    blurred = style.apply(picture, params | {"sigma": [2.0, 0.0]}, 0)
    assert blurred.diff(dim=-1).abs().mean() < 0.6 * picture.diff(dim=-1).abs().mean()
    small = style.apply(picture, params | {"scale": [0.25, 1.0]}, 0)
    assert 0.0002 < (small - picture).square().mean() and small.shape == picture.shape
    file = style.apply(picture, params | {"quality": [100, 30]}, 0)
    assert 1e-5 < (file - picture).square().mean() < 1e-2
    assert style.said(params) == {}


def test_order_matters_and_bsrgan_shuffles_it():
    picture, params = texture(), drawn("bsrgan", 0.8, 3)
    first = STYLES["bsrgan"].apply(picture, params | {"order": [0, 1, 2, 3, 4, 5, 6, 7]}, 2)
    assert not torch.equal(
        first, STYLES["bsrgan"].apply(picture, params | {"order": [3, 2, 1, 0, 4, 5, 6, 7]}, 2)
    )
    orders = {tuple(drawn("bsrgan", 0.5, seed)["order"]) for seed in range(30)}
    assert len(orders) > 25 and all(sorted(order) == list(range(8)) and order[-1] == 7 for order in orders)
    assert len({tuple(drawn("realesrgan", 0.5, seed)["order"]) for seed in range(30)}) == 2


def test_a_step_comes_once_and_no_chain_of_enlargements_takes_all_memory(monkeypatch):
    picture, params = texture(), drawn("realesrgan", 1.0, 2)
    for order in ([1, 1], [0, 1, 5, 1], [0.5]):
        with pytest.raises(ValueError, match="order"):
            STYLES["realesrgan"].apply(picture, params | {"order": order}, 0)
    sizes, resized = [], chains._resized
    monkeypatch.setattr(
        chains, "_resized", lambda p, size, name: sizes.append(size) or resized(p, size, name)
    )
    params |= {"scale": [2.0, 2.0], "order": [1, 5]}
    assert STYLES["realesrgan"].apply(picture, params, 0).shape == picture.shape
    assert sizes == [(144, 144), (144, 144), (96, 96)]


def test_labels_of_a_chain_say_what_was_done():
    params = drawn(
        "realesrgan", 1.0, 1, sigma=[1.6, 0.0], scale=[0.5, 0.5], noise=[0.0, 30.0], quality=[90, 55]
    )
    labels = STYLES["realesrgan"].said(params)
    assert labels == {"blur": 0.5, "low_resolution": 1.0, "noise": 0.5, "jpeg": 0.5}
    mild, strong = (STYLES["realesrgan"].said(drawn("realesrgan", severity, 7)) for severity in (0.3, 0.9))
    assert all(mild.get(kind, 0) < strong[kind] for kind in ("blur", "noise", "jpeg"))


def test_plain_noise_is_clipped_and_rounded_or_neither():
    picture = torch.cat((torch.zeros(1, 3, 64, 64), torch.full((1, 3, 64, 64), 0.5)))
    free = PLAIN["gaussian"].apply(picture, {"sigma": 25.0, "clip": False}, 3)
    assert free.min() < -0.1 and free[1].std().item() * 255 == pytest.approx(25, rel=0.03)
    kept = PLAIN["gaussian_clipped"].apply(picture, {"sigma": 25.0, "clip": True}, 3)
    assert kept.min() == 0 and (kept * 255 - (kept * 255).round()).abs().max() < 1e-4
    assert (kept - free.clamp(0, 1)).abs().max() <= 0.5 / 255 + 1e-6
    with pytest.raises(ValueError, match="clip"):
        PLAIN["gaussian"].apply(picture, {"sigma": 25.0, "clip": True}, 3)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_bicubic_is_that_of_matlab(scale):
    """Pillow's bicubic has the same kernel, a = -0.5, widened where it reduces. Both round to 8 bits in
    between.
    """
    picture = (texture(96) * 255).round() / 255
    made = (PLAIN["bicubic"].apply(picture, {"scale": float(scale)}, 0).clamp(0, 1) * 255).round()
    file = Image.fromarray((picture[0] * 255).round().byte().movedim(0, -1).numpy())
    small = file.resize((96 // scale, 96 // scale), Image.Resampling.BICUBIC)
    large = np.asarray(small.resize((96, 96), Image.Resampling.BICUBIC), dtype=np.float32)
    difference = np.abs(made[0].movedim(0, -1).numpy() - large)
    assert difference.mean() < 0.5 and difference.max() <= 3


@pytest.mark.parametrize("quality", [10, 40, 90])
def test_plain_jpeg_is_that_of_ijg(quality):
    picture = (texture(96) * 255).round() / 255
    params = {"quality": quality, "subsampling": "4:2:0"}
    made = PLAIN["ijg_jpeg"].apply(picture, params, 0)[0].movedim(0, -1).numpy() * 255
    memory = io.BytesIO()
    source = Image.fromarray((picture[0] * 255).round().byte().movedim(0, -1).numpy())
    source.save(memory, "JPEG", quality=quality, subsampling="4:2:0")
    theirs = np.asarray(Image.open(memory).convert("RGB"), dtype=np.float32)
    assert np.abs(made - theirs).mean() < 1.5
    assert torch.equal(PLAIN["ijg_jpeg"].apply(picture, params | {"quality": 100}, 0), picture)


@pytest.mark.parametrize("name", sorted(PLAIN))
def test_severity_of_a_plain_form_is_that_of_its_kind(name):
    kind = of(PLAIN[name].kind)
    for severity in (0.0, 0.21, 0.5, 1.0):
        assert PLAIN[name].draw(Draw(stream(0)), severity)[kind.primary] == kind.value(severity)
