"""Reads pickled state dicts of published codes, after a check of what the pickle asks for.

PyTorch's `weights_only` runs no code, but lets a pickle allocate memory, for example by a `bytearray` of any
length, and trusts the sizes that an archive claims. So only what `torch.save` writes for a plain state dict
is let through.
"""

from __future__ import annotations

import pickletools
import zipfile
from pathlib import Path

import torch
from torch import Tensor

ZIP_START = b"PK\x03\x04"
STORAGES = ("FloatStorage", "HalfStorage", "BFloat16Storage", "DoubleStorage", "LongStorage", "IntStorage")
KNOWN = {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
    *(f"torch {name}" for name in STORAGES),
}
"""What the pickle of a state dict imports."""
LARGEST_PICKLE = 64 * 2**20
"""Bytes of names and sizes, without the weights. Those of SDXL take 1 MB."""
GUIDANCE = "Get a safetensors file, or save the state dict alone where you trust the file."
"""How users get a file that can be read."""


def read_pickle(path: Path) -> dict[str, Tensor]:
    """A flat state dict from a file of `torch.save`, its tensors memory-mapped. Nothing in the file is run.

    Raises ValueError for a damaged file, one that is no zip archive (PyTorch before 1.6), and one that holds
    more than tensors.
    """
    try:
        _require_plain(path)
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    # A damaged file can make the unpickler raise anything: KeyError, IndexError, AttributeError, struct.error
    # and so on.
    # struct.error and so on.
    except Exception as error:
        first = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
        raise ValueError(
            f"{path.name} cannot be read safely: {first} It is damaged, or holds more than tensors; what it "
            f"holds besides is never run. {GUIDANCE}"
        ) from error
    if not isinstance(state, dict) or not all(
        isinstance(k, str) and torch.is_tensor(v) for k, v in state.items()
    ):
        raise ValueError(
            f"{path.name} is a pickle, but no flat dict of tensors. Expected a state dict as UniLDiff's or "
            "FaithDiff's code saves it."
        )
    return dict(state)


def _require_plain(path: Path) -> None:
    """Raise ValueError unless the file is a zip archive of `torch.save`: nothing compressed, and a pickle
    that imports only `KNOWN`.
    """
    with path.open("rb") as file:
        if file.read(4) != ZIP_START:
            raise ValueError("it is no zip archive, as PyTorch has written since 1.6.")
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        packed = [
            entry.filename
            for entry in entries
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size
        ]
        if packed:
            raise ValueError(f"{packed[0]} in it is compressed, which PyTorch never does.")
        pickles = [entry for entry in entries if entry.filename.rpartition("/")[2] == "data.pkl"]
        if len(pickles) != 1 or pickles[0].file_size > LARGEST_PICKLE:
            raise ValueError(
                f"it has {len(pickles)} pickles named data.pkl in it; expected one of at most "
                f"{LARGEST_PICKLE // 2**20} MiB."
            )
        foreign = sorted(_names(archive.read(pickles[0])) - KNOWN)
    if foreign:
        raise ValueError(f"it asks for {', '.join(foreign[:4])}.")


def _names(data: bytes) -> set[str]:
    """Everything that a pickle imports, as "module name", without running it."""
    found: set[str] = set()
    texts: list[str] = []
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name in ("GLOBAL", "INST"):
            found.add(str(argument))
        elif opcode.name in ("STACK_GLOBAL", "EXT1", "EXT2", "EXT4"):
            # Protocol 4; torch.save writes 2. What it names may come from anywhere on the stack.
            found.add(f"something through {opcode.name} ({' '.join(texts[-2:])})")
        elif isinstance(argument, str):
            texts.append(argument)
    return found
