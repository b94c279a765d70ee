"""Tables as text."""

from __future__ import annotations


def markdown(header: list[str], rows: list[list[str]]) -> str:
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
