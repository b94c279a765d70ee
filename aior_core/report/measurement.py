"""Measured scores for people: a table, a CSV file's text, and a picture of where the errors are."""

from __future__ import annotations

import csv
import io
from typing import NamedTuple

import torch
from torch import Tensor

from ..metrics.perceptual import NAME as PERCEPTUAL_NAME
from ..metrics.scores import Scores


class _Column(NamedTuple):
    """One score of all pictures, and the number of decimal places that people read."""

    header: str
    values: tuple[float, ...]
    digits: int


def score_table(scores: Scores) -> str:
    """The scores as a Markdown table with the protocol below it.

    The table has a row per picture and, if there are several, a last row with their mean.
    """
    columns = _columns(scores)
    rows = [
        [name, *(f"{value:.{column.digits}f}" for value, column in zip(values, columns))]
        for name, *values in _rows(columns)
    ]
    measured_on = "Y of YCbCr (MATLAB)" if scores.channel == "y" else "RGB"
    return (
        markdown_table(["picture", *(column.header for column in columns)], rows)
        + f"\n\nMeasured on {measured_on}, {scores.border} pixels cut off at each side."
    )


def score_csv(scores: Scores) -> str:
    """The rows of `score_table` as CSV, for programs.

    Numbers have full precision, and the protocol stands in two more columns.
    """
    columns = _columns(scores)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["picture", *(column.header for column in columns), "channel", "border"])
    writer.writerows([*row, scores.channel, scores.border] for row in _rows(columns))
    return text.getvalue()


def _columns(scores: Scores) -> list[_Column]:
    columns = [_Column("PSNR dB", scores.psnr, 2), _Column("SSIM", scores.ssim, 4)]
    if scores.perceptual is not None:
        columns.append(_Column(PERCEPTUAL_NAME, scores.perceptual, 4))
    return columns


def _rows(columns: list[_Column]) -> list[list]:
    """A row per picture: its number and its scores. Several pictures have a last row with their means."""
    values = [column.values for column in columns]
    rows: list[list] = [[str(number), *row] for number, row in enumerate(zip(*values, strict=True), start=1)]
    return rows if len(rows) == 1 else [*rows, ["mean", *(sum(column) / len(column) for column in values)]]


def markdown_table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table: the first column is aligned left, the others right.

    The cells are padded to equal width, so that the table reads well as plain text too. Every row has as many
    cells as the header.
    """
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]

    def line(cells: list[str]) -> str:
        padded = [
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return "| " + " | ".join(padded) + " |"

    rules = [
        "-" * (width + 2) if column == 0 else "-" * (width + 1) + ":" for column, width in enumerate(widths)
    ]
    return "\n".join([line(header), "|" + "|".join(rules) + "|", *(line(row) for row in rows)])


def error_map(picture: Tensor, reference: Tensor, *, gain: float = 8.0) -> Tensor:
    """A heat map of where and how much pictures differ from their references, `B 3 H W`, -1..1.

    The mean absolute difference of the channels on the 0..1 scale, times `gain`, becomes a colour: 0 is
    black, 1/3 red, 2/3 yellow, 1 and above white.

    Args:
        picture: `B 3 H W`, -1..1.
        reference: `B 3 H W` or `1 3 H W`, -1..1.
        gain: factor by which the map exaggerates the errors.

    Raises:
        ValueError: the shapes do not match.
    """
    if picture.shape[1:] != reference.shape[1:] or reference.shape[0] not in (1, picture.shape[0]):
        raise ValueError(
            f"error_map: expected two pictures of one size, got {tuple(picture.shape)} and "
            f"{tuple(reference.shape)}."
        )
    heat = (picture - reference.to(picture)).abs().mean(1, keepdim=True) / 2.0 * gain
    return torch.cat([(heat * 3.0 - band).clamp(0.0, 1.0) for band in range(3)], dim=1) * 2.0 - 1.0
