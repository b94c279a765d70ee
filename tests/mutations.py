"""Weight files made wrong on purpose: each mutation is drawn from a number, so that a failure can be made
again.

`mutate(sources, seed, folder)` writes one wrong file (or a set of shards) and says what was done to it.
"""

from __future__ import annotations

import json
import math
import pickle
import random
import struct
import sys
from pathlib import Path

import torch
from aior_pack.tests.mutated_file import CODES, Case, Draft, Source, draft, whole, write
from aior_pack.tests.mutated_pickles import pickled

OTHER_CODES = ("F4", "F6_E2M3", "F8_E8M0", "U16", "F128", "", "float16", None, 3)
HOSTILE_NUMBERS = (
    0,
    -1,
    1,
    2,
    3,
    7,
    1.5,
    1e308,
    10**9,
    10**18,
    2**63,
    2**64,
    10**5000,
    True,
    None,
    "4",
    [],
    {},
    float("nan"),
    float("inf"),
    [[1]],
    -0.0,
)
SETTINGS = ("daff.mode", "daem.dilations", "daem.top_k", "daem.pools", "unet.head_channels")
RUBBISH = (
    "",
    "null",
    "[]",
    "3",
    '"x"',
    "{",
    "nonsense",
    "NaN",
    "[" * 100_000,
    "{}" * 3,
    "\ud83d",
    '{"daem.pools": NaN}',
    "1" * 6000,
    "true",
    "[[1,2,3]]",
)
BIG = (2**31, 2**32 + 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 10**30)


def mutate(sources: list[Source], seed: int, folder: Path) -> Case:
    """Write mutation number `seed` into `folder`."""
    dice = random.Random(seed)
    source = dice.choice(sources)
    mutation = dice.choice(MUTATIONS)
    path, what = mutation(dice, source, folder)
    return Case(path, dice.choice(source.loaders), f"{mutation.__name__}: {what}")


def flipped_header(dice: random.Random, source: Source, folder: Path) -> tuple[Path, str]:
    content = bytearray(whole(source).bytes())
    end = 8 + struct.unpack("<Q", content[:8])[0]
    places = [dice.randrange(end) for _ in range(dice.choice((1, 1, 2, 8)))]
    for place in places:
        content[place] ^= 1 << dice.randrange(8)
    return write(folder, bytes(content)), f"bits at {places}"


def edited_digits(dice: random.Random, source: Source, folder: Path) -> tuple[Path, str]:
    """One digit or letter of the header for another: it stays JSON, and lies."""
    content = bytearray(whole(source).bytes())
    end = 8 + struct.unpack("<Q", content[:8])[0]
    place = dice.choice([i for i in range(8, end) if chr(content[i]).isalnum()])
    kind = "0123456789" if chr(content[place]).isdigit() else "abcdefghijklmnopqrstuvwxyzFBIU._"
    content[place] = ord(dice.choice(kind))
    return write(folder, bytes(content)), f"byte {place}"


def flipped_body(dice: random.Random, source: Source, folder: Path) -> tuple[Path, str]:
    content = bytearray(whole(source).bytes())
    start = 8 + struct.unpack("<Q", content[:8])[0]
    count = dice.choice((1, 4, 64, 4096))
    for _ in range(count):
        content[dice.randrange(start, len(content))] ^= 1 << dice.randrange(8)
    return write(folder, bytes(content)), f"{count} bits"


def truncated(dice: random.Random, source: Source, folder: Path) -> tuple[Path, str]:
    content = whole(source).bytes()
    keep = dice.choice((0, 4, 8, 9, len(content) - 1, dice.randrange(len(content))))
    return write(folder, content[:keep]), f"{keep} bytes"


def longer(dice: random.Random, source: Source, folder: Path) -> tuple[Path, str]:
    more = dice.choice((1, 8, 4096))
    return write(folder, whole(source).bytes() + dice.randbytes(more)), f"{more} more bytes"


