"""Safetensors written by hand, so that they can be written wrong."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

CODES = {
    torch.float16: "F16", torch.float32: "F32", torch.bfloat16: "BF16", torch.float64: "F64",
    torch.int64: "I64", torch.int8: "I8", torch.uint8: "U8",
    torch.bool: "BOOL", torch.int16: "I16", torch.int32: "I32", torch.complex64: "C64",
    torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2",
}  # fmt: skip


@dataclass
class Source:
    """A sound file: tensors and metadata as they are saved, and which loaders are tried on it."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    loaders: tuple[str, ...]


@dataclass
class Case:
    """A wrong file, the loader it goes through, and what was done."""

    path: Path
    loader: str
    what: str


@dataclass
class Draft:
    """A safetensors file in parts: `header` is JSON in the making, `body` what it points into."""

    header: dict
    body: bytearray

    def bytes(self) -> bytes:
        text = json.dumps(self.header).encode("utf-8", "surrogatepass")
        return struct.pack("<Q", len(text)) + text + bytes(self.body)

    def keys(self) -> list[str]:
        return [key for key in self.header if key != "__metadata__"]


def draft(tensors: dict[str, Tensor], metadata: dict[str, str]) -> Draft:
    """The file that safetensors would write."""
    header, body = ({"__metadata__": dict(metadata)} if metadata else {}), bytearray()
    for key, value in tensors.items():
        data = value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        header[key] = {
            "dtype": CODES[value.dtype],
            "shape": list(value.shape),
            "data_offsets": [len(body), len(body) + len(data)],
        }
        body += data
    return Draft(header, body)


def write(folder: Path, content: bytes, name: str = "wrong.safetensors") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def whole(source: Source) -> Draft:
    return draft(source.tensors, source.metadata)
