"""Where weights lie: the pack's own `models/`, ComfyUI's `models/aior` and what was saved in its output folder, under one folder name."""

from __future__ import annotations

import os
import re
from pathlib import Path

import folder_paths

from ..weights.shards import is_first, siblings

FOLDER = "aior"
SAVED = "restorers"
"""Where Save AIOR Restorer writes to, in the output folder: as with the host's own save nodes, the loader finds it there."""
RUNS = "aior_training"
"""Where training runs keep their checkpoints, in the output folder: unlike temp, a restart does not empty it."""
# A pickle is listed too: chosen, it says how to convert it, which an absent entry would not.
EXTENSIONS = {".safetensors", ".pt", ".pth", ".bin", ".ckpt"}
LONGEST = 200
"""Bytes of a file's name, with room for a number and a suffix: file systems take 255."""


def register() -> None:
    """Make the folder known to the host; cheap, and harmless when repeated."""
    own = Path(__file__).resolve().parents[2] / "models"
    folder_paths.add_model_folder_path(FOLDER, str(own), is_default=True)
    folder_paths.add_model_folder_path(FOLDER, os.path.join(folder_paths.models_dir, FOLDER))
    folder_paths.add_model_folder_path(FOLDER, os.path.join(folder_paths.get_output_directory(), SAVED))
    folder_paths.folder_names_and_paths[FOLDER][1].update(EXTENSIONS)


def weight_files() -> list[str]:
    """Names of the sets of weights: single files and first shards."""
    return [name for name in folder_paths.get_filename_list(FOLDER) if is_first(os.path.basename(name))]


def weight_path(name: str) -> str:
    """Full path of a listed file. Raises ValueError for a name that leads out of the folders, FileNotFoundError naming the folders looked in.

    The host's list is no guard: a link from another node brings any text.
    """
    _require_below(name, "the folders for AIOR weights")
    path = folder_paths.get_full_path(FOLDER, name)
    places = folder_paths.get_folder_paths(FOLDER)
    if path is None:
        raise FileNotFoundError(
            f"{name[:LONGEST]} is in none of the folders for AIOR weights: {', '.join(places)}."
        )
    for file in siblings(Path(path)):
        if file.exists() and not any(_within(file, place) for place in places):
            raise ValueError(
                f"{file.name} is a link to a file outside of the folders for AIOR weights. Put the file itself there, or name its folder as "
                f"a folder for {FOLDER} in ComfyUI's extra_model_paths.yaml."
            )
    return path


def fingerprint(name: str) -> str:
    """Changes when the file or any of its shards does; empty while it is missing or no name is known yet."""
    path = folder_paths.get_full_path(FOLDER, name) if isinstance(name, str) else None
    if path is None:
        return ""
    return " ".join(_state(part) for part in siblings(Path(path)) or [Path(path)])


def _state(path: Path) -> str:
    """When a file was written and how long it is. One that is not there has a state too: it may come."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return "missing"
    return f"{stat.st_mtime_ns}-{stat.st_size}"


def input_folder(name: str) -> Path:
    """A folder as a person writes it: absolute, from the home folder (~), or below ComfyUI's input folder. Raises ValueError for none."""
    written = name.strip().strip('"') if isinstance(name, str) else ""
    if not written:
        raise ValueError(
            "no folder is given. Write the name of a folder of pictures in ComfyUI's input folder, or an absolute path."
        )
    try:
        place = Path(written).expanduser()
        if not place.is_absolute():
            _require_below(written, "ComfyUI's input folder")
        place = Path(folder_paths.get_input_directory(), place)
        place.is_dir()
    # A home folder of nobody, a name too long for any folder.
    except (RuntimeError, OSError) as error:
        raise ValueError(
            f"{written[:LONGEST]!r} can be no folder ({_reason(error)}). Write the name of a folder in ComfyUI's input folder, or an absolute path."
        ) from error
    return place


def _reason(error: Exception) -> str:
    """What the system says of a name, without the name, which may be long."""
    return (isinstance(error, OSError) and error.strerror) or "it is no name"


def _require_below(name: str, where: str) -> None:
    """Raise ValueError unless `name` is a relative path that goes down only."""
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise ValueError(f"{str(name)[:LONGEST]!r} is no name of a file. Write one below {where}.")
    if ".." in re.split(r"[/\\]", name) or name[0] in "/\\" or re.match(r"[A-Za-z]:", name):
        raise ValueError(
            f"{name[:LONGEST]!r} leads out of {where}. Write a name below it, without '..' and not from the root."
        )


def _within(path: str | Path, folder: str | Path) -> bool:
    """Whether `path` lies in `folder` when all links are followed."""
    real, root = os.path.realpath(path), os.path.realpath(folder)
    return real == root or real.startswith(os.path.join(root, ""))


def saving_place(prefix: str, *, example: str = "restorers/aior") -> Path:
    """Where the next file of a save node's prefix goes, without suffix: `output/restorers/aior_00001_`.

    Raises ValueError for a prefix that is no name or leads out of ComfyUI's output folder; nothing is made there then.
    """
    output = folder_paths.get_output_directory()
    _require_below(prefix, "ComfyUI's output folder")
    if prefix[-1] in "/\\." or len(os.fsencode(os.path.basename(prefix))) > LONGEST:
        raise ValueError(
            f"{prefix[:LONGEST]!r} does not end in a file's name of at most {LONGEST} bytes. Write one, as {example}."
        )
    if not _within(os.path.join(output, os.path.dirname(os.path.normpath(prefix))), output):
        raise ValueError(f"{prefix!r} leads out of ComfyUI's output folder by a link. Write a name below it.")
    try:
        folder, name, counter, _, _ = folder_paths.get_save_image_path(prefix, output)
    except OSError as error:
        raise ValueError(
            f"{prefix[:LONGEST]!r} can be no file in ComfyUI's output folder: {_reason(error)}. Write another name."
        ) from error
    return Path(folder, f"{name}_{counter:05}_")


def training_folder(name: str) -> Path:
    """Where a training run keeps its checkpoint."""
    return Path(folder_paths.get_output_directory(), RUNS, name)


def unfinished_place(name: str) -> Path:
    """Where the restorer of a cancelled run goes, without suffix."""
    return Path(folder_paths.get_output_directory(), SAVED, f"unfinished-{name}")


register()
