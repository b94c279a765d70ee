"""Fidelity against perception: the effect of steps, CFG, start point, fidelity and DAEM's strength on the
same pictures.

    python benchmarks/fidelity.py --limit 4 --perceptual              the table
    python benchmarks/fidelity.py --limit 1 --pictures runs/fidelity  also PNGs with all results

The table has PSNR in dB, SSIM and, with --perceptual, ST-LPIPS (not LPIPS; lower is better; needs the package
stlpips-pytorch). They are means over the validation pictures under the damages in DAMAGES, with results
rounded to 8 bits. No test set is used, so settings may be chosen by this table.
"""

from __future__ import annotations

import csv
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import torch
from _cases import Case, validation
from _command import add_model, command_line, run
from _host import ROOT, Walk, image, room
from _results import as_table, weights_used, write_results
from _tables import stored
from PIL import Image

DAMAGES = ("noise 25", "rain", "haze", "low_light", "jpeg q10", "blur", "rain + noise", "low_light + noise")


@dataclass(frozen=True)
class Setting:
    """A way to restore: keywords of `sample_daff` and DAEM's strength.

    Without keywords (None) the latent is the damaged picture's own.
    """

    name: str
    sampling: dict | None = field(default_factory=dict)
    strength: float = 1.0


SETTINGS = (
    Setting("0 steps", None),
    Setting("1 step", {"steps": 1}),
    Setting("4 steps", {"steps": 4}),
    Setting("20 steps", {"steps": 20}),
    Setting("4 steps, fidelity 0.5", {"steps": 4, "fidelity": 0.5}),
    Setting("4 steps, fidelity 1", {"steps": 4, "fidelity": 1.0}),
    Setting("4 steps, CFG 2", {"steps": 4, "cfg": 2.0}),
    Setting("4 steps, CFG 4", {"steps": 4, "cfg": 4.0}),
    Setting("4 steps from the damaged latent, denoise 0.5", {"steps": 4, "start": "lq", "denoise": 0.5}),
    Setting("4 steps, DAEM 0", {"steps": 4}, 0.0),
    Setting("4 steps, DAEM 0.5", {"steps": 4}, 0.5),
    Setting("4 steps, DAEM 1.2", {"steps": 4}, 1.2),
)


def restore(walk: Walk, prior, setting: Setting) -> torch.Tensor:
    """Restore a prior with one setting and seed 0. Returns an IMAGE `B H W 3`."""
    latent = {"samples": prior.latent}
    if setting.sampling is not None:
        latent = walk.sampling.sample_daff(walk.model, walk.restorer, prior, seed=0, **setting.sampling)
    return walk.daem_decode.decode_daem(latent, walk.vae, walk.restorer, prior, strength=setting.strength)


def strip(pictures: list[torch.Tensor]) -> Image.Image:
    """`1 3 H W` pictures of one size, -1..1, side by side."""
    row = torch.cat(pictures, dim=3)[0].clamp(-1, 1)
    return Image.fromarray(((row.movedim(0, -1) + 1) * 127.5).round().byte().numpy())


def evaluate(walk: Walk, cases: list[Case], learned: bool, pictures: Path | None) -> list[list]:
    """Rows (damage, picture, setting, PSNR, SSIM, distance or None) of every case with every setting."""
    measure, to_unit, as_8bit = (
        room("aior_core.metrics").measure,
        room("aior_core.picture").to_unit,
        room("aior_core.metrics").as_8bit,
    )
    rows, drawn = [], set()
    for case in cases:
        prior = walk.encode(image(case.lq))
        results = [
            ("damaged", case.lq),
            *((s.name, as_8bit(to_unit(restore(walk, prior, s)))) for s in SETTINGS),
        ]
        for name, result in results:
            scores = measure(result, case.gt, learned=learned)
            rows.append(
                [
                    case.degradation,
                    case.picture,
                    name,
                    scores.psnr[0],
                    scores.ssim[0],
                    scores.perceptual[0] if learned else None,
                ]
            )
        if pictures is not None and case.degradation not in drawn:
            drawn.add(case.degradation)
            path = pictures / f"{case.degradation.replace(' ', '_')}.png"
            strip([case.gt, *(result for _, result in results)]).save(path)
            print(f"{path}: clean, {', '.join(name for name, _ in results)}")
    return rows


def summary(rows: list[list]) -> dict:
    """A table with a line per setting: means over all damages, then PSNR per damage."""
    damages = list(dict.fromkeys(row[0] for row in rows))

    def mean(setting: str, column: int, damage: str | None = None) -> float:
        chosen = [row[column] for row in rows if row[2] == setting and damage in (None, row[0])]
        return sum(chosen) / len(chosen)

    learned = rows[0][5] is not None
    lines = []
    for setting in dict.fromkeys(row[2] for row in rows):
        distance = [f"{mean(setting, 5):.4f}"] if learned else []
        lines.append(
            [
                setting,
                f"{mean(setting, 3):.2f}",
                f"{mean(setting, 4):.4f}",
                *distance,
                *(f"{mean(setting, 3, d):.2f}" for d in damages),
            ]
        )
    return as_table(["setting", "PSNR", "SSIM", *(["ST-LPIPS"] if learned else []), *damages], lines)


def main(argv: list[str] | None = None) -> int:
    parser = command_line(__doc__)
    parser.add_argument(
        "--data",
        type=Path,
        default=ROOT.parent / "shared" / "data",
        help="folder with MANIFEST.csv and the pictures it names",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="at most N pictures per damage, evenly spaced")
    add_model(parser)
    parser.add_argument("--perceptual", action="store_true", help="add ST-LPIPS")
    parser.add_argument(
        "--pictures",
        type=Path,
        metavar="DIR",
        help="write the first picture of each damage, all results side by side",
    )
    parser.add_argument(
        "--csv", type=Path, metavar="FILE", help="write every single measurement to this file"
    )
    options = parser.parse_args(argv)
    torch.set_grad_enabled(False)
    walk = Walk(options.weights, options.device)
    if options.pictures:
        options.pictures.mkdir(parents=True, exist_ok=True)
    cases = [case for case in validation(options.data, options.limit) if case.degradation in DAMAGES]
    rows = evaluate(walk, cases, options.perceptual, options.pictures)
    with open(options.csv, "w", newline="") if options.csv else nullcontext() as file:
        if file:
            writer = csv.writer(file)
            writer.writerows([["degradation", "picture", "setting", "psnr", "ssim", "perceptual"], *rows])
    results = {
        "benchmark": "fidelity",
        "limit": options.limit,
        "weights": weights_used(options.weights),
        "table": summary(rows),
    }
    print(stored(results))
    if options.json:
        write_results(options.json, results)
    return 0


if __name__ == "__main__":
    run(main)