def lying_length(dice: random.Random, source: Source, folder: Path) -> tuple[Path, str]:
    content = whole(source).bytes()
    length = dice.choice(
        (0, 1, 2, 10**8, 10**8 + 1, 2**32, 2**63, 2**64 - 1, len(content), dice.randrange(len(content)))
    )
    return write(folder, struct.pack("<Q", length) + content[8:]), f"{length}"


def wrong_code(dice: random.Random, source: Source, folder: Path) -> tuple[Path, str]:
    """Another dtype claimed for the same bytes; of the same width it is a sound file of nonsense."""
    file = whole(source)
    keys = file.keys() if dice.random() < 0.5 else [dice.choice(file.keys())]
    code = dice.choice((*CODES.values(), "BF16", "I16", *OTHER_CODES))
    for key in keys:
        file.header[key]["dtype"] = code
    return write(folder, file.bytes()), f"{code} for {len(keys)}"


def other_dtype(dice: random.Random, source: Source, folder: Path) -> tuple[Path, str]:
    """All weights, or one, converted: fp8 is to load, ints and complex numbers are not."""
    dtype = dice.choice(tuple(CODES))
    keys = list(source.tensors) if dice.random() < 0.6 else [dice.choice(list(source.tensors))]
    tensors = source.tensors | {key: source.tensors[key].to(dtype) for key in keys}
    return write(folder, draft(tensors, source.metadata).bytes()), f"{dtype} for {len(keys)}"


def lying_shape(dice: random.Random, source: Source, folder: Path) -> tuple[Path, str]:
    file = whole(source)
    key = dice.choice(file.keys())
    shape = file.header[key]["shape"]
    wrong = dice.choice((
        [], [0], [0, *BIG[:2]], [dice.choice(BIG)], [2**32, 2**32], [-1], [1.5], ["4"], None, 4, [*shape, 1],
        [1] * 70, [0, 2**62], shape[::-1],
        [math.prod(shape)], [math.prod(shape), 1, 1, 1], [1, math.prod(shape)], [2 * n for n in shape],
    ))  # fmt: skip
    file.header[key]["shape"] = wrong
    return write(folder, file.bytes()), f"{key} {shape} -> {wrong}"


def resized(dice: random.Random, source: Source, folder: Path) -> tuple[Path, str]:
    """Another shape and as many numbers: a sound file of another network."""
    key = dice.choice(list(source.tensors))
    value = source.tensors[key]
    shape = list(value.shape)
    for _ in range(dice.choice((1, 1, 2))):
        if shape:
            shape[dice.randrange(len(shape))] = dice.choice((0, 1, 2, 3, 5, 8, 33, 64, 100, 500, 4096))
    if dice.random() < 0.3:
        shape = shape[: dice.randrange(len(shape) + 1)]
    if dice.random() < 0.1:
        shape = [0, dice.choice((10**6, 10**12, 2**62))]
    if math.prod(shape) > 2**22:
        shape = shape[:1]
    changed = torch.zeros(shape, dtype=value.dtype)
    return write(
        folder, draft(source.tensors | {key: changed}, source.metadata).bytes()
    ), f"{key} {tuple(value.shape)} -> {shape}"


def moved_offsets(dice: random.Random, source: Source, folder: Path) -> tuple[Path, str]:
    file = whole(source)
    one, other = dice.sample(file.keys(), 2)
    first, second = file.header[one], file.header[other]
    begin, end = first["data_offsets"]
    wrong = dice.choice((
        second["data_offsets"], [begin + 1, end + 1], [end, begin], [begin, end + 2], [0, 0], [-8, end],
        [begin, 2**63], [2**63, 2**64 - 1],
        [begin], [], None, [float(begin), float(end)], [begin, len(file.body)], [len(file.body),
        len(file.body) + end - begin],
    ))  # fmt: skip
    first["data_offsets"] = wrong
    if dice.random() < 0.3:
        second["data_offsets"] = [begin, end]
    return write(folder, file.bytes()), f"{one}: {wrong}"


