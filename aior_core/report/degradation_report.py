"""The degradation prior in words and pictures."""

from __future__ import annotations

from typing import overload

import torch
from torch import Tensor
from torch.nn import functional as F

from ..degradations import KINDS, of
from ..models.calibration import DEFAULT, Calibration
from ..picture import crop_back
from ..pipeline.prior import Prior, require_estimate
from ..pipeline.validate import require_kind
from .drawing import as_image, canvas, fitting_font, font, overlay_heat, with_label
from .palette import AMBER, BLUE, GRID, INK, MUTED, PANEL

MAX_LINES = 3
"""Up to so many pictures have a line each in the short report."""
NO_ESTIMATE = "No estimate: this restorer has no degradation head."
PLOT_WIDTH, HEAD, ROW, LABEL, SURE = 640, 84, 34, 160, 150
"""Pixels of the chart: its width, its title, the height of a row, and the columns of names and of numbers."""
_ROWS, _COLUMNS = ("top", "", "bottom"), ("left", "", "right")


def report_text(prior: Prior) -> str:
    """A paragraph per picture: its degradations, worst first, with severity, certainty and place.

    A place is named where a degradation covers a part of the picture. A line says what is to be left in.

    Raises:
        ValueError: `prior` is not a Prior.
    """
    require_kind("prior", prior, Prior, "Encode Degradation Prior")
    if not prior.estimated:
        return NO_ESTIMATE
    return "\n\n".join(_paragraph(prior, index) for index in range(len(prior.severities)))


def _paragraph(prior: Prior, index: int) -> str:
    severities, probabilities = prior.severities[index].tolist(), prior.probabilities[index].tolist()
    lines = [_headline(prior, index)]
    if left_in := _left_in(prior, index):
        lines.append(f"  To be left in: {left_in}.")
    for k in _worst_first(severities, probabilities):
        place = ""
        if is_found(severities[k], probabilities[k], prior.calibration):
            # One map at a time is enlarged: Encode Degradation Prior calls this for very large pictures too.
            mask = _masks(prior, prior.maps[index : index + 1, k : k + 1])[0, 0]
            place = whereabouts(mask, prior.calibration.map_variation)
        numbers = f"severity {severities[k]:4.0%}   certainty {probabilities[k]:4.0%}"
        lines.append(f"  {label(prior.kinds[k]):<15} {numbers}   {place}".rstrip())
    return "\n".join(lines)


def short_report(prior: Prior) -> str:
    """A line per picture: its degradations, worst first.

    For more than `MAX_LINES` pictures it is one line in all, with the number of pictures that have each
    degradation.
    """
    if not prior.estimated:
        return NO_ESTIMATE
    pictures = len(prior.severities)
    if pictures <= MAX_LINES:
        return "\n".join(_headline(prior, index) for index in range(pictures))
    counts = is_found(prior.severities, prior.probabilities, prior.calibration).sum(dim=0).tolist()
    most_frequent = sorted(range(len(counts)), key=lambda k: -counts[k])
    found = ", ".join(f"{label(prior.kinds[k])} in {counts[k]}" for k in most_frequent if counts[k])
    return f"{pictures} pictures ({_size(prior)}): {f'found {found}' if found else 'nothing found'}."


def report_plot(prior: Prior) -> Tensor:
    """A bar chart per picture, IMAGE `B H W 3`, 0..1.

    The length of a bar is the severity, its brightness the certainty. The part that is to be left in is
    amber.

    Raises:
        ValueError: the prior has no estimate.
    """
    require_estimate(prior)
    return torch.cat([_chart(prior, index) for index in range(len(prior.severities))])


def report_maps(prior: Prior) -> tuple[Tensor, Tensor]:
    """Where the degradations are, in the size of the picture that came in: two batches of B*K.

    All K degradations of the first picture come first. A picture that is too small for a label has none.

    Returns:
        Labelled heat maps over the picture, IMAGE `B*K H W 3`, 0..1, and the same maps as MASK `B*K H W`,
        0..1.

    Raises:
        ValueError: the prior has no estimate.
    """
    require_estimate(prior)
    masks = _masks(prior, prior.maps)
    maps = torch.empty(*masks.shape, 3)
    for index, picture in enumerate(prior.unpadded.clamp(0, 1)):
        for k, kind in enumerate(prior.kinds):
            severity = float(prior.severities[index, k])
            found = is_found(severity, float(prior.probabilities[index, k]), prior.calibration)
            value = f"{severity:.0%}" if found else "not found"
            heat = overlay_heat(picture, masks[index, k]).cpu()
            maps[index, k] = with_label(heat, label(kind), value, muted=not found)
    return maps.flatten(0, 1), masks.flatten(0, 1).float().cpu().contiguous()


@overload
def is_found(severity: float, probability: float, calibration: Calibration = ...) -> bool: ...
@overload
def is_found(severity: Tensor, probability: Tensor, calibration: Calibration = ...) -> Tensor: ...
def is_found(
    severity: float | Tensor, probability: float | Tensor, calibration: Calibration = DEFAULT
) -> bool | Tensor:
    """Whether degradations of this severity and probability count as found, element by element.

    Haze that the confidence gate rejects has severity 0, however probable the degradation head finds it.
    """
    return (probability >= calibration.found_probability) & (severity >= calibration.found_severity)


