"""Time that the cache of the SDXL training saves: seconds to cut, damage and encode a crop, and to read it.

    python benchmarks/sdxl_cache.py                          the narrow autoencoder of the tests
    python benchmarks/sdxl_cache.py --width 128 --crop 512   SDXL's own widths

The weights are random; the time does not depend on their values. The system is asked to drop the files from
its memory before they are read, so that they come from the disk.
"""

from __future__ import annotations

import logging
import os
import tempfile
from functools import partial
from pathlib import Path

import torch
from _command import command_line, run
from _host import room, start_comfy, timed
from _results import as_table, write_results
from _tables import NOTHING, stored


def networks(width: int, device: str):
    """A KL autoencoder with SDXL's architecture, and its copy as LQ encoder. No UNet is needed."""
    import comfy.model_patcher  # noqa: F401  the host's modules import each other in this order
    import comfy.sd

    multiples = (1, 2, 4, 4) if width == 128 else (1, 1, 2, 2)
    config = {
        "double_z": True,
        "z_channels": 4,
        "resolution": 256,
        "in_channels": 3,
        "out_ch": 3,
        "ch": width,
        "ch_mult": multiples,
        "num_res_blocks": 2,
        "attn_resolutions": [],
        "dropout": 0.0,
    }
    logging.disable(logging.WARNING)  # ComfyUI warns that it found no weights.
    vae = comfy.sd.VAE(
        sd={}, config={"params": {"ddconfig": config, "embed_dim": 4}}
    ).first_stage_model.requires_grad_(False)
    logging.disable(logging.NOTSET)
    generator = torch.Generator().manual_seed(0)
    for parameter in vae.parameters():
        parameter.copy_(
            torch.randn(parameter.shape, generator=generator) / max(1, parameter[0].numel()) ** 0.5
        )
    sdxl = room("aior_core.training.sdxl")
    prior_config = room("aior_core.models.config").PriorConfig(
        kind="kl", widths=tuple(width * m for m in multiples), blocks=(2, 2, 2, 2), plain=()
    )
    prior = room("aior_core.models.lq_encoder").PriorEncoder(prior_config).requires_grad_(False)
    sdxl.copy_encoder(prior, vae)
    none = torch.zeros(1)
    base = sdxl.Base(torch.nn.Identity(), vae, none, 0.13025, none, none, none, none)
    return sdxl.SDXLNetworks(prior, torch.nn.Identity(), torch.nn.Identity(), base).to(device)


def forget(folder: Path) -> None:
    """Ask the system to drop the files of a folder from its memory."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@torch.no_grad()
def _batch(cache, numbers: list[int]):
    return cache.held(numbers).batch


def main(argv: list[str] | None = None) -> int:
    parser = command_line(__doc__)
    parser.add_argument(
        "--width",
        type=int,
        default=32,
        choices=(32, 128),
        help="of the autoencoder's first level; 128 is SDXL's",
    )
    parser.add_argument("--crop", type=int, default=256)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args(argv)
    start_comfy("cpu" if options.device == "cpu" else "auto")
    cache_room, data = room("aior_core.training.sdxl_cache"), room("aior_core.training.data")
    autocast = room("aior_core.training.precision").autocast
    clean = sorted((Path(__file__).resolve().parents[1] / "tests" / "clean").iterdir())
    sources = cache_room.Sources(data.load(clean), options.crop)
    made_of = networks(options.width, options.device)
    said = {"pictures": "cutting and damaging", "target": "latent of the clean crop", "feature": "LQ feature"}
    made, read, size = dict.fromkeys(said, 0.0), dict.fromkeys(said, 0.0), dict.fromkeys(said, 0)
    with tempfile.TemporaryDirectory() as folder, autocast(options.device):
        for turn in range(options.repeats + 1):
            cache = cache_room.Cache(Path(folder), made_of, sources, 4096, options.device)
            numbers = list(range(turn * options.batch, (turn + 1) * options.batch))
            fresh = room("aior_core.training.sdxl").Fresh(made_of, cache.held(numbers).batch)
            actions = {
                "pictures": partial(_batch, cache, numbers),
                "target": partial(fresh.latent, "target"),
                "feature": fresh.feature,
            }
            seconds = {kind: timed(action, 1)[0] for kind, action in actions.items()}
            held = cache.held(numbers)
            held.latent("target"), held.feature()
            forget(Path(folder))
            held = cache.held(numbers)
            fetched = {
                kind: timed(action, 1)[0]
                for kind, action in {
                    "target": partial(held.latent, "target"),
                    "feature": held.feature,
                }.items()
            }
            if turn == 0:
                continue  # to warm up
            for kind in said:
                made[kind] += seconds[kind] / options.repeats / options.batch
                read[kind] += fetched.get(kind, 0.0) / options.repeats / options.batch
        for kind in ("target", "feature"):
            size[kind] = next(Path(folder).glob(f"{kind}-*.safetensors")).stat().st_size
    print(
        f"Crops of {options.crop}, batches of {options.batch}, first level {options.width} wide, "
        f"{options.device}; a crop each\n"
    )
    rows = []
    for kind, text in said.items():
        stored_cells = [f"{read[kind]:.4f}", f"{size[kind] / 1024:.0f}"] if size[kind] else [NOTHING] * 2
        rows.append([text, f"{made[kind]:.4f}", *stored_cells])
    sums = [f"{sum(made.values()):.4f}", f"{sum(read.values()):.4f}", f"{sum(size.values()) / 1024:.0f}"]
    rows.append(["phase a in all", *sums])
    results = {
        "benchmark": "sdxl_cache",
        "device": options.device,
        "crop": options.crop,
        "batch": options.batch,
        "table": as_table(["", "made, s", "read, s", "on disk, KiB"], rows),
    }
    print(stored(results))
    if options.json:
        write_results(options.json, results)
    return 0


if __name__ == "__main__":
    run(main)