def wrong_keys(dice: random.Random, source: Source, folder: Path) -> tuple[Path, str]:
    """A key renamed, removed, there once more under another name, or all of a part gone."""
    tensors = dict(source.tensors)
    key = dice.choice(list(tensors))
    number = dice.choice((1, 5, 999_999_999, 10**40, "007", "\u00b2", "-1"))
    numbered = ".".join(str(number) if part.isdigit() else part for part in key.split("."))
    name = dice.choice(
        (
            numbered,
            f"{key}.x",
            key.split(".", 1)[-1],
            f"unet.{key}",
            "",
            "\u202e" + key,
            "a" * 100_000,
            "\x1b[2J" + key,
            "vae.latent_mean",
            f"module.{key}",
        )
    )
    how = dice.choice(("rename", "remove", "double", "part", "swap"))
    if how == "rename":
        tensors[name] = tensors.pop(key)
    elif how == "remove":
        for gone in dice.sample(list(tensors), dice.choice((1, 1, 3))):
            del tensors[gone]
    elif how == "double":
        tensors[name] = tensors[key].clone()
    elif how == "part":
        prefix = ".".join(key.split(".")[: dice.choice((1, 2, 3))]) + "."
        tensors = {k: v for k, v in tensors.items() if not k.startswith(prefix)}
        name = prefix
    else:
        name = dice.choice(list(tensors))
        tensors[key], tensors[name] = tensors[name], tensors[key]
    if not tensors:
        tensors = {"x": torch.ones(1)}
    return write(folder, draft(tensors, source.metadata).bytes()), f"{how} {key} {name[:60]!r}"


def doubled_json(dice: random.Random, source: Source, folder: Path) -> tuple[Path, str]:
    """A key twice in the JSON itself, or JSON that is no header."""
    file = whole(source)
    text = json.dumps(file.header)
    key = dice.choice(file.keys())
    entry = f"{json.dumps(key)}: {json.dumps(file.header[dice.choice(file.keys())])}"
    text = dice.choice(
        (
            f"{{{entry}, {text[1:]}",
            "[]",
            "null",
            "{}",
            '{"a":' * 5000,
            text[:-1],
            f"{text} {text}",
            text.replace('"', "'"),
            "\x00" * 64,
        )
    )
    encoded = text.encode()
    return write(folder, struct.pack("<Q", len(encoded)) + encoded + bytes(file.body)), text[:40]


def wrong_metadata(dice: random.Random, source: Source, folder: Path) -> tuple[Path, str]:
    file = whole(source)
    metadata = file.header.setdefault("__metadata__", {})
    key = dice.choice(("settings", "latent_rgb", "scale", "training", "format", "set", "base"))
    rows = [[0.1, 0.2, 0.3]] * dice.choice((16, 17, 17, 17))
    colors = dice.choice(
        (
            rows,
            [*rows[:-1], [float("nan")] * 3],
            [*rows[:-1], [1e300] * 3],
            [*rows[:-1], [1, 2]],
            [*rows[:-1], "abc"],
            [*rows[:-1], [None] * 3],
        )
    )
    value = dice.choice(
        (
            *RUBBISH,
            json.dumps(colors),
            json.dumps(colors),
            "x" * 10**6,
            "compact",
            "sdxl",
            None,
            3,
            [1],
            {"a": 1},
        )
    )
    if key == "latent_rgb" and dice.random() < 0.6:
        value = json.dumps(colors)
    if dice.random() < 0.1:
        file.header["__metadata__"] = dice.choice((None, [], "x", 3, {}))
    else:
        metadata[key] = value
    return write(folder, file.bytes()), f"{key} = {str(value)[:60]!r}"


def wrong_settings(dice: random.Random, source: Source, folder: Path) -> tuple[Path, str]:
    """One number of the settings: what the file's shapes cannot show."""
    settings = json.loads(source.metadata.get("settings", "{}"))
    key = dice.choice(SETTINGS)
    value = dice.choice(
        (
            *HOSTILE_NUMBERS,
            *([number] * 4 for number in HOSTILE_NUMBERS),
            [1, 1, 1, 4],
            [4, 2, 1, 1],
            [1],
            [1] * 5,
            "paper",
            "official",
        )
    )
    settings[key] = value
    # Python refuses to write a number of 5,000 digits, as a person would not.
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    text = json.dumps(settings)
    sys.set_int_max_str_digits(limit)
    return write(
        folder, draft(source.tensors, source.metadata | {"settings": text}).bytes()
    ), f"{key} = {text[text.find(key) :][:70]}"


