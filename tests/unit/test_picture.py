"""Pictures come back as they went in: values, sizes, alpha, colours."""

import pytest
import torch
from aior_pack.aior_core.picture import (
    Geometry,
    adain_color,
    crop_back,
    from_unit,
    join_alpha,
    match_color,
    pad_to_multiple,
    split_alpha,
    to_unit,
    wavelet_color,
)


def image(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_conversion_is_exact_for_every_8_bit_value():
    values = (torch.arange(256) / 255).view(1, 16, 16, 1).expand(1, 16, 16, 3)
    picture = to_unit(values)
    assert picture.shape == (1, 3, 16, 16) and picture.dtype == torch.float32
    assert picture.min() == -1 and picture.max() == 1
    assert torch.equal((from_unit(picture) * 255).round(), (values * 255).round())
    assert (from_unit(picture) - values).abs().max() < 1e-7


def test_conversion_leaves_its_input_alone_and_clamps_on_the_way_out():
    source = image(2, 9, 7, 3)
    kept = source.clone()
    back = from_unit(to_unit(source) * 3)
    assert torch.equal(source, kept)
    assert back.min() == 0 and back.max() == 1 and back.is_contiguous()


def test_overshoot_of_unclipped_noise_is_kept_on_the_way_in():
    assert to_unit(torch.full((1, 2, 2, 3), 1.25)).unique().tolist() == [1.5]


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_alpha_is_split_and_joined(channels):
    source = image(2, 5, 6, channels)
    color, alpha = split_alpha(source)
    assert color.shape == (2, 5, 6, 3)
    assert (alpha is None) == (channels in (1, 3))
    joined = join_alpha(color, alpha)
    if channels >= 3:
        assert torch.equal(joined, source)
    else:
        assert torch.equal(joined[..., 0], source[..., 0]) and torch.equal(joined[..., 2], source[..., 0])
    assert to_unit(source).shape == (2, 3, 5, 6)


def test_alpha_of_another_size_is_refused():
    with pytest.raises(ValueError, match="alpha is"):
        join_alpha(image(1, 8, 8, 3), image(1, 8, 9, 1))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_values_that_are_no_numbers_are_refused(bad):
    source = image(1, 4, 4, 3)
    source[0, 1, 2, 0] = bad
    with pytest.raises(ValueError, match="NaN or infinite"):
        to_unit(source)


@pytest.mark.parametrize("shape", [(8, 8, 3), (1, 3, 8, 8), (1, 8, 8, 16)])
def test_what_is_no_image_is_refused(shape):
    with pytest.raises(ValueError, match="B H W C"):
        to_unit(torch.zeros(shape))


def test_from_unit_refuses_a_latent():
    with pytest.raises(ValueError, match="B 3 H W"):
        from_unit(torch.zeros(1, 16, 8, 8))


@pytest.mark.parametrize(
    "height, width", [(64, 64), (63, 65), (65, 63), (1, 1), (3, 100), (333, 517), (8, 9), (4, 5)]
)
def test_padding_reaches_the_multiple_and_crops_back_to_the_bit(height, width):
    picture = image(2, 3, height, width)
    padded, geometry = pad_to_multiple(picture, 8)
    assert padded.shape[-2] % 8 == 0 and padded.shape[-1] % 8 == 0
    assert padded.shape[-2] - height < 8 and padded.shape[-1] - width < 8
    assert geometry == Geometry(height, width, padded.shape[-2] - height, padded.shape[-1] - width)
    assert torch.equal(crop_back(padded, geometry), picture)
    assert padded.min() >= picture.min() and padded.max() <= picture.max()


def test_padding_mirrors_where_it_can_and_repeats_where_it_cannot():
    wide = torch.arange(9.0).view(1, 1, 1, 9).expand(1, 1, 8, 9)
    assert pad_to_multiple(wide, 8)[0][0, 0, 0, 9:].tolist() == [7, 6, 5, 4, 3, 2, 1]
    narrow = torch.arange(3.0).view(1, 1, 1, 3).expand(1, 1, 8, 3)
    assert pad_to_multiple(narrow, 8)[0][0, 0, 0, 3:].tolist() == [2] * 5


def test_nothing_to_pad_gives_the_same_tensor():
    picture = image(1, 3, 16, 24)
    assert pad_to_multiple(picture)[0] is picture


def test_crop_refuses_a_picture_of_another_size():
    with pytest.raises(ValueError, match="another size"):
        crop_back(torch.zeros(1, 3, 64, 64), Geometry(60, 60, 4, 12))


@pytest.mark.parametrize("transfer", [wavelet_color, adain_color])
def test_a_picture_is_its_own_reference(transfer):
    picture = image(2, 3, 40, 33) * 2 - 1
    assert (transfer(picture, picture) - picture).abs().max() < 1e-5


@pytest.mark.parametrize("transfer", [wavelet_color, adain_color])
def test_a_constant_colour_cast_is_undone(transfer):
    picture = image(1, 3, 48, 48) - 0.5
    cast = picture + torch.tensor([0.3, -0.2, 0.1]).view(1, 3, 1, 1)
    assert (transfer(cast, picture) - picture).abs().max() < 1e-3


def test_wavelet_takes_detail_from_one_and_colour_from_the_other():
    detail = (image(1, 3, 128, 128) - 0.5) * 0.2
    ramp = torch.linspace(-0.5, 0.5, 128).view(1, 1, 1, 128).expand(1, 3, 128, 128)
    result = wavelet_color(detail, ramp)
    inside = (slice(None), slice(None), slice(40, -40), slice(40, -40))
    # A linear ramp passes the symmetric blurs unchanged; the detail's own mean does not come along.
    assert (result - ramp - detail)[inside].abs().max() < 0.02


@pytest.mark.parametrize("transfer", [wavelet_color, adain_color])
def test_reference_of_another_size_and_batch_of_one(transfer):
    picture = image(3, 3, 33, 47) * 2 - 1
    result = transfer(picture, image(1, 3, 66, 94, seed=1) * 2 - 1)
    assert result.shape == picture.shape and result.abs().max() <= 1
    with pytest.raises(ValueError, match="reference pictures"):
        transfer(picture, image(2, 3, 33, 47))


def test_match_color_by_name():
    picture, reference = image(1, 3, 16, 16), image(1, 3, 16, 16, seed=1)
    assert match_color(picture, reference) is picture
    assert torch.equal(match_color(picture, reference, "adain"), adain_color(picture, reference))
    assert torch.equal(match_color(picture, reference, "wavelet"), wavelet_color(picture, reference))
    with pytest.raises(ValueError, match="wavelet or adain"):
        match_color(picture, reference, "lab")
