"""Pickles made wrong on purpose: with code in them, with bombs, with lies about their storages."""

from __future__ import annotations

import io
import os
import pickle
import random
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import torch
from aior_pack.tests.mutated_file import Source, write


class Payload:
    """What runs when a careless loader opens it: a file is made."""

    def __init__(self, function: Callable, *arguments: object):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def pickled(dice: random.Random, source: Source, folder: Path) -> tuple[Path, str]:
    """A pickle: of plain tensors, or with a payload, a bomb, or a lie about its storages in it."""
    state: object = dict(source.tensors)
    trace = str(folder / "ran")
    key = dice.choice(list(source.tensors))
    value = source.tensors[key]
    kind = dice.choice(
        (
            "plain",
            "open",
            "system",
            "eval",
            "bytearray",
            "expanded",
            "shared",
            "sparse",
            "int",
            "nested",
            "list",
            "none",
            "meta",
            "parameter",
        )
    )
    strange = {
        "open": lambda: Payload(open, trace, "w"),
        "system": lambda: Payload(os.system, f"touch {trace}"),
        "eval": lambda: Payload(eval, f"open({trace!r}, 'w')"),
        "bytearray": lambda: Payload(bytearray, 3 * 2**30),
        "expanded": lambda: torch.ones(1, dtype=torch.float16).expand(10**6, 10**6),
        "sparse": lambda: torch.eye(4).to_sparse(),
        "int": lambda: value.to(torch.int32),
        "nested": lambda: {"state_dict": value},
        "none": lambda: None,
        "meta": lambda: torch.empty(10**6, 10**6, device="meta"),
        "parameter": lambda: torch.nn.Parameter(value),
    }
    if kind in strange:
        state = state | {key: strange[kind]()}
    elif kind == "shared":
        one = torch.ones(2**20, dtype=torch.float16)
        state = {name: one for name in (*source.tensors, *(f"unet.x{i}" for i in range(3000)))}
    elif kind == "list":
        state = dice.choice(([1, 2], None, 3, "text", {1: value}, OrderedDict(a=[value])))
    buffer = io.BytesIO()
    how = dice.choice(("zip", "zip", "zip", "zip", "legacy", "raw"))
    if how == "raw":
        pickle.dump(state, buffer, dice.choice((0, 2, 4)))
    else:
        torch.save(state, buffer, _use_new_zipfile_serialization=how == "zip")
    content = bytearray(buffer.getvalue())
    hurt = dice.choice(
        ("none", "none", "flip", "cut", "packed", "numel") if how == "zip" else ("none", "flip", "cut")
    )
    if hurt == "flip":
        # Half of the flips into the first kilobytes, where the pickle is.
        reach = len(content) if dice.random() < 0.5 else min(len(content), 20_000)
        for _ in range(dice.choice((1, 3, 20))):
            content[dice.randrange(reach)] ^= 1 << dice.randrange(8)
    elif hurt == "cut":
        content = content[: dice.randrange(len(content))]
    elif hurt in ("packed", "numel"):
        content = bytearray(_rezipped(dice, bytes(content), hurt))
    suffix = dice.choice((".bin", ".bin", ".pt", ".pth", ".ckpt", ".safetensors"))
    return write(folder, bytes(content), f"wrong{suffix}"), f"{kind}, {how}, {hurt}, {suffix}"


def _rezipped(dice: random.Random, content: bytes, hurt: str) -> bytes:
    """The archive once more: compressed, or with other numbers in its pickle."""
    out = io.BytesIO()
    packing = zipfile.ZIP_DEFLATED if hurt == "packed" else zipfile.ZIP_STORED
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w", packing) as new:
        for entry in old.infolist():
            data = bytearray(old.read(entry))
            if hurt == "numel" and entry.filename.endswith("data.pkl"):
                # BININT1, BININT2 and BININT: sizes, strides and offsets.
                places = [i for i in range(len(data) - 5) if data[i] in b"KMJ"]
                for place in dice.sample(places, min(len(places), dice.choice((1, 4, 40)))):
                    width = {ord("K"): 1, ord("M"): 2, ord("J"): 4}[data[place]]
                    data[place + 1 : place + 1 + width] = dice.choice(
                        (b"\xff" * width, b"\x00" * width, dice.randbytes(width))
                    )
            new.writestr(entry.filename, bytes(data))
    return out.getvalue()