def wrong_values(dice: random.Random, source: Source, folder: Path) -> tuple[Path, str]:
    """Sound in form: numbers that are none, or too large for what comes after."""
    tensors = dict(source.tensors)
    keys = dice.sample(list(tensors), dice.choice((1, 1, 5, len(tensors))))
    how = dice.choice(("nan", "inf", "-inf", "zero", "huge", "negative", "one nan"))
    for key in keys:
        value = tensors[key].clone().float()
        if how == "one nan":
            value.view(-1)[dice.randrange(value.numel())] = float("nan")
        else:
            value = {"nan": value * float("nan"), "inf": value.abs() + float("inf"),
            "-inf": -value.abs() - float("inf"), "zero": value * 0,
                     "huge": value.sign() * 6e4, "negative": -value}[how]  # fmt: skip
        tensors[key] = value.to(tensors[key].dtype)
    return write(folder, draft(tensors, source.metadata).bytes()), f"{how} in {len(keys)}"


def widened(dice: random.Random, source: Source, folder: Path) -> tuple[Path, str]:
    """A file of a few bytes whose shapes, if one believes them, are of a network of terabytes."""
    factor = dice.choice((10**3, 10**6, 10**12))
    keys = list(source.tensors)
    some = set(keys if dice.random() < 0.5 else dice.sample(keys, 3))
    header, body = {"__metadata__": dict(source.metadata)}, bytearray()
    for key in keys:
        shape, data = list(source.tensors[key].shape), b""
        if key in some:
            shape = [n * factor if i < 2 else 0 for i, n in enumerate(shape)]
            shape = shape if 0 in shape else [0, *shape[1:]]
        else:
            data = source.tensors[key].reshape(-1).view(torch.uint8).numpy().tobytes()
        header[key] = {
            "dtype": CODES[source.tensors[key].dtype],
            "shape": shape,
            "data_offsets": [len(body), len(body) + len(data)],
        }
        body += data
    return write(folder, Draft(header, body).bytes()), f"{len(some)} by {factor}"


def wrong_shards(dice: random.Random, source: Source, folder: Path) -> tuple[Path, str]:
    """A set of three with a member that is missing, renamed, of another set, or there twice."""
    keys = sorted(source.tensors)
    thirds = [keys[i::3] for i in range(3)]
    count = dice.choice((3, 3, 3, 2, 4, 99999, 0))
    sets = ["a", "a", dice.choice(("a", "b"))]
    if dice.random() < 0.3:
        thirds[1] = thirds[1] + thirds[0][:2]
    paths = []
    for index, (mine, number) in enumerate(zip(thirds, sets), start=1):
        content = draft(
            {key: source.tensors[key] for key in mine}, source.metadata | {"set": number, "shards": "3"}
        ).bytes()
        paths.append(write(folder, content, f"wrong-{index:05d}-of-{count:05d}.safetensors"))
    hurt = dice.choice(("none", "missing", "empty", "pickle"))
    if hurt == "missing":
        paths[2].unlink()
    elif hurt == "empty":
        paths[1].write_bytes(b"")
    elif hurt == "pickle":
        paths[1].write_bytes(pickle.dumps({"x": 1}))
    return paths[0], f"of {count}, sets {sets}, {hurt}"


MUTATIONS = (
    flipped_header, edited_digits, edited_digits, flipped_body, truncated, longer, lying_length, wrong_code,
    other_dtype, lying_shape, resized, resized,
    moved_offsets, wrong_keys, wrong_keys, doubled_json, wrong_metadata, wrong_settings, wrong_settings,
    wrong_values, widened, wrong_shards,
    pickled, pickled, pickled,
)  # fmt: skip
