"""Peak memory and time by megapixels, and how much tiles change the picture, compared with ComfyUI's own
tiling.

    python benchmarks/memory.py --megapixels 1,4,9,24 --tile 1024 --steps 1
    python benchmarks/memory.py --seams --pictures /data/photographs --tile 256,512

The first table has a row per size. Each row runs in a process of its own, so that its peak memory (resident
set, with PyTorch and ComfyUI) is its own. "grows" is the peak over that of 4 megapixels. "CPU s" are CPU
seconds of all cores, which other work on the machine changes less than "seconds". "s/MP" compares the CPU
seconds per megapixel with their mean over all rows, and shows whether time grows with the area.

With --seams, five photographs are restored whole and in tiles. The table has the mean and the largest
difference in levels of 255, and the seam energy: the gradient across tile borders over the gradient
elsewhere, divided by the same of the whole picture (1 means no seam). The last columns compare the decoder
without DAEM, through ComfyUI's own decode_tiled, with its own whole picture.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import torch
from _cases import PICTURES, damage, read
from _command import add_model, command_line, run
from _host import ROOT, Walk, image, peak_mib, room, start_comfy
from _results import as_table, weights_used, write_results
from _tables import memory, stored

SIZES = {
    1: (1152, 864),
    2: (1632, 1224),
    4: (2000, 2000),
    9: (3456, 2592),
    12: (4000, 3000),
    24: (6000, 4000),
}
"""Width and height by megapixels, if possible of cameras.

The tiles of 4 are nearly as large as those of 24.
"""


def card(width: int, height: int) -> torch.Tensor:
    """A noisy test card as IMAGE `1 height width 3`. Making it takes at most twice its memory."""
    made = torch.empty(1, height, width, 3)
    rows, columns = torch.linspace(0, 40, height)[:, None], torch.linspace(0, 40, width)[None]
    for channel in range(3):
        made[0, ..., channel] = torch.sin(rows * (2 + channel) + columns * (3 - channel)).mul_(0.35).add_(0.5)
    generator = torch.Generator().manual_seed(0)
    for row in made[0]:
        row += 0.06 * torch.randn(row.shape, generator=generator)
    return made.clamp_(0, 1)


def restore(
    walk: Walk, picture: torch.Tensor, steps: int, tile: int, latent: dict | None = None
) -> tuple[torch.Tensor, dict]:
    """Encode, sample and decode in tiles. Returns IMAGE and LATENT. A given `latent` is not sampled."""
    prior = walk.prior_encode.encode_prior(walk.restorer, walk.vae, picture, tile=tile)
    latent = latent or walk.sampling.sample_daff(
        walk.model, walk.restorer, prior, seed=0, steps=steps, tile=tile
    )
    return walk.daem_decode.decode_daem(latent, walk.vae, walk.restorer, prior, tile=tile), latent


def measure_row(megapixels: int, options: argparse.Namespace) -> dict[str, float]:
    """Seconds, CPU seconds and peak MiB of one size, measured in this process."""
    walk = Walk(options.weights, options.device)
    restore(walk, card(128, 128), 1, 128)
    picture = card(*SIZES[megapixels])
    started, cpu = time.perf_counter(), time.process_time()
    restored, _ = restore(walk, picture, options.steps, options.tile[0])
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    if restored.shape != picture.shape or not torch.isfinite(restored).all():
        raise RuntimeError(f"{megapixels} MP came back as {tuple(restored.shape)}, or not finite")
    return {"seconds": seconds, "cpu_seconds": cpu, "peak_mib": peak_mib()}


def in_a_process(megapixels: int, argv: list[str]) -> dict[str, float]:
    """`measure_row` in a new process. Raises RuntimeError with its output when it fails."""
    done = subprocess.run(
        [sys.executable, __file__, *argv, "--row", str(megapixels)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{megapixels} MP failed with code {done.returncode}:\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def sizes(options: argparse.Namespace, argv: list[str]) -> dict:
    """The results of every size, as `_tables.memory` reads them."""
    rows = []
    for megapixels in options.megapixels:
        numbers = in_a_process(megapixels, argv)
        width, height = SIZES[megapixels]
        rows.append({"megapixels": megapixels, "width": width, "height": height, **numbers})
        print(
            f"{width}x{height}: {numbers['seconds']:.0f} s, {numbers['cpu_seconds']:.0f} CPU s, "
            f"{numbers['peak_mib']:.0f} MiB",
            file=sys.stderr,
            flush=True,
        )
    return {"benchmark": "memory", "rows": rows}


def seam_energy(picture: torch.Tensor, tile: int) -> float:
    """Gradient of an IMAGE `1 H W 3` across borders of the decoder's tiles over the gradient elsewhere."""
    spans = room("aior_core.picture.tiles").regions(
        picture.shape[1] // 8, picture.shape[2] // 8, tile // 8, 0
    )
    energies = []
    for dim, edge in ((1, 2), (2, 3)):
        gradient = picture.diff(dim=dim).abs().mean(dim=[d for d in range(4) if d != dim])
        borders = sorted({8 * region.core[edge] for region in spans} - {8 * max(r.core[edge] for r in spans)})
        across = torch.zeros(len(gradient), dtype=torch.bool)
        across[[border - 1 for border in borders]] = True
        if borders:
            energies.append((gradient[across].mean() / gradient[~across].mean()).item())
    return sum(energies) / len(energies)


