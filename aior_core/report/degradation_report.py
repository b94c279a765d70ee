"""The prior in words and pictures, for people."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..degradations import KINDS, of
from ..models.calibration import DEFAULT, Calibration
from ..picture import crop_back
from ..pipeline.prior import Prior, require_estimate
from ..pipeline.validate import require_kind
from .drawing import AMBER, BLUE, DIM, FAINT, INK, PANEL, as_image, canvas, fitting, font, labelled, over

FEW = 3
NO_ESTIMATE = "No estimate: this restorer has no degradation head."
PLOT_WIDTH, HEAD, ROW, LABEL, SURE = 640, 84, 34, 160, 150
_ROWS, _COLUMNS = ("top", "", "bottom"), ("left", "", "right")


def report_text(prior: Prior) -> str:
    """One paragraph per picture: what is wrong, worst first, with severity, certainty and, where one stands out, place; and what is to be left in."""
    require_kind("prior", prior, Prior, "Encode Degradation Prior")
    if not prior.estimated:
        return NO_ESTIMATE
    paragraphs = []
    for index in range(len(prior.severities)):
        severities, probabilities = prior.severities[index].tolist(), prior.probabilities[index].tolist()
        lines = [_headline(prior, index)]
        if left := _left_in(prior, index):
            lines.append(f"  To be left in: {left}.")
        found = is_found(prior.severities[index], prior.probabilities[index], prior.calibration).tolist()
        for k in _worst_first(severities, probabilities):
            # One at a time, and only of what is there: Encode Degradation Prior says this of every picture, the largest too.
            place = (
                whereabouts(
                    _masks(prior, prior.maps[index : index + 1, k : k + 1])[0, 0],
                    prior.calibration.map_variation,
                )
                if found[k]
                else ""
            )
            lines.append(
                f"  {label(prior.kinds[k]):<15} severity {severities[k]:4.0%}   certainty {probabilities[k]:4.0%}   {place}".rstrip()
            )
        paragraphs.append("\n".join(lines))
    return "\n\n".join(paragraphs)


def short_report(prior: Prior) -> str:
    """A line per picture, the first of its paragraph in `report_text`; of more than `FEW` one line in all, which counts those with each damage."""
    if not prior.estimated:
        return NO_ESTIMATE
    pictures = len(prior.severities)
    if pictures <= FEW:
        return "\n".join(_headline(prior, index) for index in range(pictures))
    counts = is_found(prior.severities, prior.probabilities, prior.calibration).sum(dim=0).tolist()
    found = ", ".join(
        f"{label(prior.kinds[k])} in {counts[k]}"
        for k in sorted(range(len(counts)), key=lambda k: -counts[k])
        if counts[k]
    )
    return f"{pictures} pictures ({_size(prior)}): {f'found {found}' if found else 'nothing found'}."


def report_plot(prior: Prior) -> Tensor:
    """A bar chart per picture -> IMAGE `B H W 3`, 0..1: what was found, severity as the bar, certainty as its brightness, in amber what stays.

    Raises ValueError without an estimate.
    """
    require_estimate(prior)
    return torch.cat([_chart(prior, index) for index in range(len(prior.severities))])


def report_maps(prior: Prior) -> tuple[Tensor, Tensor]:
    """Where it is: heat maps over the picture, labelled, IMAGE `B*K H W 3`, and MASK `B*K H W`, 0..1, in the size that came in.

    All kinds of the first picture come first. Very small pictures have no room for a label. Raises ValueError without an estimate.
    """
    require_estimate(prior)
    masks = _masks(prior, prior.maps)
    maps = torch.empty(*masks.shape, 3)
    for index, picture in enumerate(prior.unpadded.clamp(0, 1)):
        for k, kind in enumerate(prior.kinds):
            severity = float(prior.severities[index, k])
            found = is_found(severity, float(prior.probabilities[index, k]), prior.calibration)
            value = f"{severity:.0%}" if found else "not found"
            maps[index, k] = labelled(over(picture, masks[index, k]).cpu(), label(kind), value, dim=not found)
    return maps.flatten(0, 1), masks.flatten(0, 1).float().cpu().contiguous()


def is_found(
    severity: float | Tensor, probability: float | Tensor, calibration: Calibration = DEFAULT
) -> bool | Tensor:
    """Whether a degradation of this severity and probability counts as found; of numbers, or element by element of tensors."""
    return (probability >= calibration.found_probability) & (severity >= calibration.found_severity)


def whereabouts(mask: Tensor, variation: float = Calibration.map_variation) -> str:
    """Where a mask `H W` is strongest, by ninths of the picture: "mostly top left", "mostly in the middle"; empty for one that is about even.

    variation: `Calibration.map_variation`. An even map is no word for "everywhere": with weights that have no network for places it is even where half the picture is damaged.
    """
    ninths = F.adaptive_avg_pool2d(mask[None].float(), 3)[0]
    if float(ninths.min()) >= (1 - variation) * float(ninths.max()):
        return ""
    row, column = divmod(int(ninths.argmax()), 3)
    return "mostly " + (" ".join(filter(None, (_ROWS[row], _COLUMNS[column]))) or "in the middle")


def _masks(prior: Prior, maps: Tensor) -> Tensor:
    """`maps` `B K h w` of the prior, or some of them, in the picture's size without the padding, `B K H W`, 0..1."""
    masks = F.interpolate(maps, size=prior.image.shape[1:3], mode="bilinear", align_corners=False)
    return crop_back(masks, prior.geometry).clamp(0.0, 1.0)


