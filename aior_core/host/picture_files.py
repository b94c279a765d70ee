"""Pictures of the command `aior.py restore`, in ComfyUI's input and output folders."""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path

import folder_paths
import torch
from torch import Tensor

from ..picture.reader import PictureFile, read_picture
from ..picture.writer import WriteOptions, check_writable, write_picture


def load_source(file: str, format: str) -> tuple[Tensor, Tensor, PictureFile]:
    """Read the picture `file` of ComfyUI's input folder.

    Returns:
        IMAGE `B H W 3`, 0..1; MASK `B H W`, 1 where the picture is transparent (`B 64 64` of zeros without
        transparency), as Load Image has them; and the decoded file.

    Raises:
        ValueError: the file cannot be read, or its picture cannot be written in `format`.
    """
    source = read_picture((Path(folder_paths.get_input_directory()) / Path(file).name).read_bytes())
    check_writable(source, format)
    image, mask = torch.from_numpy(source.to_image()), source.to_mask()
    return image, torch.zeros(len(image), 64, 64) if mask is None else torch.from_numpy(mask), source


def save_results(images: Tensor, source: PictureFile, settings: str) -> list[dict[str, str]]:
    """Write results into ComfyUI's output folder, as their source was.

    Args:
        images: IMAGE `B H W C`, 0..1.
        source: what `load_source` returned.
        settings: JSON with the fields of WriteOptions, with `grey`, and with the `workflow` and the `prompt`
            that go into the files (see `write_picture`).

    Returns:
        The entries of a node's `ui["images"]`.

    Raises:
        ValueError: a result cannot be written.
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
