"""Pictures of the command `aior.py restore`: files into IMAGE and MASK, results into files like their sources."""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path

import folder_paths
import torch

from ..picture.reader import PictureFile, read_picture
from ..picture.writer import WriteOptions, check_writable, write_picture


def load_source(file: str, format: str) -> tuple[torch.Tensor, torch.Tensor, PictureFile]:
    """The picture `file` of ComfyUI's input folder.

    Returns IMAGE `B H W 3` in 0..1, MASK `B H W` (1 where the picture is transparent, as Load Image has it; `B 64 64` of
    zeros without transparency), and the decoded file. Raises ValueError where it cannot be read, or not be written in `format`.
    """
    source = read_picture((Path(folder_paths.get_input_directory()) / Path(file).name).read_bytes())
    check_writable(source, format)
    image = torch.from_numpy(source.unit())
    if source.alpha is None:
        return image, torch.zeros(len(image), 64, 64), source
    return image, 1 - torch.from_numpy(source.alpha.astype("float32")) / (2**source.bits - 1), source


def save_results(images: torch.Tensor, source: PictureFile, settings: str) -> list[dict[str, str]]:
    """Write IMAGE `B H W C` into ComfyUI's output folder; returns the entries of a node's `ui["images"]`.

    `settings` is JSON: `format`, `quality`, `bits` (or null) and `metadata` as in WriteOptions, `grey`, and the `workflow` and `prompt`
    that go into the files. Raises ValueError.
    """
    chosen = json.loads(settings)
    texts = {name: chosen.pop(name) for name in ("workflow", "prompt")}
    grey, options = chosen.pop("grey"), WriteOptions(**chosen)
    entries = []
    for number, image in enumerate(images.float().cpu().numpy()):
        data = write_picture(image, source, number, options, grey=grey, **texts)
        name = f"{uuid.uuid4().hex}.{options.format}"
        Path(os.fspath(folder_paths.get_output_directory()), name).write_bytes(data)
        entries.append({"filename": name, "subfolder": "", "type": "output"})
    return entries