def label(kind: str) -> str:
    """How people write a kind. Of one that only the weights know, its name without underscores."""
    return of(kind).label if kind in KINDS else kind.replace("_", " ")


def _worst_first(severities: list[float], probabilities: list[float]) -> list[int]:
    return sorted(range(len(severities)), key=lambda k: -severities[k] * probabilities[k])


def _headline(prior: Prior, index: int) -> str:
    return f"Picture {index + 1} ({_size(prior)}): {_found(prior, index)} found."


def _size(prior: Prior) -> str:
    return f"{prior.geometry.width}x{prior.geometry.height}"


def _found(prior: Prior, index: int) -> str:
    """The kinds that are there, worst first: "rain, noise", or "nothing"."""
    severities, probabilities = prior.severities[index].tolist(), prior.probabilities[index].tolist()
    return (
        ", ".join(
            label(prior.kinds[k])
            for k in _worst_first(severities, probabilities)
            if is_found(severities[k], probabilities[k], prior.calibration)
        )
        or "nothing"
    )


def _left_in(prior: Prior, index: int) -> str:
    """The kinds that are not removed in full, in words: "noise, blur (60%)"; empty if there are none."""
    return ", ".join(
        label(kind) + (f" ({1 - weight:.0%})" if weight else "")
        for kind, weight in zip(prior.kinds, prior.steered[index].tolist())
        if weight < 1
    )


def _chart(prior: Prior, index: int) -> Tensor:
    severities, probabilities = prior.severities[index].tolist(), prior.probabilities[index].tolist()
    weights = prior.steered[index].tolist()
    sheet, draw = canvas(PLOT_WIDTH, HEAD + ROW * len(severities) + 12)
    title = f"Found: {_found(prior, index)}"
    draw.text((16, 26), title, fill=INK, font=fitting(title, PLOT_WIDTH - 32, 26) or font(11), anchor="lm")
    full = PLOT_WIDTH - LABEL - SURE
    for share in (0, 0.5, 1):
        draw.text((LABEL + full * share, HEAD - 16), f"{share:.0%}", fill=DIM, font=font(14), anchor="mm")
    draw.text(
        (16, HEAD - 16),
        "severity" if min(weights) == 1 else "amber: left in",
        fill=DIM,
        font=font(14),
        anchor="lm",
    )
    draw.text((PLOT_WIDTH - 16, HEAD - 16), "certainty", fill=DIM, font=font(14), anchor="rm")
    for row, (kind, severity, certainty, weight) in enumerate(
        zip(prior.kinds, severities, probabilities, weights)
    ):
        top, middle = HEAD + row * ROW, HEAD + row * ROW + ROW // 2
        ink = INK if is_found(severity, certainty, prior.calibration) else DIM
        removed, left = (
            tuple(round(dark + certainty * (bright - dark)) for dark, bright in zip(FAINT, color))
            for color in (BLUE, AMBER)
        )
        end, border = LABEL + round(full * severity), LABEL + round(full * severity * weight)
        draw.text((16, middle), label(kind), fill=ink, font=font(19), anchor="lm")
        draw.rectangle((LABEL, top + 6, LABEL + full, top + ROW - 6), fill=PANEL)
        if weight < 1:
            draw.rectangle((LABEL, top + 6, end, top + ROW - 6), fill=left)
        if weight > 0:
            draw.rectangle((LABEL, top + 6, border, top + ROW - 6), fill=removed)
        draw.line((LABEL + full / 2, top + 6, LABEL + full / 2, top + ROW - 6), fill=FAINT)
        draw.text((LABEL + full + 12, middle), f"{severity:.0%}", fill=ink, font=font(19), anchor="lm")
        draw.text((PLOT_WIDTH - 16, middle), f"{certainty:.0%}", fill=ink, font=font(15), anchor="rm")
    return as_image(sheet)
