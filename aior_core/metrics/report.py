"""Measurements as a person reads them: a table and a picture of where the error is."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass

import torch

from .perceptual import NAME as PERCEPTUAL_NAME
from .perceptual import perceptual
from .psnr import psnr
from .ssim import ssim

NOT_MEASURED = -1.0


@dataclass(frozen=True)
class Scores:
    """One value per picture, and what they were measured on. `perceptual` is None if it was not asked for."""

    psnr: tuple[float, ...]
    ssim: tuple[float, ...]
    perceptual: tuple[float, ...] | None
    border: int
    channel: str

    def mean(self, name: str) -> float:
        """Mean over the pictures of "psnr", "ssim" or "perceptual"; -1 for one that was not measured."""
        values = getattr(self, name)
        return NOT_MEASURED if values is None else sum(values) / len(values)


def measure(
    picture: torch.Tensor,
    reference: torch.Tensor,
    *,
    border: int = 0,
    channel: str = "rgb",
    learned: bool = False,
) -> Scores:
    """All scores of `B 3 H W`, -1..1 pictures against references (as many, or one for all).

    learned: also the perceptual distance, which needs an optional package. Raises what the metrics raise.
    """
    return Scores(
        psnr=tuple(psnr(picture, reference, border=border, channel=channel).tolist()),
        ssim=tuple(ssim(picture, reference, border=border, channel=channel).tolist()),
        perceptual=tuple(perceptual(picture, reference, border=border).tolist()) if learned else None,
        border=border,
        channel=channel,
    )


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table with the first column to the left and the others to the right, padded so that it reads as plain text too."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]

    def line(cells: list[str]) -> str:
        padded = [
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return "| " + " | ".join(padded) + " |"

    rule = (
        "|"
        + "|".join(
            "-" * (width + 2) if column == 0 else "-" * (width + 1) + ":"
            for column, width in enumerate(widths)
        )
        + "|"
    )
    return "\n".join([line(header), rule, *(line(row) for row in rows)])


def table(scores: Scores) -> str:
    """The scores as a Markdown table: a row per picture, their mean below if there are several, and the protocol."""
    columns = _columns(scores)
    rows = [
        [name, *(f"{value:.{digits}f}" for value, (_, digits) in zip(values, columns.values()))]
        for name, *values in _rows(columns)
    ]
    measured_on = "Y of YCbCr (MATLAB)" if scores.channel == "y" else "RGB"
    return (
        markdown(["picture", *columns], rows)
        + f"\n\nMeasured on {measured_on}, {scores.border} pixels cut off at each side."
    )


def csv_table(scores: Scores) -> str:
    """The same rows as CSV, each with the protocol in columns of its own; numbers in full, as they are meant for programs."""
    columns = _columns(scores)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["picture", *columns, "channel", "border"])
    writer.writerows([*row, scores.channel, scores.border] for row in _rows(columns))
    return text.getvalue()


def _columns(scores: Scores) -> dict[str, tuple[tuple[float, ...], int]]:
    """Header to values and the digits that a person reads."""
    columns = {"PSNR dB": (scores.psnr, 2), "SSIM": (scores.ssim, 4)}
    if scores.perceptual is not None:
        columns[PERCEPTUAL_NAME] = (scores.perceptual, 4)
    return columns


def _rows(columns: dict[str, tuple[tuple[float, ...], int]]) -> list[list]:
    """A row per picture, and their mean if there are several: its number or "mean", then the values."""
    values = [column for column, _ in columns.values()]
    rows = [[str(number), *row] for number, row in enumerate(zip(*values, strict=True), start=1)]
    return rows if len(rows) == 1 else [*rows, ["mean", *(sum(column) / len(column) for column in values)]]


def error_map(picture: torch.Tensor, reference: torch.Tensor, *, gain: float = 8.0) -> torch.Tensor:
    """Where and how much two `B 3 H W`, -1..1 pictures differ, as a `B 3 H W`, -1..1 heat map.

    Mean absolute difference of the channels on the 0..1 scale, times `gain`: black 0, red 1/3, yellow 2/3, white 1 and above.
    Raises ValueError if the sizes differ.
    """
    if picture.shape[1:] != reference.shape[1:] or reference.shape[0] not in (1, picture.shape[0]):
        raise ValueError(
            f"error_map: expected two pictures of one size, got {tuple(picture.shape)} and {tuple(reference.shape)}."
        )
    heat = (picture - reference.to(picture)).abs().mean(1, keepdim=True) / 2.0 * gain
    return torch.cat([(heat * 3.0 - band).clamp(0.0, 1.0) for band in range(3)], dim=1) * 2.0 - 1.0
