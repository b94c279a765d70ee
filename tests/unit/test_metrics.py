"""The numbers are the papers': against closed forms and, where installed, scikit-image."""

import csv
import dataclasses
import io
import math

import pytest
import torch
from aior_pack.aior_core.metrics import as_8bit, measure, perceptual, psnr, ssim, to_luma
from aior_pack.aior_core.metrics.perceptual import available, learned_distance
from aior_pack.aior_core.report.measurement import error_map, markdown_table, score_csv, score_table


def picture(*shape, seed=0):
    """Smooth structure plus texture, -1..1."""
    batch, channels, height, width = shape
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch, channels, 6, 6, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic")
    return (smooth + 0.1 * torch.randn(shape, generator=generator)).clamp(0, 1) * 2 - 1


def noisy(clean, sigma, seed=1):
    """Gaussian noise of `sigma` on the 0..1 scale, not clipped."""
    return clean + 2 * sigma * torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed))


def as_numpy(one):
    return ((one.double() + 1) / 2).movedim(0, -1).numpy()


def test_psnr_of_a_constant_error():
    clean = picture(2, 3, 20, 31) * 0.5
    assert psnr(clean + 0.2, clean).tolist() == pytest.approx([20.0, 20.0], abs=1e-5)


def test_psnr_of_unclipped_noise_is_the_textbook_number():
    clean = picture(1, 3, 256, 256)
    assert psnr(noisy(clean, 25 / 255), clean).item() == pytest.approx(20 * math.log10(255 / 25), abs=0.05)


def test_equal_pictures_score_100_db_and_ssim_1():
    clean = picture(2, 3, 32, 32)
    assert psnr(clean, clean).tolist() == [100.0, 100.0]
    assert ssim(clean, clean).tolist() == pytest.approx([1.0, 1.0], abs=1e-12)


