"""Where weights lie: the pack's own `models/`, ComfyUI's `models/aior` and what was saved in its output folder, under one folder name."""

from __future__ import annotations

import os
from pathlib import Path

import folder_paths

from ..weights.names import is_first

FOLDER = "aior"
SAVED = "restorers"
"""Where Save AIOR Restorer writes to, in the output folder: as with the host's own save nodes, the loader finds it there."""
RUNS = "aior_training"
"""Where training runs keep their checkpoints, in the output folder: unlike temp, a restart does not empty it."""
# A pickle is listed too: chosen, it says how to convert it, which an absent entry would not.
EXTENSIONS = {".safetensors", ".pt", ".pth", ".bin", ".ckpt"}


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
    """Full path of a listed file. Raises FileNotFoundError naming the folders looked in."""
    path = folder_paths.get_full_path(FOLDER, name)
    if path is None:
        places = ", ".join(folder_paths.get_folder_paths(FOLDER))
        raise FileNotFoundError(f"{name} is in none of the folders for AIOR weights: {places}.")
    return path


def fingerprint(name: str) -> str:
    """Changes when the file does; empty while it is missing."""
    path = folder_paths.get_full_path(FOLDER, name)
    if path is None:
        return ""
    stat = os.stat(path)
    return f"{stat.st_mtime_ns}-{stat.st_size}"


def input_folder(name: str) -> Path:
    """A folder as a person writes it: absolute, from the home folder (~), or below ComfyUI's input folder. Raises ValueError for none."""
    written = name.strip().strip('"')
    if not written:
        raise ValueError("no folder is given. Write the name of a folder of pictures in ComfyUI's input folder, or an absolute path.")
    return Path(folder_paths.get_input_directory(), Path(written).expanduser())


def saving_place(prefix: str) -> Path:
    """Where the next file of a save node's prefix goes, without suffix: `output/restorers/aior_00001_`. Raises if outside of output."""
    folder, name, counter, _, _ = folder_paths.get_save_image_path(prefix, folder_paths.get_output_directory())
    return Path(folder, f"{name}_{counter:05}_")


def training_folder(name: str) -> Path:
    """Where a training run keeps its checkpoint."""
    return Path(folder_paths.get_output_directory(), RUNS, name)


def unfinished_place(name: str) -> Path:
    """Where the restorer of a cancelled run goes, without suffix."""
    return Path(folder_paths.get_output_directory(), SAVED, f"unfinished-{name}")


register()
