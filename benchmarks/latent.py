"""How close sampled latents come to the clean picture's latent, and what the decoder makes of other latents.

    python benchmarks/latent.py --limit 5 --json benchmarks/results/latent.json
    python benchmarks/latent.py --pictures cbsd68 --limit 5

Table 1 has the latent's error over the variance of the clean latents: for the damaged picture's own latent (0
steps), for that of the regression result (the picture that DAEM makes of the damaged latent, encoded), and
for the latents sampled in 1 and 4 steps. Below 1 a latent knows something of the picture. A sampled latent
with a larger error than the damaged one makes the picture worse. Table 2 has the PSNR in dB of the same
damaged pictures decoded from the damaged, the sampled, the clean, a zero and the clean picture's mirrored
latent. A decoder that uses its latent gains with the clean one and loses with the mirrored one. Choose
settings on the validation pictures (val, half), because CBSD68 is a test set.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from _cases import Case, damage, held_out, middle, read, spaced
from _command import add_device, command_line, run
from _host import ROOT, Walk, bundled, image, room
from _results import weights_of, write_results
from _sheet import counted
from _tables import latent_decoded, latent_errors

DAMAGES = {
    "noise 50": (("noise", 0.83, {"sigma": 50.0}),),
    "noise 75": (("noise", 1.0, {"sigma": 75.0}),),
    "low_resolution x4": (("low_resolution", 1.0, {"scale": 4, "kernel": "bicubic"}),),
    "jpeg q5": (("jpeg", 1.0, {"quality": 5}),),
    "blur 3": (("blur", 1.0, {"sigma": 3.0}),),
    "rain": (("rain", 0.6, {}),),
    "low_light": (("low_light", 0.6, {}),),
    "clean": (),
}
"""Damages by label, as in `_cases.VALIDATION`."""
STEPS = (1, 4)
SOURCES = (
    "damaged",
    "regression",
    *(f"{count} steps" if count > 1 else "1 step" for count in STEPS),
    "clean",
    "zero",
    "mirrored",
)
MEASURED = SOURCES[:4]
"""Sources whose error is measured. The others come from the ground truth, or are zero."""


@dataclass(frozen=True)
class Row:
    """A damaged picture with one set of weights.

    errors: sums of squared errors of the latents in `MEASURED`. spread: sum of the clean latent's squared
    deviations from the means of its channels. psnr: in dB, decoded from each of `SOURCES`, and of the damaged
    picture ("input").
    """

    damage: str
    picture: str
    weights: str
    errors: dict[str, float]
    spread: float
    psnr: dict[str, float]


def latents(walk: Walk, prior, clean: torch.Tensor) -> dict[str, torch.Tensor]:
    """The latents of `SOURCES`, `1 C h w`, for a prior of the damaged picture and the `clean` IMAGE."""
    made = walk.decode({"samples": prior.latent}, prior)
    # Encoded as the damaged picture was, with the same padding.
    truth = walk.encode(clean).latent
    sampled = {
        source: walk.sample(prior, count)["samples"]
        for source, count in zip(SOURCES[2:4], STEPS, strict=True)
    }
    return {
        "damaged": prior.latent, "regression": walk.encode(made).latent, **sampled,
        "clean": truth, "zero": torch.zeros_like(truth), "mirrored": truth.flip(3),
    }  # fmt: skip


def measured(walk: Walk, weights: str, case: Case) -> Row:
    psnr, to_unit, as_8bit = (
        room("aior_core.metrics").psnr,
        room("aior_core.picture").to_unit,
        room("aior_core.metrics").as_8bit,
    )
    prior = walk.encode(image(case.lq))
    held = latents(walk, prior, image(case.gt))
    truth = held["clean"]
    results = {
        source: as_8bit(to_unit(walk.decode({"samples": latent}, prior))) for source, latent in held.items()
    }
    return Row(
        case.degradation, case.picture, weights,
        {source: (held[source] - truth).square().sum().item() for source in MEASURED},
        (truth - truth.mean(dim=(0, 2, 3), keepdim=True)).square().sum().item(),
        {"input": psnr(case.lq, case.gt).item()}
        | {source: psnr(result, case.gt).item() for source, result in results.items()},
    )  # fmt: skip


def cases(options: argparse.Namespace) -> Iterator[Case]:
    """The pictures with the damages of `DAMAGES`, rounded to 8 bits. Their sides are multiples of 8."""
    as_8bit = room("aior_core.metrics").as_8bit
    if options.pictures == "cbsd68":
        files, opened = sorted((options.data / "test" / "CBSD68").glob("*.png")), read
        if not files:
            raise FileNotFoundError(
                f"{options.data / 'test' / 'CBSD68'} holds no pictures; point --data at the folder that does"
            )
    else:
        files = held_out(options.data)

        def opened(file: Path) -> torch.Tensor:
            return middle(file, halved=options.pictures == "half")

    for label, steps in DAMAGES.items():
        if options.only and label not in options.only.split(","):
            continue
        for index, file in spaced(list(enumerate(files)), options.limit):
            clean = opened(file)
            clean = clean[..., : clean.shape[-2] // 8 * 8, : clean.shape[-1] // 8 * 8]
            yield Case(
                options.pictures, label, file.stem, as_8bit(damage(clean, steps, 1000 * index + 17)), clean
            )


def summaries(rows: list[Row]) -> list[dict]:
    """Per damage and weights: `errors` over the variance of all clean latents, and the mean `psnr`."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.damage, row.weights), []).append(row)
    found = []
    for (label, weights), chosen in groups.items():
        spread = sum(row.spread for row in chosen)
        errors = {source: sum(row.errors[source] for row in chosen) / spread for source in MEASURED}
        psnr = {source: sum(row.psnr[source] for row in chosen) / len(chosen) for source in chosen[0].psnr}
        found.append(
            {"damage": label, "weights": weights, "pictures": len(chosen), "errors": errors, "psnr": psnr}
        )
    return found


