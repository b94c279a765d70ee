"""The Degradation Report of a prior with known numbers: its words, bars and colours."""

import dataclasses

import pytest
import torch
from aior_pack.aior_core.degradations import KINDS
from aior_pack.tests.tiny import distance, picture

pytestmark = pytest.mark.usefixtures("host")

NOISE, RAIN, HAZE = (KINDS.index(kind) for kind in ("noise", "rain", "haze"))


@pytest.fixture(scope="module")
def prior(walk):
    """A picture of 144x96 pixels with three degradations.

    Noise of 50 % on the left third and rain of 25 % everywhere are certain. Haze of 90 % is not.
    """
    with torch.inference_mode():
        seen = walk.encode(picture(96, 144))
        severities, probabilities, maps = (
            torch.zeros_like(x) for x in (seen.severities, seen.probabilities, seen.maps)
        )
        severities[0, NOISE], severities[0, RAIN], severities[0, HAZE] = 0.5, 0.25, 0.9
        probabilities[0, NOISE], probabilities[0, RAIN], probabilities[0, HAZE] = 1.0, 1.0, 0.2
        maps[0, NOISE, :, :6], maps[0, RAIN], maps[0, HAZE, 6:] = 1.0, 0.25, 0.9
        return dataclasses.replace(seen, severities=severities, probabilities=probabilities, maps=maps)


def mask_of(rows: slice, columns: slice) -> torch.Tensor:
    mask = torch.zeros(90, 120)
    mask[rows, columns] = 0.8
    return mask


ALL = slice(None)


def test_the_frames_of_a_video_are_counted_in_one_line(prior):
    from aior_pack.aior_core.report.degradation_report import short_report

    frames = [KINDS.index(kind) for kind in ("rain", "rain", "noise", "rain")]
    sure = torch.zeros(4, len(KINDS))
    sure[range(4), frames] = 1.0
    video = dataclasses.replace(prior, severities=sure, probabilities=sure)
    assert short_report(video) == "4 pictures (144x96): found rain in 3, noise in 1."
    assert (
        short_report(dataclasses.replace(video, probabilities=0 * sure))
        == "4 pictures (144x96): nothing found."
    )


@pytest.mark.parametrize(
    "mask, words",
    [
        (torch.full((90, 120), 0.4), ""),
        (torch.zeros(90, 120), ""),
        (torch.linspace(0.5, 0.6, 120).expand(90, 120), ""),
        (
            torch.linspace(0.1, 0.9, 120).expand(90, 120) * torch.linspace(0.9, 1, 90)[:, None],
            "mostly bottom right",
        ),
        (mask_of(slice(0, 30), slice(0, 40)), "mostly top left"),
        (mask_of(slice(30, 60), slice(40, 80)), "mostly in the middle"),
        (mask_of(slice(30, 60), slice(90, 120)), "mostly right"),
        (mask_of(slice(70, 90), slice(50, 70)), "mostly bottom"),
    ],
)
def test_where_in_words(mask, words):
    from aior_pack.aior_core.report.degradation_report import whereabouts

    assert whereabouts(mask) == words


def test_the_text_puts_the_worst_first_and_places_only_what_was_found(prior):
    from aior_pack.aior_core.report.degradation_report import report_text, short_report

    head, *lines = report_text(prior).splitlines()
    assert head == short_report(prior) == "Picture 1 (144x96): noise, rain found."
    assert [line.split("  ")[1].strip() for line in lines[:3]] == ["noise", "rain", "haze"]
    assert lines[0].endswith("severity  50%   certainty 100%   mostly top left")
    assert lines[1].endswith("severity  25%   certainty 100%")
    assert all(line.endswith("%") for line in lines[2:]) and len(lines) == 8


def test_a_severity_of_zero_is_not_found_however_probable_it_is(prior):
    """Haze that the confidence gate rejects has severity 0; the report once named it as found."""
    from aior_pack.aior_core.report.degradation_report import report_maps, report_text, short_report

    severities, probabilities = prior.severities.clone(), prior.probabilities.clone()
    severities[0, HAZE], probabilities[0, HAZE] = 0.0, 0.7
    doubted = dataclasses.replace(prior, severities=severities, probabilities=probabilities)
    assert short_report(doubted) == "Picture 1 (144x96): noise, rain found."
    line = next(line for line in report_text(doubted).splitlines() if "haze" in line)
    assert line.endswith("severity   0%   certainty  70%")
    probabilities[0, HAZE] = 0.2
    labels = (
        report_maps(doubted)[0][HAZE],
        report_maps(dataclasses.replace(doubted, probabilities=probabilities))[0][HAZE],
    )
    assert torch.equal(*labels)
    many = dataclasses.replace(
        prior,
        severities=severities.expand(4, -1),
        probabilities=probabilities.clone().fill_(0.7).expand(4, -1),
    )
    assert "haze" not in short_report(many) and "noise in 4" in short_report(many)


