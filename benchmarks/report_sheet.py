"""A contact sheet of the Degradation Report for pictures with one damage and with two damages.

    python benchmarks/report_sheet.py                      runs/report_sheet.png, of the validation pictures
    python benchmarks/report_sheet.py --data tests/clean -o docs/report_sheet.jpg --rows 4 --width 1400

The second command uses the photographs in this repository. Each row has the damaged picture with the names of
its damages, the report's chart, and the heat maps of the two damages that the report lists first. Where a
damage covers a part of the picture only, the corner of the picture shows that part, in the colours of the
heat maps. The command also counts the damages that were found, and those that were found without being there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from _cases import CROP, PICTURES, held_out, middle
from _command import add_model, command_line, run
from _host import ROOT, Walk, image, room
from PIL import Image

GAP, CAPTION, CHART = 8, 26, 400
palette = room("aior_core.report.palette")
PAPER, TEXT = palette.PAPER, palette.PAPER_INK

# Damages of a picture: (kind, severity, kind of the mask or None for the whole picture).
SINGLY = (
    (("noise", 0.42, None),),
    (("noise", 0.8, "half"),),
    (("blur", 0.6, None),),
    (("blur", 0.8, "half"),),
    (("low_resolution", 1.0, None),),
    (("rain", 0.6, None),),
    (("snow", 0.6, None),),
    (("haze", 0.7, "field"),),
    (("low_light", 0.6, None),),
    (("jpeg", 0.9, None),),
)
DOUBLY = (
    (("rain", 0.5, None), ("noise", 0.42, None)),
    (("haze", 0.6, None), ("noise", 0.42, None)),
    (("low_light", 0.6, None), ("noise", 0.4, None)),
    (("blur", 0.5, None), ("jpeg", 0.8, None)),
    (("snow", 0.5, None), ("low_light", 0.5, None)),
    (("haze", 0.5, None), ("rain", 0.5, None)),
    (("noise", 0.7, "half"), ("jpeg", 0.8, None)),
    (("low_resolution", 1.0, None), ("jpeg", 0.7, None)),
    (("blur", 0.8, "half"), ("noise", 0.3, None)),
    (("snow", 0.6, None), ("blur", 0.4, None)),
)


@dataclass(frozen=True)
class Row:
    """A picture of the sheet and its report. `found` and `done` are sets of kinds."""

    cells: list[Image.Image]
    found: set[str]
    done: set[str]


def clean_pictures(data: Path) -> list[Path]:
    """The MANIFEST's `val` pictures, or all pictures of a folder without a MANIFEST.

    Raises FileNotFoundError when there is none.
    """
    listed = (data / "MANIFEST.csv").exists()
    files = (
        held_out(data)
        if listed
        else sorted(path for path in data.glob("*") if path.suffix.lower() in PICTURES)
    )
    if not files:
        raise FileNotFoundError(
            f"No pictures in {data}. Point --data at a folder of undamaged photographs, or one "
            f"with a MANIFEST.csv."
        )
    return files


def recipe_of(done: tuple, seed: int):
    """The recipe of (kind, severity, mask) steps."""
    degradations = room("aior_core.degradations")
    steps = []
    for index, (kind, severity, mask) in enumerate(done):
        step = degradations.preset_recipe(kind, severity, seed + index).steps[0]
        steps.append(
            degradations.Step(
                step.kind,
                step.severity,
                step.seed,
                step.params,
                mask and {"seed": seed + index, "kind": mask},
            )
        )
    return degradations.Recipe(tuple(steps))


def rows_of(walk: Walk, cases: tuple, files: list[Path], seed: int) -> Iterator[Row]:
    """A row per case, each with the next picture."""
    degradations, report, drawing = (
        room(f"aior_core.{name}") for name in ("degradations", "report.degradation_report", "report.drawing")
    )
    as_8bit = room("aior_core.metrics").as_8bit
    for index, done in enumerate(cases):
        recipe = recipe_of(done, seed + 10 * index)
        damaged = image(as_8bit(degradations.apply_recipe(middle(files[index % len(files)]), recipe)))
        prior = walk.encode(damaged)
        sheet = drawing.as_sheet(damaged[0])
        truth = degradations.recipe_labels(recipe, CROP, CROP)[1]
        corner = 0
        for kind, _, mask in done:
            if mask:
                heat = drawing.as_sheet(drawing.heat_colors(truth[degradations.KINDS.index(kind)])).resize(
                    (CROP // 4, CROP // 4)
                )
                sheet.paste(heat, (corner, CROP - CROP // 4))
                corner += CROP // 4
        certain = report.is_found(prior.severities[0], prior.probabilities[0])
        worst = (prior.severities[0] * prior.probabilities[0]).argsort(descending=True)[:2].tolist()
        maps = report.report_maps(prior)[0]
        chart = drawing.as_sheet(report.report_plot(prior)[0])
        chart = chart.resize((CHART, round(CHART * chart.height / chart.width)), Image.Resampling.LANCZOS)
        found = {kind for kind, there in zip(degradations.KINDS, certain.tolist()) if there}
        yield Row(
            [sheet, chart, *(drawing.as_sheet(maps[k]) for k in worst)], found, {kind for kind, _, _ in done}
        )


def caption(done: tuple, row: Row) -> str:
    """The caption: the damages done, and those that the report found."""
    label = room("aior_core.report.degradation_report").label
    said = "done: " + ", ".join(
        f"{label(kind)} {severity:.0%}{' of a part' if mask else ''}" for kind, severity, mask in done
    )
    for word, kinds in (("missed", row.done - row.found), ("not done", row.found - row.done)):
        if kinds:
            said += f"; {word}: {', '.join(map(label, sorted(kinds)))}"
    return said


def column(rows: list[Row], cases: tuple, title: str) -> Image.Image:
    """The rows below each other, each below its caption."""
    drawing = room("aior_core.report.drawing")
    width = sum(cell.width for cell in rows[0].cells) + GAP * (len(rows[0].cells) - 1)
    tall = CAPTION + CROP + GAP
    made = Image.new("RGB", (width, 40 + tall * len(rows)), PAPER)
    draw = drawing.pen(made)
    draw.text((0, 20), title, fill=TEXT, font=drawing.font(24), anchor="lm")
    for number, (row, done) in enumerate(zip(rows, cases)):
        top, left = 40 + number * tall, 0
        draw.text((0, top + CAPTION / 2), caption(done, row), fill=TEXT, font=drawing.font(17), anchor="lm")
        for cell in row.cells:
            made.paste(cell, (left, top + CAPTION + (CROP - cell.height) // 2))
            left += cell.width + GAP
    return made


def sheet_of(columns: list[Image.Image], width: int | None) -> Image.Image:
    """The columns side by side, at most `width` pixels wide."""
    margin = 2 * GAP
    made = Image.new(
        "RGB",
        (margin + sum(c.width + 2 * margin for c in columns) - margin, 2 * margin + columns[0].height),
        PAPER,
    )
    left = margin
    for each in columns:
        made.paste(each, (left, margin))
        left += each.width + 2 * margin
    if width and width < made.width:
        made = made.resize((width, round(width * made.height / made.width)), Image.Resampling.LANCZOS)
    return made


def main(argv: list[str] | None = None) -> int:
    parser = command_line(__doc__, json=False)
    parser.add_argument(
        "--data",
        type=Path,
        default=ROOT.parent / "shared" / "data",
        help="folder with MANIFEST.csv, or of undamaged photographs",
    )
    add_model(parser)
    parser.add_argument(
        "--rows",
        type=int,
        default=10,
        metavar="N",
        help="the first N of the ten pictures of either column (default: 10)",
    )
    parser.add_argument("--seed", type=int, default=17, help="of the damages (default: 17)")
    parser.add_argument("--width", type=int, metavar="PIXELS", help="make the sheet at most so wide")
    parser.add_argument(
        "-o",
        "--out",
        type=Path,
        default=ROOT / "runs" / "report_sheet.png",
        help="file of the sheet (default: runs/report_sheet.png)",
    )
    options = parser.parse_args(argv)
    torch.set_grad_enabled(False)
    walk = Walk(options.weights, options.device)
    files = clean_pictures(options.data)
    columns, done, found, extra = [], 0, 0, 0
    for title, cases, offset in (("One damage", SINGLY, 0), ("Two damages", DOUBLY, len(SINGLY))):
        cases = cases[: options.rows]
        rows = list(
            rows_of(
                walk,
                cases,
                files[offset % len(files) :] + files[: offset % len(files)],
                options.seed + offset,
            )
        )
        columns.append(column(rows, cases, title))
        done += sum(len(row.done) for row in rows)
        found += sum(len(row.done & row.found) for row in rows)
        extra += sum(len(row.found - row.done) for row in rows)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    sheet_of(columns, options.width).save(
        options.out, **({"quality": 85} if options.out.suffix.lower() in (".jpg", ".jpeg") else {})
    )
    print(f"{options.out}: {done} damages done, {found} of them found, {extra} found that were not done")
    return 0


if __name__ == "__main__":
    run(main)