@pytest.mark.parametrize("height, width", [(64, 64), (63, 65), (11, 12)])
@pytest.mark.parametrize("border", [0, 4])
def test_against_scikit_image(height, width, border):
    skimage = pytest.importorskip("skimage.metrics")
    clean = picture(2, 3, height, width)
    damaged = noisy(clean, 0.1)
    inside = (slice(border, height - border), slice(border, width - border))
    for index, value in enumerate(psnr(damaged, clean, border=border).tolist()):
        pair = as_numpy(clean[index])[inside], as_numpy(damaged[index])[inside]
        assert value == pytest.approx(skimage.peak_signal_noise_ratio(*pair, data_range=1), abs=1e-6)
    if min(height, width) - 2 * border < 11:
        with pytest.raises(ValueError, match="11x11"):
            ssim(damaged, clean, border=border)
        return
    for index, value in enumerate(ssim(damaged, clean, border=border).tolist()):
        pair = as_numpy(clean[index])[inside], as_numpy(damaged[index])[inside]
        expected = skimage.structural_similarity(
            *pair,
            data_range=1,
            channel_axis=-1,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        assert value == pytest.approx(expected, abs=1e-6)


def test_luma_is_matlabs():
    colors = torch.tensor([[0.0, 0, 0], [1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]]).view(5, 3, 1, 1)
    assert (to_luma(colors).flatten() * 255).tolist() == pytest.approx(
        [16, 235, 81.481, 144.553, 40.966], abs=1e-4
    )


def test_luma_against_scikit_image():
    color = pytest.importorskip("skimage.color")
    clean = picture(1, 3, 16, 17)
    expected = torch.from_numpy(color.rgb2ycbcr(as_numpy(clean[0]))[..., 0] / 255)
    assert (to_luma((clean.double() + 1) / 2)[0, 0] - expected).abs().max() < 1e-6


def test_luma_scales_a_grey_error_as_the_formula_says():
    clean = picture(1, 3, 24, 24) * 0.5
    gap = psnr(clean + 0.1, clean, channel="y") - psnr(clean + 0.1, clean)
    assert gap.item() == pytest.approx(20 * math.log10(255 / 219), abs=1e-3)


def test_border_is_not_measured():
    clean = picture(1, 3, 40, 40)
    damaged = clean.clone()
    damaged[..., :3, :] = 1
    damaged[..., -1] = -1
    assert psnr(damaged, clean, border=3).item() == 100
    assert psnr(damaged, clean, border=2).item() < 100


def test_batch_equals_the_pictures_alone_and_one_reference_serves_all():
    clean = picture(1, 3, 33, 35)
    damaged = torch.cat([noisy(clean, 0.05), noisy(clean, 0.2)])
    for metric in (psnr, ssim):
        both = metric(damaged, clean)
        assert both.shape == (2,) and both[0] > both[1]
        assert both.tolist() == pytest.approx(
            [metric(damaged[:1], clean).item(), metric(damaged[1:], clean).item()], abs=1e-9
        )


def test_as_8bit_is_what_a_png_holds():
    values = as_8bit(torch.tensor([-3.0, -1, 0, 0.999, 1, 2]).view(1, 1, 1, 6))
    assert ((values + 1) * 127.5).flatten().tolist() == pytest.approx([0, 0, 128, 255, 255, 255], abs=1e-4)


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_what_cannot_be_measured_is_refused(metric):
    clean = picture(2, 3, 32, 32)
    with pytest.raises(ValueError, match="one size"):
        metric(clean, clean[..., :31])
    with pytest.raises(ValueError, match="one for all"):
        metric(clean[:1], clean)
    with pytest.raises(ValueError, match="unknown channel"):
        metric(clean, clean, channel="hsv")
    with pytest.raises(ValueError, match="leaves nothing"):
        metric(clean, clean, border=16)


def test_perceptual_measures_or_names_the_package():
    clean = picture(2, 3, 64, 64)
    if not available():
        with pytest.raises(RuntimeError, match="pip install"):
            perceptual(clean, clean)
        return
    light, strong = noisy(clean, 0.02), noisy(clean, 0.3)
    assert perceptual(clean, clean).abs().max() < 1e-6
    assert (perceptual(light, clean) < perceptual(strong, clean)).all()
    learnt = strong.clone().requires_grad_()
    distance = learned_distance(learnt, clean)
    distance.sum().backward()
    assert (
        torch.allclose(distance.double(), perceptual(strong, clean), atol=1e-5)
        and learnt.grad.abs().sum() > 0
    )


def test_table_holds_each_picture_their_mean_and_the_protocol():
    clean = picture(2, 3, 32, 32) * 0.5
    scores = measure(clean + torch.tensor([0.2, 0.02]).view(2, 1, 1, 1), clean, border=2)
    assert scores.psnr == pytest.approx((20, 40), abs=1e-4) and scores.perceptual is None
    assert scores.mean("psnr") == pytest.approx(30, abs=1e-4) and scores.mean("perceptual") == -1
    text = score_table(scores)
    assert all(part in text for part in ("20.00", "40.00", "mean", "30.00", "2 pixels", "RGB"))


def test_csv_holds_the_numbers_of_the_table_in_full():
    clean = picture(2, 3, 32, 32) * 0.5
    both = measure(clean + torch.tensor([0.2, 0.02]).view(2, 1, 1, 1), clean, border=2, channel="y")
    head, *rows = list(csv.reader(io.StringIO(score_csv(both))))
    assert head == ["picture", "PSNR dB", "SSIM", "channel", "border"]
    assert [row[0] for row in rows] == ["1", "2", "mean"] and {tuple(row[3:]) for row in rows} == {("y", "2")}
    assert [float(row[1]) for row in rows] == [*both.psnr, both.mean("psnr")] and [
        float(row[2]) for row in rows
    ] == [*both.ssim, both.mean("ssim")]
    one = dataclasses.replace(both, psnr=both.psnr[:1], ssim=both.ssim[:1], perceptual=(0.25,))
    assert score_csv(one).count("\n") == 2 and score_csv(one).startswith(
        "picture,PSNR dB,SSIM,ST-LPIPS (not LPIPS),channel,border\n1,"
    )


def test_markdown_columns_line_up():
    lines = markdown_table(["name", "dB"], [["a long name", "1.0"], ["b", "12.50"]]).splitlines()
    assert len({len(line) for line in lines}) == 1 and lines[1].endswith(":|")


def test_error_map_goes_from_black_to_white():
    clean = torch.zeros(1, 3, 8, 12)
    damaged = clean.clone()
    damaged[..., 4:8] = 0.25
    damaged[..., 8:] = -1
    heat = error_map(damaged, clean, gain=8 / 3)
    assert heat.shape == clean.shape
    assert heat[0, :, 0, 0].tolist() == [-1, -1, -1]
    assert heat[0, :, 0, 5].tolist() == pytest.approx([1, -1, -1], abs=1e-5)
    assert heat[0, :, 0, 10].tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match="one size"):
        error_map(clean, clean[..., :4])