def tables(rows: list[Row]) -> str:
    """Both tables in Markdown."""
    results = {"damages": summaries(rows)}
    return f"{latent_errors(results)}\n\n{latent_decoded(results)}"


def autoencoder(walk: Walk, files: list[torch.Tensor]) -> float:
    """PSNR in dB of clean pictures through the autoencoder alone: the limit of what a latent can give."""
    psnr, to_unit, as_8bit = (
        room("aior_core.metrics").psnr,
        room("aior_core.picture").to_unit,
        room("aior_core.metrics").as_8bit,
    )
    found = []
    for clean in files:
        prior = walk.encode(image(clean))
        plain = walk.daem_decode.decode_daem(
            {"samples": prior.latent}, walk.vae, walk.restorer, prior, strength=0.0
        )
        found.append(psnr(as_8bit(to_unit(plain)), clean).item())
    return sum(found) / len(found)


def main(argv: list[str] | None = None) -> int:
    parser = command_line(__doc__)
    parser.add_argument(
        "--data",
        type=Path,
        default=ROOT.parent / "shared" / "data",
        help="folder with MANIFEST.csv, the val pictures it names, and test/CBSD68",
    )
    parser.add_argument(
        "--pictures",
        choices=("val", "half", "cbsd68"),
        default="val",
        help="middle 256x256 of val, the same at half size, or CBSD68 whole",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="at most N pictures per damage, evenly spaced")
    parser.add_argument("--only", help=f"only these damages, separated by commas, of: {', '.join(DAMAGES)}")
    parser.add_argument(
        "--weights",
        action="append",
        default=[],
        metavar="[NAME=]FILE",
        help="compact weights; may be repeated (default: the bundled ones)",
    )
    add_device(parser)
    options = parser.parse_args(argv)
    if options.only and (unknown := set(options.only.split(",")) - set(DAMAGES)):
        parser.error(f"--only: unknown {', '.join(sorted(unknown))}; expected some of {', '.join(DAMAGES)}")
    torch.set_grad_enabled(False)
    sys.stdout.reconfigure(line_buffering=True)
    weights = {
        name or Path(file).stem: file
        for name, file in (text.rpartition("=")[::2] for text in options.weights)
    } or {"bundled": str(bundled())}
    walks = {name: Walk(file, options.device) for name, file in weights.items()}
    rows, clean = [], {}
    for case in counted("latent", cases(options)):
        clean[case.picture] = case.gt
        rows += [measured(walk, name, case) for name, walk in walks.items()]
    alone = {name: autoencoder(walk, list(clean.values())) for name, walk in walks.items()}
    print(
        f"{tables(rows)}\n\nThe autoencoder alone, clean pictures: "
        + ", ".join(f"{name} {value:.2f} dB" for name, value in alone.items())
    )
    if options.json:
        write_results(options.json, {
            "benchmark": "latent", "set": options.pictures, "limit": options.limit,
            "weights": [weights_of(*each) for each in weights.items()],
            "autoencoder_psnr": alone, "damages": summaries(rows), "pictures": [asdict(row) for row in rows],
        })  # fmt: skip
    return 0


if __name__ == "__main__":
    run(main)
