"""The tables of the benchmarks in Markdown, made from their results as `_results.py` stores them."""

from __future__ import annotations

import re
from collections.abc import Sequence

CLEAN = "clean"
"""The names of sets of undamaged pictures begin with this."""
INPUT = "input"
"""The name of the method that leaves the damaged picture as it is."""
PERFECT = 99.0
"""PSNR in dB from which an input counts as undamaged, so that it has no gain."""
NOTHING = "-"
SET_NAMES = {"val": "validation", "val/2": "validation, half size"}
DAMAGE_NAMES = (
    (r"^clean$", "none (clean picture)"),
    (r"^noise (\d+)", r"noise, sigma \1"),
    (r" float$", ", not clipped"),
    (r"jpeg q(\d+)", r"JPEG, quality \1"),
    (r"jpeg", "JPEG"),
    (r"_", " "),
)
"""How the documents write the names of damages: patterns and what replaces them, one after the other."""


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, padded to read well as plain text. Only the first column is aligned to the left."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        first, *others = zip(cells, widths, strict=True)
        padded = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
        return "| " + " | ".join(padded) + " |"

    rule = "|".join(["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])])
    return "\n".join([line(header), f"|{rule}|", *map(line, rows)])


def stored(results: dict, name: str = "table") -> str:
    """A table whose cells are stored as text, see `_results.as_table`; empty if it was not measured."""
    return markdown(results[name]["header"], results[name]["rows"]) if name in results else ""


def steps_name(method: str) -> str:
    """The heading of a method: its number of steps, or the name of a classical method."""
    return "1 step" if method == "1" else f"{method} steps" if method.isdigit() else method


def _means(results: dict, sets: Sequence[str] | None) -> dict[tuple[str, str], dict[str, dict]]:
    """The means of quality.py by set and degradation, and in these by method."""
    found: dict[tuple[str, str], dict[str, dict]] = {}
    for mean in results["means"]:
        if sets is None or mean["set"] in sets:
            found.setdefault((mean["set"], mean["degradation"]), {})[mean["method"]] = mean
    return found


def damage_name(label: str) -> str:
    """The name of a damage in the documents."""
    for pattern, text in DAMAGE_NAMES:
        label = re.sub(pattern, text, label)
    return label


def _gain(methods: dict[str, dict], method: str, digits: int = 2) -> str:
    if method not in methods or methods[INPUT]["psnr"] >= PERFECT:
        return ""
    return f"{methods[method]['psnr'] - methods[INPUT]['psnr']:+.{digits}f}"


def _scores(mean: dict | None) -> str:
    if mean is None:
        return NOTHING
    numbers = [f"{mean['psnr']:.2f}", f"{mean['ssim']:.4f}"]
    if mean["perceptual"] is not None:
        numbers.append(f"{mean['perceptual']:.4f}")
    return " / ".join(numbers)


def quality(results: dict, sets: Sequence[str] | None = None) -> str:
    """PSNR in dB and SSIM of the damaged pictures, of a classical method and of every number of steps.

    `sets` chooses sets; None takes all. The last column is the gain in dB at the last number of steps.
    """
    found = _means(results, sets)
    steps = [str(n) for n in results["steps"] if any(str(n) in methods for methods in found.values())]
    single = len({name for name, _ in found}) == 1
    classical = any(set(methods) - {INPUT, *steps} for methods in found.values())
    rows = []
    for (name, degradation), methods in found.items():
        other = next((method for method in methods if method not in (INPUT, *steps)), None)
        title = damage_name(degradation)
        cells = [title if single else f"{SET_NAMES.get(name, name)}: {title}"]
        cells += [str(methods[INPUT]["pictures"]), _scores(methods[INPUT])]
        if classical:
            cells.append(f"{_scores(methods[other])} ({other})" if other else NOTHING)
        cells += [_scores(methods.get(count)) for count in steps]
        rows.append([*cells, _gain(methods, steps[-1])])
    header = ["damage", "n", "damaged", *(["classical"] if classical else []), *map(steps_name, steps)]
    return markdown([*header, f"gain at {steps[-1]}"], rows) if rows else ""


def quality_short(results: dict, sets: Sequence[str] | None = None) -> str:
    """PSNR in dB before and after the restoration with the last number of steps."""
    method = str(results["steps"][-1])
    rows = [
        [
            damage_name(degradation),
            f"{methods[INPUT]['psnr']:.1f}",
            f"{methods[method]['psnr']:.1f}",
            _gain(methods, method, 1),
        ]
        for (_, degradation), methods in _means(results, sets).items()
    ]
    return markdown(["damage", "damaged, dB", "restored, dB", "gain, dB"], rows) if rows else ""


def real(results: dict) -> str:
    """Sets with real damage: PSNR in dB before and after, and in how many pictures the damage was found."""
    groups: dict[tuple[str, str], dict[int, dict]] = {}
    for entry in results["sets"]:
        if not entry["set"].startswith(CLEAN):
            groups.setdefault((entry["set"], entry["weights"]), {})[entry["steps"]] = entry
    steps = sorted({count for group in groups.values() for count in group})
    several = len({weights for _, weights in groups}) > 1
    rows = []
    for (name, weights), group in groups.items():
        first = next(iter(group.values()))
        found, pictures = first["main_found"], first["pictures"]
        rows.append(
            [
                f"{name} ({weights})" if several else name,
                damage_name(first["main"] or NOTHING),
                f"{first['before']:.2f}",
                *(f"{group[count]['after']:.2f}" if count in group else NOTHING for count in steps),
                NOTHING if found is None else f"{round(found * pictures)} of {pictures}",
            ]
        )
    header = ["set", "damage", "damaged", *(steps_name(str(count)) for count in steps), "found in"]
    return markdown(header, rows) if rows else ""


def real_details(results: dict) -> str:
    """Sets with real damage: PSNR in dB, gains, the share of worse results, and of damages found."""
    rows = [
        [
            *_named(entry),
            f"{entry['before']:.2f}",
            f"{entry['after']:.2f}",
            f"{entry['gain']:+.2f}",
            f"{entry['least_gain']:+.2f}",
            f"{entry['worse']:.0%}",
            f"{entry['worse_by_0.2']} / {entry['worse_by_2']}",
            NOTHING if entry["main_found"] is None else f"{entry['main_found']:.0%}",
        ]
        for entry in results["sets"]
        if not entry["set"].startswith(CLEAN)
    ]
    names = ["set", "weights", "steps", "n", "input", "result", "gain", "least gain", "worse"]
    return markdown([*names, "by 0.2 / 2 dB", "found"], rows) if rows else ""


def real_clean(results: dict) -> str:
    """Sets without damage: how often one is found, and by how many levels of 255 and dB pictures change."""
    rows = [
        [
            *_named(entry),
            f"{entry['something_found']:.0%}",
            f"{entry['change']:.2f}",
            f"{entry['largest_change']:.2f}",
            f"{entry['after']:.2f}",
            f"{entry['least_after']:.2f}",
        ]
        for entry in results["sets"]
        if entry["set"].startswith(CLEAN)
    ]
    names = ["set", "weights", "steps", "n", "something found", "change", "at most", "PSNR", "at least"]
    return markdown(names, rows) if rows else ""


def _named(entry: dict) -> list[str]:
    return [entry["set"], entry["weights"], str(entry["steps"]), str(entry["pictures"])]


def latent_errors(results: dict) -> str:
    """Errors of latents over the variance of clean ones, and of sampled ones over the damaged one's."""
    sources = list(results["damages"][0]["errors"])
    rows = []
    for entry in results["damages"]:
        errors = entry["errors"]
        ratios = [
            f"{errors[source] / errors['damaged']:.2f}" if errors["damaged"] > 1e-6 else NOTHING
            for source in sources[2:]
        ]
        cells = [f"{errors[source]:.3f}" for source in sources]
        rows.append([entry["damage"], entry["weights"], str(entry["pictures"]), *cells, *ratios])
    relative = [f"{source} : damaged" for source in sources[2:]]
    return markdown(["latent's error", "weights", "n", *sources, *relative], rows)


def latent_decoded(results: dict) -> str:
    """PSNR in dB of pictures decoded from each latent."""
    sources = [source for source in results["damages"][0]["psnr"] if source != "regression"]
    rows = [
        [entry["damage"], entry["weights"], str(entry["pictures"])]
        + [f"{entry['psnr'][source]:.2f}" for source in sources]
        for entry in results["damages"]
    ]
    return markdown(["decoded from, dB", "weights", "n", *sources], rows)


def speed(results: dict) -> str:
    """Seconds of each stage, and peak memory."""
    stages = ("load", "encode", "sample", "decode")
    rows = [
        [
            f"{row['size']}x{row['size']}",
            str(row["steps"]),
            *(f"{row[stage]:.2f}" for stage in stages),
            f"{sum(row[stage] for stage in stages[1:]):.2f}",
            f"{row['peak_mib']:.0f}",
        ]
        for row in results["rows"]
    ]
    return markdown(["picture", "steps", *stages, "total", "peak MiB"], rows)


def speed_of_daff(results: dict) -> str:
    """Seconds of a sampling step without and with DAFF."""
    rows = [
        [
            f"{row['size']}x{row['size']}",
            f"{row['plain_step']:.3f}",
            f"{row['daff_step']:.3f}",
            f"{row['daff_step'] / row['plain_step'] - 1:+.0%}",
        ]
        for row in results["rows"]
        if "daff_step" in row
    ]
    return markdown(["picture", "plain step", "DAFF step", "DAFF adds"], rows)


def memory(results: dict) -> str:
    """Seconds and peak memory of large pictures in tiles.

    "s/MP" compares CPU seconds per megapixel with their mean. "grows" compares the peak with that of 4
    megapixels.
    """
    measured = results["rows"]
    area = {row["megapixels"]: row["width"] * row["height"] / 1e6 for row in measured}
    rate = sum(row["cpu_seconds"] for row in measured) / sum(area.values())
    four = next((row["peak_mib"] for row in measured if row["megapixels"] == 4), None)
    rows = [
        [
            f"{row['width']}x{row['height']}",
            f"{area[row['megapixels']]:.1f}",
            f"{row['seconds']:.0f}",
            f"{row['cpu_seconds']:.0f}",
            f"{row['cpu_seconds'] / area[row['megapixels']] / rate - 1:+.0%}",
            f"{row['peak_mib']:.0f}",
            f"{row['peak_mib'] / four:.2f}" if four else NOTHING,
        ]
        for row in measured
    ]
    return markdown(["picture", "MP", "seconds", "CPU s", "s/MP", "peak MiB", "grows"], rows)


def damage_speed(results: dict) -> str:
    """Milliseconds that it takes to draw, apply and label every look of every damage on one crop."""
    looks = results.get("looks_ms", {})
    rows = [[look, *(f"{part:.1f}" for part in parts)] for look, parts in looks.items()]
    return markdown(["look", "draw, ms", "damage, ms", "labels, ms"], rows) if rows else ""
