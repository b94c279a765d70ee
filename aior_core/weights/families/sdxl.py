"""Checkpoints of UniLDiff's and FaithDiff's own code, read as restorers for SDXL (docs/method.md, section 8).

Such a checkpoint is one flat state dict under diffusers' names: a whole SDXL UNet without a prefix, the LQ
encoder under `denoise_encoder.`, and the other networks of the restorer. `split_published` separates it into
a restorer under this pack's names and a UNet that keeps diffusers' names, which ComfyUI reads.

FaithDiff has an aligner in the place of DAFF's transformer. Its attention gets batch and tokens in the wrong
order, so each token attends over the batch. At inference the batch is the two identical rows of
classifier-free guidance, and attention over identical rows returns their value projection. Queries and keys
have no effect and are left out.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..detect import config_from, describe
from ..load import load_checkpoint
from ..save import save_weights
from ..shards import listed

WRAPPERS = ("module.", "_orig_mod.", "unet.")
"""Prefixes that PyTorch's and diffusers' wrappers put before a key."""
TRUNK = "denoise_encoder."
FUSION = "information_transformer_layers."
ALIASES = {"information_transformer_layes.": FUSION}
"""The spelling of FaithDiff's first release."""
CONDITION, PROJECTION = "condition_embedding.", "spatial_ch_projs."
UNET = (
    "conv_in.",
    "time_embedding.",
    "add_embedding.",
    "down_blocks.",
    "mid_block.",
    "up_blocks.",
    "conv_norm_out.",
    "conv_out.",
)

_TRUNK_RULES = (
    (re.compile(r"down_blocks\.(\d+)\.resnets\.(\d+)\.conv_shortcut\."), r"down.\1.block.\2.nin_shortcut."),
    (re.compile(r"down_blocks\.(\d+)\.resnets\.(\d+)\."), r"down.\1.block.\2."),
    (re.compile(r"down_blocks\.(\d+)\.downsamplers\.0\.conv\."), r"down.\1.downsample.conv."),
    (re.compile(r"mid_block\.resnets\.0\."), "mid.block_1."),
    (re.compile(r"mid_block\.resnets\.1\."), "mid.block_2."),
    (re.compile(r"conv_in\."), "conv_in."),
)
_ATTENTION = re.compile(r"mid_block\.attentions\.0\.(to_q|to_k|to_v|to_out\.0|group_norm)\.(weight|bias)")
_ATTENTION_NAMES = {"to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out", "group_norm": "norm"}
_ALIGNER_KEY = re.compile(r"(\d+)\.(.+)")
_ALIGNER_NAMES = {
    "ln_1.weight": "ln_1.weight",
    "ln_1.bias": "ln_1.bias",
    "ln_2.weight": "ln_2.weight",
    "ln_2.bias": "ln_2.bias",
    "attn.out_proj.weight": "out_proj.weight",
    "attn.out_proj.bias": "out_proj.bias",
    "mlp.c_fc.weight": "c_fc.weight",
    "mlp.c_fc.bias": "c_fc.bias",
    "mlp.c_proj.weight": "c_proj.weight",
    "mlp.c_proj.bias": "c_proj.bias",
}
_ALIGNER_VALUES = {"attn.in_proj_weight": "value.weight", "attn.in_proj_bias": "value.bias"}
"""Queries, keys and values in one tensor, of which the last third is kept."""


@dataclass(frozen=True)
class Published:
    """A published checkpoint in its parts.

    variant: "unildiff" or "faithdiff". restorer: tensors under this pack's prefixes. unet: tensors under
    diffusers' names, or empty.
    """

    variant: str
    restorer: dict[str, Tensor]
    unet: dict[str, Tensor]


def is_published(keys: Iterable[str]) -> bool:
    """Whether these are the keys of a UniLDiff or FaithDiff checkpoint, under any wrapper's prefix."""
    return any(name.startswith((TRUNK, FUSION)) for name in map(canonical, keys))


def canonical(key: str) -> str:
    """The key without wrappers' prefixes, in today's spelling."""
    while wrapper := next((w for w in WRAPPERS if key.startswith(w)), None):
        key = key[len(wrapper) :]
    return next((name + key[len(old) :] for old, name in ALIASES.items() if key.startswith(old)), key)


