"""A bar chart of the gain in dB of each method over the damaged picture, grouped by damage."""

from __future__ import annotations

from pathlib import Path

from _host import room


def draw_gains(gains: dict[str, dict[str, float]], path: Path, title: str) -> None:
    """Draw `gains[damage][method]` in dB to `path`, in the format of its suffix.

    Raises RuntimeError when matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise RuntimeError("--plot needs the package matplotlib: pip install matplotlib") from error
    methods = list(dict.fromkeys(method for by_method in gains.values() for method in by_method))
    figure = Figure(figsize=(10, 0.6 + 0.16 * len(gains) * (len(methods) + 1)), layout="constrained")
    axes = figure.subplots()
    axes.set_prop_cycle(
        color=[[part / 255 for part in color] for color in room("aior_core.report.palette").CATEGORIES]
    )
    height = 1 / (len(methods) + 1)
    for index, method in enumerate(methods):
        rows = [
            (place, by_method[method])
            for place, by_method in enumerate(gains.values())
            if method in by_method
        ]
        axes.barh(
            [place + index * height for place, _ in rows], [value for _, value in rows], height, label=method
        )
    axes.set_yticks([place + height * (len(methods) - 1) / 2 for place in range(len(gains))], list(gains))
    axes.invert_yaxis()
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_xlabel("gain over the damaged picture, PSNR in dB")
    axes.set_title(title)
    axes.legend()
    axes.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=110)