def whereabouts(mask: Tensor, variation: float = DEFAULT.map_variation) -> str:
    """The ninth of the picture where a mask `H W` is strongest: "mostly top left" or "mostly in the middle".

    The text is empty for a mask that is about even, whose lowest ninth is at least 1 - `variation` of its
    highest (see `Calibration.map_variation`). It does not say "everywhere" then: weights whose head has no
    network for maps give even masks of pictures with one damaged half too.
    """
    ninths = F.adaptive_avg_pool2d(mask[None].float(), 3)[0]
    if float(ninths.min()) >= (1 - variation) * float(ninths.max()):
        return ""
    row, column = divmod(int(ninths.argmax()), 3)
    return "mostly " + (" ".join(filter(None, (_ROWS[row], _COLUMNS[column]))) or "in the middle")


def label(kind: str) -> str:
    """The name that people read of a degradation.

    Of one that only the weights know it is their name of it, without underscores.
    """
    return of(kind).label if kind in KINDS else kind.replace("_", " ")


def _masks(prior: Prior, maps: Tensor) -> Tensor:
    """Enlarge maps of the prior `B K h w` to the size of the picture that came in: `B K H W`, 0..1."""
    masks = F.interpolate(maps, size=prior.image.shape[1:3], mode="bilinear", align_corners=False)
    return crop_back(masks, prior.geometry).clamp(0.0, 1.0)


def _worst_first(severities: list[float], probabilities: list[float]) -> list[int]:
    """Indices of the degradations, by severity times probability, largest first."""
    return sorted(range(len(severities)), key=lambda k: -severities[k] * probabilities[k])


def _headline(prior: Prior, index: int) -> str:
    return f"Picture {index + 1} ({_size(prior)}): {_found(prior, index)} found."


def _size(prior: Prior) -> str:
    return f"{prior.geometry.width}x{prior.geometry.height}"


def _found(prior: Prior, index: int) -> str:
    """The degradations that are found, worst first: "rain, noise"; "nothing" if there are none."""
    severities, probabilities = prior.severities[index].tolist(), prior.probabilities[index].tolist()
    found = [
        label(prior.kinds[k])
        for k in _worst_first(severities, probabilities)
        if is_found(severities[k], probabilities[k], prior.calibration)
    ]
    return ", ".join(found) or "nothing"


def _left_in(prior: Prior, index: int) -> str:
    """The degradations that are not removed in full: "noise, blur (60%)"; empty if there are none."""
    return ", ".join(
        label(kind) + (f" ({1 - weight:.0%})" if weight else "")
        for kind, weight in zip(prior.kinds, prior.steered[index].tolist())
        if weight < 1
    )


def _chart(prior: Prior, index: int) -> Tensor:
    """The bar chart of one picture, IMAGE `1 H W 3`."""
    severities, probabilities = prior.severities[index].tolist(), prior.probabilities[index].tolist()
    weights = prior.steered[index].tolist()
    sheet, draw = canvas(PLOT_WIDTH, HEAD + ROW * len(severities) + 12)
    title = f"Found: {_found(prior, index)}"
    letters = fitting_font(title, PLOT_WIDTH - 32, 26) or font(11)
    draw.text((16, 26), title, fill=INK, font=letters, anchor="lm")
    full = PLOT_WIDTH - LABEL - SURE
    for share in (0, 0.5, 1):
        draw.text((LABEL + full * share, HEAD - 16), f"{share:.0%}", fill=MUTED, font=font(14), anchor="mm")
    legend = "severity" if min(weights) == 1 else "amber: left in"
    draw.text((16, HEAD - 16), legend, fill=MUTED, font=font(14), anchor="lm")
    draw.text((PLOT_WIDTH - 16, HEAD - 16), "certainty", fill=MUTED, font=font(14), anchor="rm")
    bars = zip(prior.kinds, severities, probabilities, weights)
    for row, (kind, severity, certainty, weight) in enumerate(bars):
        top, middle = HEAD + row * ROW, HEAD + row * ROW + ROW // 2
        ink = INK if is_found(severity, certainty, prior.calibration) else MUTED
        end, border = LABEL + round(full * severity), LABEL + round(full * severity * weight)
        draw.text((16, middle), label(kind), fill=ink, font=font(19), anchor="lm")
        draw.rectangle((LABEL, top + 6, LABEL + full, top + ROW - 6), fill=PANEL)
        if weight < 1:
            draw.rectangle((LABEL, top + 6, end, top + ROW - 6), fill=_faded(AMBER, certainty))
        if weight > 0:
            draw.rectangle((LABEL, top + 6, border, top + ROW - 6), fill=_faded(BLUE, certainty))
        draw.line((LABEL + full / 2, top + 6, LABEL + full / 2, top + ROW - 6), fill=GRID)
        draw.text((LABEL + full + 12, middle), f"{severity:.0%}", fill=ink, font=font(19), anchor="lm")
        draw.text((PLOT_WIDTH - 16, middle), f"{certainty:.0%}", fill=ink, font=font(15), anchor="rm")
    return as_image(sheet)


def _faded(color: tuple[int, int, int], certainty: float) -> tuple[int, int, int]:
    """`color` at a certainty of 1, the grid's grey at 0."""
    red, green, blue = (
        round(faint + certainty * (bright - faint)) for faint, bright in zip(GRID, color, strict=True)
    )
    return red, green, blue