def photographs(folder: Path, count: int, side: int) -> list[tuple[str, torch.Tensor]]:
    """Names and middles (`side` pixels, `1 3 H W`, -1..1) of the first `count` pictures large enough."""
    found = []
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in PICTURES):
        picture = read(path)
        height, width = picture.shape[-2:]
        if min(height, width) >= side * 3 // 4 and max(height, width) >= side:
            tall, wide = min(height, side) // 8 * 8, min(width, side) // 8 * 8
            top, left = (height - tall) // 2, (width - wide) // 2
            found.append((path.stem[:24], picture[..., top : top + tall, left : left + wide]))
        if len(found) == count:
            return found
    raise FileNotFoundError(
        f"{folder} holds fewer than {count} photographs of {side} pixels. Name another folder with "
        f"--pictures."
    )


def seams(options: argparse.Namespace) -> dict:
    """Whole against tiled pictures: the results as a table."""
    walk = Walk(options.weights, options.device)
    damages = (
        (("noise", 0.42, {"sigma": 25.0}),),
        (("rain", 0.5, {}),),
        (("haze", 0.6, {}),),
        (("jpeg", 1.0, {}),),
        (("low_light", 0.6, {}),),
    )
    rows = []
    for (name, clean), steps in zip(photographs(options.pictures, len(damages), options.side), damages):
        lq = image(damage(clean, steps, 1))
        whole, latent = restore(walk, lq, options.steps, 8192)
        plain = walk.vae.decode(latent["samples"])
        for tile in options.tile:
            tiled, _ = restore(walk, lq, options.steps, tile)
            same, _ = restore(walk, lq, options.steps, tile, latent)
            core = walk.vae.decode_tiled(
                latent["samples"], tile_x=tile // 8, tile_y=tile // 8, overlap=tile // 32
            )
            row = [name, steps[0][0], str(tile)]
            for made, reference in ((same, whole), (tiled, whole), (core, plain)):
                difference = 255 * (made - reference).abs()
                seam = seam_energy(made, tile) / seam_energy(reference, tile)
                row += [f"{difference.mean():.3f} / {difference.max():.2f}", f"{seam:.4f}"]
            rows.append(row)
            print(" ".join(row), file=sys.stderr, flush=True)
    head = [
        "photograph",
        "damage",
        "tile",
        "decode, same latent",
        "seam",
        "all three stages",
        "seam",
        "core's decode_tiled",
        "seam",
    ]
    return {"benchmark": "seams", "table": as_table(head, rows)}


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    parser = command_line(__doc__)
    parser.add_argument(
        "--megapixels", default="1,4,9,24", help=f"sizes, of {', '.join(map(str, SIZES))} (default: 1,4,9,24)"
    )
    parser.add_argument(
        "--tile",
        default="1024",
        help="tile in pixels; with --seams several, separated by commas (default: 1024)",
    )
    parser.add_argument("--steps", type=int, default=1, help="sampling steps (default: 1)")
    parser.add_argument("--seams", action="store_true", help="whole against tiled pictures instead")
    parser.add_argument(
        "--pictures",
        type=Path,
        default=ROOT.parent / "shared" / "data" / "train",
        help="folder of photographs for --seams",
    )
    parser.add_argument(
        "--side",
        type=int,
        default=1024,
        help="of those photographs the middle, so many pixels a side (default: 1024)",
    )
    add_model(parser)
    parser.add_argument("--row", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    options.megapixels = [int(count) for count in options.megapixels.split(",")]
    options.tile = [int(side) for side in options.tile.split(",")]
    if unknown := set(options.megapixels) - set(SIZES):
        parser.error(
            f"--megapixels: unknown {sorted(unknown)}; expected some of {', '.join(map(str, SIZES))}"
        )
    torch.set_grad_enabled(False)
    if options.row:
        print(json.dumps(measure_row(options.row, options)))
        return 0
    start_comfy(options.device)
    print(
        f"PyTorch {torch.__version__}, device {options.device}, {torch.get_num_threads()} threads, "
        f"{options.steps} steps, tile {options.tile}\n"
    )
    results = seams(options) if options.seams else sizes(options, argv)
    print(stored(results) if options.seams else memory(results))
    if options.json:
        settings = {"torch": torch.__version__, "device": options.device, "steps": options.steps}
        settings |= {"threads": torch.get_num_threads(), "tiles": options.tile}
        settings |= {"weights": weights_used(options.weights)}
        write_results(options.json, {**results, **settings})
    return 0


if __name__ == "__main__":
    run(main)
