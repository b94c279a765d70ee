"""Flicker of restored video: a still scene with changing noise, whose frames are restored as one batch.

    python benchmarks/flicker.py
    python benchmarks/flicker.py --pictures /data/photographs --frames 24 --radius 1,4,8

Flicker is the variance of the difference of neighbouring frames, in levels of 255 squared. It is measured for
pixels, and for means of blocks of 32 pixels, which viewers see as pulsing. PSNR is the mean over the frames,
against the still scene. The rows are the input, sampling with different noise for each frame, sampling with
the same noise for all frames, and that with the estimate averaged over time.
"""

from __future__ import annotations

from pathlib import Path

import torch
from _cases import CROP, PICTURES, damage, read
from _command import add_model, command_line, run
from _host import ROOT, Walk, image, room, start_comfy
from _results import as_table, weights_used, write_results
from _tables import stored
from torch.nn import functional as F

BLOCK = 32


def flicker(frames: torch.Tensor) -> tuple[float, float]:
    """Variance of the differences of neighbouring frames `N H W 3`: of pixels, and of means of blocks."""
    pixels = 255 * frames.movedim(-1, 1)
    return pixels.diff(dim=0).var().item(), F.avg_pool2d(pixels, BLOCK).diff(dim=0).var().item()


def scene(path: Path, count: int, sigma: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The still scene `1 3 H W` and `count` noisy frames of it as IMAGE, from the middle of a picture."""
    whole = read(path)
    top, left = (whole.shape[-2] - CROP) // 2, (whole.shape[-1] - CROP) // 2
    clean = whole[..., top : top + CROP, left : left + CROP]
    frames = [damage(clean, (("noise", 0.5, {"sigma": sigma}),), 100 + frame) for frame in range(count)]
    return clean, image(torch.cat(frames))


def measure(
    walk: Walk, clean: torch.Tensor, frames: torch.Tensor, radii: list[int], steps: int
) -> dict[str, tuple[float, float, float]]:
    """Flicker of pixels and of blocks, and PSNR in dB, by method."""
    metrics, picture = room("aior_core.metrics"), room("aior_core.picture")

    def numbers(made: torch.Tensor) -> tuple[float, float, float]:
        return *flicker(made), metrics.psnr(
            picture.to_unit(made), clean.expand(len(made), -1, -1, -1)
        ).mean().item()

    rows = {"input": numbers(frames)}
    ways = [("noise per picture", 0, "per picture"), ("same noise", 0, "same for all")]
    ways += [(f"same noise, smooth {radius}", radius, "same for all") for radius in radii]
    for name, radius, noise in ways:
        prior = walk.prior_encode.encode_prior(walk.restorer, walk.vae, frames, smooth=radius)
        latent = walk.sampling.sample_daff(walk.model, walk.restorer, prior, steps=steps, noise=noise)
        rows[name] = numbers(walk.decode(latent, prior))
    return rows


def main() -> int:
    parser = command_line(__doc__)
    parser.add_argument(
        "--pictures",
        type=Path,
        default=ROOT / "tests" / "clean",
        help="folder of photographs (default: those of the tests)",
    )
    parser.add_argument("--limit", type=int, default=3, help="photographs (default: 3)")
    parser.add_argument("--frames", type=int, default=12, help="frames of each (default: 12)")
    parser.add_argument("--sigma", type=float, default=25.0, help="noise of 255 (default: 25)")
    parser.add_argument(
        "--radius", default="2,5", help="frames on either side that are averaged (default: 2,5)"
    )
    parser.add_argument("--steps", type=int, default=4, help="sampling steps (default: 4)")
    add_model(parser)
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    start_comfy(options.device)
    walk = Walk(options.weights, options.device)
    files = sorted(path for path in options.pictures.iterdir() if path.suffix.lower() in PICTURES)
    files = files[: options.limit]
    every = [
        measure(
            walk,
            *scene(path, options.frames, options.sigma),
            [int(r) for r in options.radius.split(",")],
            options.steps,
        )
        for path in files
    ]
    rows = []
    for name in every[0]:
        pixels, blocks, decibels = (
            sum(values) / len(every) for values in zip(*(measured[name] for measured in every))
        )
        rows.append([name, f"{pixels:.2f}", f"{blocks:.3f}", f"{decibels:.2f}"])
    results = {
        "benchmark": "flicker",
        "pictures": len(files),
        "steps": options.steps,
        "weights": weights_used(options.weights),
        "table": as_table(["frames", "flicker of pixels", "of blocks", "PSNR"], rows),
    }
    print(stored(results))
    if options.json:
        write_results(options.json, results)
    return 0


if __name__ == "__main__":
    run(main)