def test_bars_are_as_long_as_the_severities(prior):
    from aior_pack.aior_core.report import degradation_report as report
    from aior_pack.aior_core.report.palette import AMBER, BLUE

    def pixels(chart, kind, color):
        line = chart[0, report.HEAD + report.ROW * kind + 8]
        return int((line == torch.tensor(color) / 255).all(dim=-1).sum())

    full = report.PLOT_WIDTH - report.LABEL - report.SURE
    plain = report.report_plot(prior)
    assert plain.shape == (1, plain.shape[1], report.PLOT_WIDTH, 3)
    assert pixels(plain, NOISE, BLUE) == pytest.approx(full / 2, abs=2) and pixels(
        plain, RAIN, BLUE
    ) == pytest.approx(full / 4, abs=2)
    # Hardly believed: not in the full colour. Not there: nothing.
    assert pixels(plain, HAZE, BLUE) == 0 and pixels(plain, KINDS.index("blur"), BLUE) <= 1
    steering = torch.ones_like(prior.severities)
    steering[0, NOISE] = 0.25
    steered = report.report_plot(dataclasses.replace(prior, steering=steering))
    assert pixels(steered, NOISE, BLUE) == pytest.approx(full / 8, abs=2) and pixels(
        steered, NOISE, AMBER
    ) == pytest.approx(full * 3 / 8, abs=2)


def test_maps_are_hot_where_the_masks_are(prior):
    from aior_pack.aior_core.picture import from_unit
    from aior_pack.aior_core.report.degradation_report import report_maps
    from aior_pack.aior_core.report.drawing import overlay_heat

    maps, masks = report_maps(prior)
    assert maps.shape == (8, 96, 144, 3) and masks.shape == (8, 96, 144)
    assert (
        masks[NOISE, :, :40].min() == 1
        and masks[NOISE, :, 56:].max() == 0
        and distance(masks[RAIN], torch.full((96, 144), 0.25)) < 1e-6
    )
    grey = 0.7 * from_unit(prior.picture)[0].mean(dim=-1, keepdim=True)
    # The label is on top; below it the map is as it was painted.
    assert distance(maps[NOISE][48:, 60:], grey[48:, 60:].expand(-1, -1, 3)) < 1e-6
    assert distance(maps[:, 48:], overlay_heat(from_unit(prior.picture), masks)[:, 48:]) < 1e-6
    assert (maps[NOISE][:12] - overlay_heat(from_unit(prior.picture)[0], masks[NOISE])[:12]).abs().max() > 0.3


def test_heat_can_be_read_without_colours():
    from aior_pack.aior_core.report.drawing import color_scale, heat_colors

    colors = heat_colors(torch.linspace(-0.5, 1.5, 201))
    luminance = colors @ torch.tensor([0.2126, 0.7152, 0.0722])
    assert colors.shape == (201, 3) and 0 <= colors.min() and colors.max() <= 1
    assert (luminance[51:151] > luminance[50:150]).all() and luminance[150] - luminance[50] > 0.6
    assert torch.equal(colors[0], colors[50]) and torch.equal(colors[200], colors[150])
    assert color_scale(64, 4).size == (64, 4)


def test_labels_take_the_top_only_and_leave_out_what_does_not_fit():
    from aior_pack.aior_core.report.drawing import fitting_font, with_label

    image = picture(256, 320)[0]
    bright, dim = with_label(image, "noise", "42%"), with_label(image, "noise", "not found", muted=True)
    for made in (bright, dim):
        assert (
            made.shape == image.shape
            and torch.equal(made[40:], image[40:])
            and not torch.equal(made[:20], image[:20])
        )
    # In grey there is neither the scale of the colours nor any other colour.
    assert (dim[:20].amax(dim=-1) - dim[:20].amin(dim=-1)).max() < 0.1 and (
        bright[:20].amax(dim=-1) - bright[:20].amin(dim=-1)
    ).max() > 0.3
    for height, width in ((32, 320), (320, 32), (16, 16)):
        small = picture(height, width)[0]
        assert torch.equal(with_label(small, "low resolution", "not found"), small)
    assert fitting_font("low resolution", 20, 30) is None and fitting_font("rain", 300, 30).size == 30
