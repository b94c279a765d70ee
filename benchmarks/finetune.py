"""Fine-tuning on an unknown damage through ComfyUI, as a user does it: Train AIOR Restorer on 20 scanned
slides.

    python benchmarks/finetune.py --data FOLDER
    python benchmarks/finetune.py --minutes 5 --keep FOLDER     also writes the pictures

The damage comes from benchmarks/_scanner.py: faded dyes, dust, scratches. 20 photographs become pairs in lq/
and gt/, and a server trains on them for --minutes. Then the bundled and the fine-tuned restorer restore 5
other scans. The table has the PSNR in dB of the scans and of both results, rounded to 8 bits as in files.
Where --data has a manifest, the 5 others belong to its validation split, which the bundled weights were not
trained on either.
"""

from __future__ import annotations

import argparse
import io
import statistics
from pathlib import Path

import numpy as np
import torch
from _command import command_line, run
from _host import ROOT, room
from _results import as_table, weights_used, write_results
from _scanner import scan
from _tables import stored
from PIL import Image
from torch.nn import functional as F

TRAINED, OTHERS, TARGET = 20, 5, 2.0
SAMPLER = {
    "seed": 0,
    "steps": 4,
    "cfg": 1.0,
    "sampler_name": "euler",
    "scheduler": "simple",
    "start_point": "noise",
    "denoise": 1.0,
    "fidelity": 0.0,
    "strength": 1.0,
    "tile": 0,
}


def slides(folders: list[Path], size: int, seed: int) -> list[torch.Tensor]:
    """Clean crops `1 3 size size`, -1..1, of different photographs; the first ones are for training.

    Raises SystemExit when there are too few photographs.
    """
    data = room("aior_core.training.data")
    generator = torch.Generator().manual_seed(seed)
    files = [data.find_pictures(folders, validation=False), data.find_pictures(folders, validation=True)]
    shuffled = [[found[i] for i in torch.randperm(len(found), generator=generator)] for found in files]
    others = shuffled[1] if len(shuffled[1]) >= OTHERS else shuffled[0][TRAINED:]
    crops = []
    for wanted, candidates in ((TRAINED, shuffled[0]), (OTHERS, others)):
        made = (crop(path, size) for path in candidates)
        kept = [
            picture for picture, _ in zip((picture for picture in made if picture is not None), range(wanted))
        ]
        if len(kept) < wanted:
            raise SystemExit(
                f"finetune: {wanted} photographs of at least {size}x{size} pixels are needed, "
                f"{len(kept)} found; give --data"
            )
        crops += kept
    return crops


def crop(path: Path, size: int) -> torch.Tensor | None:
    """The middle of a photograph, reduced by the largest possible whole number, which removes coding
    artefacts.

    None if the photograph is too small.
    """
    pixels = room("aior_core.training.pictures").decode(path)[None]
    factor = min(pixels.shape[2:]) // size
    if not factor:
        return None
    top, left = ((n - factor * size) // 2 for n in pixels.shape[2:])
    square = pixels[:, :, top : top + factor * size, left : left + factor * size].float()
    return F.avg_pool2d(square, factor) / 127.5 - 1


def encoded(picture: torch.Tensor) -> bytes:
    """`1 3 H W` in -1..1 as a PNG."""
    buffer = io.BytesIO()
    Image.fromarray(room("aior_core.picture").from_unit(picture)[0].mul(255).round().byte().numpy()).save(
        buffer, "PNG"
    )
    return buffer.getvalue()


def decoded(data: bytes) -> torch.Tensor:
    """A PNG as `1 3 H W` in -1..1."""
    with Image.open(io.BytesIO(data)) as picture:
        return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)[None].float() / 127.5 - 1


def compact(prompt: dict, file: str) -> list[list]:
    """Add the loader of the bundled model to the prompt. Returns links to its MODEL, VAE and restorer."""
    prompt["compact"] = {"class_type": "AIOR_LoadCompact", "inputs": {"file": file}}
    return [["compact", slot] for slot in range(3)]


def train(
    client, file: str, folder: str, watched: tuple[str, str], options: argparse.Namespace
) -> tuple[str, bytes]:
    """Fine-tune and save through /prompt. Returns the node's summary and its plot as a PNG."""
    prompt: dict = {}
    model, vae, restorer = compact(prompt, file)
    for name, picture in zip(("damaged", "clean"), watched):
        prompt[name] = {"class_type": "LoadImage", "inputs": {"image": picture}}
    prompt["train"] = {
        "class_type": "AIOR_TrainRestorer",
        "inputs": {
            "model": model,
            "vae": vae,
            "restorer": restorer,
            "folder": folder,
            "stage": options.stage,
            "minutes": options.minutes,
            "learning_rate": options.learning_rate,
            "seed": options.seed,
            **dict.fromkeys(room("aior_core.degradations").KINDS, True),
            "damaged": ["damaged", 0],
            "clean": ["clean", 0],
        },
    }
    prompt["save"] = {
        "class_type": "AIOR_SaveRestorer",
        "inputs": {"restorer": ["train", 0], "filename_prefix": "restorers/scanner"},
    }
    prompt["plot"] = {
        "class_type": "SaveImage",
        "inputs": {"images": ["train", 1], "filename_prefix": "plot"},
    }
    prompt["summary"] = {"class_type": "PreviewAny", "inputs": {"source": ["train", 2]}}
    result = client.run(prompt, timeout=60 * options.minutes + 1800)
    return result.items("text", "summary")[0], client.view(result.items("images", "plot")[0])


