"""Where weights lie: the pack's own `models/` and ComfyUI's `models/aior`, one folder name for both."""

from __future__ import annotations

import os
from pathlib import Path

import folder_paths

from ..weights.names import is_first

FOLDER = "aior"
# A pickle is listed too: chosen, it says how to convert it, which an absent entry would not.
EXTENSIONS = {".safetensors", ".pt", ".pth", ".bin", ".ckpt"}


def register() -> None:
    """Make the folder known to the host; cheap, and harmless when repeated."""
    own = Path(__file__).resolve().parents[2] / "models"
    folder_paths.add_model_folder_path(FOLDER, str(own), is_default=True)
    folder_paths.add_model_folder_path(FOLDER, os.path.join(folder_paths.models_dir, FOLDER))
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


register()