def split_published(state_dict: dict[str, Tensor]) -> Published:
    """Separate a checkpoint into restorer and UNet. The UNet may be missing, as in files with the restorer
    alone.

    Raises ValueError if two keys have the same meaning, a key belongs to no known network, or a network of
    the restorer is missing. Whether each network is complete is for `config_from` and ComfyUI to check.
    """
    tensors: dict[str, Tensor] = {}
    for key, value in state_dict.items():
        name = canonical(key)
        if name in tensors:
            raise ValueError(
                f"Two keys of this checkpoint have the same meaning: {key}, and another that is {name} too. "
                "It was saved with two wrappers at once; save its state dict again."
            )
        tensors[name] = value
    known = (TRUNK, FUSION, CONDITION, PROJECTION)
    foreign = [name for name in tensors if not name.startswith((*known, *UNET))]
    absent = [prefix for prefix in known if not any(name.startswith(prefix) for name in tensors)]
    if foreign or absent:
        problems = [
            f"unknown {listed(foreign)}" if foreign else "",
            f"nothing under {', '.join(absent)}" if absent else "",
        ]
        raise ValueError(
            f"This is not a complete UniLDiff or FaithDiff checkpoint: {'; '.join(filter(None, problems))}. "
            f"Expected an SDXL UNet under diffusers' names and a restorer under {', '.join(known)}."
        )
    fusion = _under(tensors, FUSION)
    is_faithdiff = any(_ALIGNER_KEY.fullmatch(key) for key in fusion)
    restorer = {
        f"prior.trunk.{_trunk_name(k)}": _trunk_value(k, v) for k, v in _under(tensors, TRUNK).items()
    }
    restorer |= {f"daff.{k}": v for k, v in tensors.items() if k.startswith((CONDITION, PROJECTION))}
    if is_faithdiff:
        restorer |= {f"daff.aligner.{k}": v for k, v in _aligner_tensors(fusion).items()}
    else:
        restorer |= {f"daff.{FUSION}{k}": v for k, v in fusion.items()}
    unet = {k: v for k, v in tensors.items() if k.startswith(UNET)}
    return Published("faithdiff" if is_faithdiff else "unildiff", restorer, unet)


def convert(path: Path, folder: Path, *, half: bool = True) -> list[Path]:
    """Write `STEM_restorer.safetensors` and, if the checkpoint has a UNet, `STEM_unet.safetensors` into
    `folder`.

    half: store fp16, the dtype in which the published codes run; otherwise each tensor keeps its dtype. The
    restorer's keys and shapes are checked first. Returns the paths. Raises ValueError if the file is no such
    checkpoint, is not complete, or has weights beyond the range of fp16.
    """
    state_dict, _ = load_checkpoint(path)
    if not is_published(state_dict):
        raise ValueError(
            f"{path.name} is no UniLDiff or FaithDiff checkpoint: it has no key that starts with {TRUNK} or "
            f"{FUSION} "
            "Give one of their released files."
        )
    published = split_published(state_dict)
    config = config_from(published.restorer)
    training = f"converted from {path.name}, a {published.variant} checkpoint"
    parts: tuple[tuple[str, dict[str, Tensor], dict[str, str]], ...] = (
        ("restorer", published.restorer, {**describe(config), "training": training}),
        ("unet", published.unet, {}),
    )
    dtype = torch.float16 if half else None
    written: list[Path] = []
    for name, tensors, metadata in parts:
        if tensors:
            stem = folder / f"{path.stem}_{name}"
            written += save_weights(stem, tensors, metadata, dtype=dtype, max_bytes=sys.maxsize)
    return written


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}


def _trunk_name(key: str) -> str:
    """A name in diffusers' VAE encoder -> the name in ComfyUI's."""
    if match := _ATTENTION.fullmatch(key):
        return f"mid.attn_1.{_ATTENTION_NAMES[match[1]]}.{match[2]}"
    for pattern, name in _TRUNK_RULES:
        if pattern.match(key):
            return pattern.sub(name, key)
    raise ValueError(
        "The LQ encoder of this checkpoint has a tensor that SDXL's VAE encoder does not have: "
        f"{TRUNK}{key}. "
        "It belongs to another model."
    )


def _trunk_value(key: str, value: Tensor) -> Tensor:
    """Attention's projections are linear layers in diffusers and 1x1 convolutions in ComfyUI."""
    return value[:, :, None, None] if _ATTENTION.fullmatch(key) and value.ndim == 2 else value


def _aligner_tensors(fusion: dict[str, Tensor]) -> dict[str, Tensor]:
    """FaithDiff's aligner -> the tensors of `models.daff.Aligner`.

    Raises ValueError for an unknown key, or a projection that does not hold queries, keys and values.
    """
    converted: dict[str, Tensor] = {}
    for key, value in fusion.items():
        match = _ALIGNER_KEY.fullmatch(key)
        name = match and (_ALIGNER_NAMES.get(match[2]) or _ALIGNER_VALUES.get(match[2]))
        if match is None or not name:
            raise ValueError(
                f"FaithDiff's aligner has no {key!r}; expected "
                f"{', '.join((*_ALIGNER_NAMES, *_ALIGNER_VALUES))} in each of its "
                "blocks. The file is damaged, or of another model."
            )
        if match[2] in _ALIGNER_VALUES:
            if not value.ndim or len(value) % 3:
                raise ValueError(
                    f"{key} has {len(value) if value.ndim else 'no'} rows; expected queries, keys and "
                    "values, three times as "
                    "many as one of them. The file is damaged; get it again."
                )
            value = torch.chunk(value, 3)[2].clone()
        converted[f"blocks.{match[1]}.{name}"] = value
    return converted