def restore(client, file: str, trained: str, picture: str) -> dict[str, torch.Tensor]:
    """Restore a scan with each restorer. Returns results `1 3 H W`, -1..1, by name."""
    prompt: dict = {"photo": {"class_type": "LoadImage", "inputs": {"image": picture}}}
    model, vae, stock = compact(prompt, file)
    prompt["trained"] = {"class_type": "AIOR_LoadRestorer", "inputs": {"file": trained}}
    for name, restorer in (("stock", stock), ("fine-tuned", ["trained", 0])):
        prompt[f"{name} prior"] = {
            "class_type": "AIOR_EncodePrior",
            "inputs": {"restorer": restorer, "vae": vae, "image": ["photo", 0], "tile": 0},
        }
        both = {"restorer": restorer, "prior": [f"{name} prior", 0]}
        prompt[f"{name} sample"] = {
            "class_type": "AIOR_DAFFSampler",
            "inputs": {"model": model, **both, **SAMPLER},
        }
        prompt[f"{name} decode"] = {
            "class_type": "AIOR_DecodeDAEM",
            "inputs": {
                "samples": [f"{name} sample", 0],
                "vae": vae,
                **both,
                "strength": 1.0,
                "tile": 0,
                "color_fix": "none",
            },
        }
        prompt[name] = {
            "class_type": "SaveImage",
            "inputs": {"images": [f"{name} decode", 0], "filename_prefix": name},
        }
    result = client.run(prompt)
    return {name: decoded(client.view(result.items("images", name)[0])) for name in ("stock", "fine-tuned")}


def parse() -> argparse.Namespace:
    parser = command_line(__doc__)
    parser.add_argument(
        "--data",
        type=Path,
        nargs="+",
        default=[ROOT.parent / "shared" / "data" / "train"],
        help="folders of photographs (default: ../shared/data/train beside the repository)",
    )
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--size", type=int, default=320, help="side of the crops in pixels, a multiple of 8")
    parser.add_argument("--stage", default="detail", choices=["detail", "fusion"])
    parser.add_argument(
        "--learning-rate", type=float, default=1.0, help="as on the node: times the stage's own"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", choices=["cpu", "auto"])
    parser.add_argument("--keep", type=Path, help="a folder for the pictures and the plot of the loss")
    return parser.parse_args()


def main() -> int:
    options = parse()
    client_room, host_room, server_room = (room(f"scripts.{name}") for name in ("client", "host", "server"))
    psnr = room("aior_core.metrics").psnr
    # Both are rounded to 8 bits here, as they are in files.
    clean = [decoded(encoded(picture)) for picture in slides(options.data, options.size, options.seed)]
    scans = [decoded(encoded(scan(picture, 1000 * options.seed + i))) for i, picture in enumerate(clean)]
    with server_room.Server(host_room.find_host(ROOT), device=options.device) as server:
        for index in range(TRAINED):
            for side, pictures in (("gt", clean), ("lq", scans)):
                path = server.folder / "input" / "scans" / side / f"slide_{index:02}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(encoded(pictures[index]))
        client = client_room.ComfyClient(server.port, server.alive)
        names = [
            client.upload(encoded(picture), f"other_{i}.png") for i, picture in enumerate(scans[TRAINED:])
        ]
        truth = client.upload(encoded(clean[TRAINED]), "clean.png")
        listed = client.object_info()["AIOR_LoadCompact"]["input"]["required"]["file"][1]["options"]
        file = next(name for name in listed if name.startswith("aior_compact"))
        summary, plot = train(client, file, "scans", (names[0], truth), options)
        print(summary, flush=True)
        (trained,) = (server.folder / "output" / "restorers").glob("scanner_*.safetensors")
        rows, kept = [], []
        for name, lq, gt in zip(names, scans[TRAINED:], clean[TRAINED:]):
            results = restore(client, file, trained.name, name)
            rows.append([psnr(picture, gt).item() for picture in (lq, *results.values())])
            kept.append(torch.cat([lq, *results.values(), gt], dim=3))
    means = [statistics.fmean(column) for column in zip(*rows)]
    labels = [*(f"other {number}" for number in range(1, len(rows) + 1)), "mean"]
    cells = [
        [label, *(f"{value:.2f}" for value in row)] for label, row in zip(labels, [*rows, means], strict=True)
    ]
    results = {
        "benchmark": "finetune",
        "minutes": options.minutes,
        "stage": options.stage,
        "seed": options.seed,
        "training": summary,
        "weights": weights_used(None),
        "table": as_table(["picture", "scan", "stock", "fine-tuned"], cells),
    }
    print("\n" + stored(results))
    if options.json:
        write_results(options.json, results)
    gain = statistics.fmean(row[2] - row[0] for row in rows)
    over_stock = statistics.fmean(row[2] - row[1] for row in rows)
    print(
        f"\nFine-tuned gains {gain:+.2f} dB over the scan (wanted: at least {TARGET:g}) and "
        f"{over_stock:+.2f} dB over stock."
    )
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
        (options.keep / "finetune.png").write_bytes(encoded(torch.cat(kept, dim=2)))
        (options.keep / "finetune_plot.png").write_bytes(plot)
        for number, row in enumerate(kept, 1):
            for name, picture in zip(("scan", "stock", "finetuned", "clean"), row.chunk(4, dim=3)):
                (options.keep / f"other_{number}_{name}.png").write_bytes(encoded(picture))
    return 0


if __name__ == "__main__":
    run(main)
