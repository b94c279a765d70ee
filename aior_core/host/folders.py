"""Folders of weights: the pack's `models/`, ComfyUI's `models/aior`, and restorers in ComfyUI's output
folder.
"""

from __future__ import annotations

import os
from pathlib import Path

import folder_paths

from ..pipeline.validate import LONGEST, is_within, reason_of, require_below
from ..weights.shards import is_first, siblings

FOLDER = "aior"
SAVED = "restorers"
"""Folder in ComfyUI's output folder to which Save AIOR Restorer writes. The loader lists it."""
RUNS = "aior_training"
"""Folder in ComfyUI's output folder for the checkpoints of training runs. Unlike temp, a restart does not
empty it."""
# Pickles are listed too, because loading one explains how to convert it.
EXTENSIONS = {".safetensors", ".pt", ".pth", ".bin", ".ckpt"}


def register() -> None:
    """Make the folders known to ComfyUI, under one name. It is cheap, and harmless when repeated."""
    own = Path(__file__).resolve().parents[2] / "models"
    folder_paths.add_model_folder_path(FOLDER, str(own), is_default=True)
    folder_paths.add_model_folder_path(FOLDER, os.path.join(folder_paths.models_dir, FOLDER))
    folder_paths.add_model_folder_path(FOLDER, os.path.join(folder_paths.get_output_directory(), SAVED))
    folder_paths.folder_names_and_paths[FOLDER][1].update(EXTENSIONS)


def weight_files() -> list[str]:
    """The names of the sets of weights in the folders: single files and first shards."""
    return [name for name in folder_paths.get_filename_list(FOLDER) if is_first(os.path.basename(name))]


def weight_path(name: str) -> str:
    """The full path of a listed file.

    ComfyUI's list does not protect this: a link from another node brings any text. Raises ValueError for a
    name that leads out of the folders, and FileNotFoundError that names the folders.
    """
    require_below(name, "the folders for AIOR weights")
    path = folder_paths.get_full_path(FOLDER, name)
    places = folder_paths.get_folder_paths(FOLDER)
    if path is None:
        raise FileNotFoundError(
            f"{name[:LONGEST]} is in none of the folders for AIOR weights: {', '.join(places)}."
        )
    for file in siblings(Path(path)):
        if file.exists() and not any(is_within(file, place) for place in places):
            raise ValueError(
                f"{file.name} is a link to a file outside of the folders for AIOR weights. Put the file "
                "itself there, or name its folder as "
                f"a folder for {FOLDER} in ComfyUI's extra_model_paths.yaml."
            )
    return path


def fingerprint(name: str) -> str:
    """A text that changes when the file or one of its shards changes. Empty for a missing file."""
    path = folder_paths.get_full_path(FOLDER, name) if isinstance(name, str) else None
    if path is None:
        return ""
    return " ".join(_state(part) for part in siblings(Path(path)) or [Path(path)])


def _state(path: Path) -> str:
    """When a file was written and its size. A missing file has a state too, because it may appear later."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return "missing"
    return f"{stat.st_mtime_ns}-{stat.st_size}"


def input_folder(name: str) -> Path:
    """A folder as users write it: absolute, from the home folder (`~`), or below ComfyUI's input folder.

    Raises ValueError if it is no name of a folder.
    """
    written = name.strip().strip('"') if isinstance(name, str) else ""
    if not written:
        raise ValueError(
            "no folder is given. Write the name of a folder of pictures in ComfyUI's input folder, or an "
            "absolute path."
        )
    try:
        place = Path(written).expanduser()
        if not place.is_absolute():
            require_below(written, "ComfyUI's input folder")
        place = Path(folder_paths.get_input_directory(), place)
        place.is_dir()
    # An unknown user's home folder, or a name too long for any folder.
    except (RuntimeError, OSError) as error:
        raise ValueError(
            f"{written[:LONGEST]!r} can be no folder ({reason_of(error)}). Write the name of a folder in "
            "ComfyUI's input folder, or an absolute path."
        ) from error
    return place


def saving_place(prefix: str, *, example: str = "restorers/aior") -> Path:
    """The next free path for a save node's prefix, without suffix: `output/restorers/aior_00001_`.

    example: a prefix, for messages. Raises ValueError, and creates nothing, for a prefix that is no name or
    leads out of ComfyUI's output folder.
    """
    output = folder_paths.get_output_directory()
    require_below(prefix, "ComfyUI's output folder")
    if prefix[-1] in "/\\." or len(os.fsencode(os.path.basename(prefix))) > LONGEST:
        raise ValueError(
            f"{prefix[:LONGEST]!r} does not end in a file's name of at most {LONGEST} bytes. Write one, as "
            f"{example}."
        )
    if not is_within(os.path.join(output, os.path.dirname(os.path.normpath(prefix))), output):
        raise ValueError(f"{prefix!r} leads out of ComfyUI's output folder by a link. Write a name below it.")
    try:
        folder, name, counter, _, _ = folder_paths.get_save_image_path(prefix, output)
    except OSError as error:
        raise ValueError(
            f"{prefix[:LONGEST]!r} can be no file in ComfyUI's output folder: {reason_of(error)}. Write "
            "another name."
        ) from error
    return Path(folder, f"{name}_{counter:05}_")


def training_folder(name: str) -> Path:
    """The folder in which a training run keeps its checkpoint."""
    return Path(folder_paths.get_output_directory(), RUNS, name)


def unfinished_place(name: str) -> Path:
    """The path of a cancelled run's restorer, without suffix."""
    return Path(folder_paths.get_output_directory(), SAVED, f"unfinished-{name}")


register()
