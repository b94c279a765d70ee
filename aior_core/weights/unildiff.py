"""Checkpoints of UniLDiff's and FaithDiff's own code: a whole SDXL UNet with the restorer's networks inside it.

One flat dict under diffusers' names (unildiff.md 4.2): the UNet's keys have no prefix, the LQ encoder's `denoise_encoder.`, the
others those of DAFF. It is split into a restorer under our names and a UNet, which stays under diffusers' names: the host reads those.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from .faithdiff import ALIGNER, aligner_tensors, is_aligner
from .shards import listed

WRAPPERS = ("module.", "_orig_mod.", "unet.")
TRUNK = "denoise_encoder."
FUSION = "information_transformer_layers."
ALIASES = {"information_transformer_layes.": FUSION}
"""The first FaithDiff release spelt it so."""
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

_PARTS = {"to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out", "group_norm": "norm"}
_RULES = (
    (re.compile(r"down_blocks\.(\d+)\.resnets\.(\d+)\.conv_shortcut\."), r"down.\1.block.\2.nin_shortcut."),
    (re.compile(r"down_blocks\.(\d+)\.resnets\.(\d+)\."), r"down.\1.block.\2."),
    (re.compile(r"down_blocks\.(\d+)\.downsamplers\.0\.conv\."), r"down.\1.downsample.conv."),
    (re.compile(r"mid_block\.resnets\.0\."), "mid.block_1."),
    (re.compile(r"mid_block\.resnets\.1\."), "mid.block_2."),
    (re.compile(r"conv_in\."), "conv_in."),
)
_ATTENTION = re.compile(r"mid_block\.attentions\.0\.(to_q|to_k|to_v|to_out\.0|group_norm)\.(weight|bias)")


@dataclass(frozen=True)
class Published:
    """A checkpoint taken apart: `variant` "unildiff" or "faithdiff", `restorer` under our prefixes, `unet` under diffusers' names or empty."""

    variant: str
    restorer: dict[str, Tensor]
    unet: dict[str, Tensor]


def is_published(keys: Iterable[str]) -> bool:
    """Whether the keys are those of a UniLDiff or FaithDiff checkpoint, with whatever prefix they were saved."""
    return any(name.startswith((TRUNK, FUSION)) for name in map(canonical, keys))


def canonical(key: str) -> str:
    """The key without what wrappers of PyTorch or diffusers put in front of it, in today's spelling."""
    while wrapper := next((w for w in WRAPPERS if key.startswith(w)), None):
        key = key[len(wrapper) :]
    return next((name + key[len(old) :] for old, name in ALIASES.items() if key.startswith(old)), key)


def split_published(state_dict: dict[str, Tensor]) -> Published:
    """Take a checkpoint apart. The UNet may be missing: files with the restorer alone are around.

    Raises ValueError for two keys that mean the same, for keys that belong to nothing here, and for a restorer with a part missing.
    Whether every part is whole is `config_from`'s and the host's to check.
    """
    tensors: dict[str, Tensor] = {}
    for key, value in state_dict.items():
        name = canonical(key)
        if name in tensors:
            raise ValueError(
                f"Two keys of this checkpoint mean the same: {key} and another that is {name} too. It was saved twice over; save it again."
            )
        tensors[name] = value
    known = (TRUNK, FUSION, CONDITION, PROJECTION, *UNET)
    foreign = [name for name in tensors if not name.startswith(known)]
    absent = [
        prefix
        for prefix in (TRUNK, FUSION, CONDITION, PROJECTION)
        if not any(name.startswith(prefix) for name in tensors)
    ]
    if foreign or absent:
        problems = [
            f"unknown {listed(foreign)}" if foreign else "",
            f"nothing under {', '.join(absent)}" if absent else "",
        ]
        raise ValueError(
            f"This is no whole UniLDiff or FaithDiff checkpoint: {'; '.join(filter(None, problems))}. "
            f"Expected an SDXL UNet under diffusers' names and the restorer under {TRUNK}, {CONDITION}, {FUSION} and {PROJECTION}."
        )
    fusion = {name[len(FUSION) :]: value for name, value in tensors.items() if name.startswith(FUSION)}
    aligner = is_aligner(fusion)
    restorer = {f"prior.trunk.{_trunk_name(k)}": _trunk_value(k, v) for k, v in _under(tensors, TRUNK)}
    restorer |= {f"daff.{k}": v for k, v in tensors.items() if k.startswith((CONDITION, PROJECTION))}
    if aligner:
        restorer |= {f"daff.{ALIGNER}.{k}": v for k, v in aligner_tensors(fusion).items()}
    else:
        restorer |= {f"daff.{FUSION}{k}": v for k, v in fusion.items()}
    unet = {k: v for k, v in tensors.items() if k.startswith(UNET)}
    return Published("faithdiff" if aligner else "unildiff", restorer, unet)


def _under(tensors: dict[str, Tensor], prefix: str) -> list[tuple[str, Tensor]]:
    return [(name[len(prefix) :], value) for name, value in tensors.items() if name.startswith(prefix)]


def _trunk_name(key: str) -> str:
    """A name of diffusers' VAE encoder -> of the host's."""
    if match := _ATTENTION.fullmatch(key):
        return f"mid.attn_1.{_PARTS[match[1]]}.{match[2]}"
    for pattern, name in _RULES:
        if pattern.match(key):
            return pattern.sub(name, key)
    raise ValueError(
        f"The LQ encoder of this checkpoint has a part that SDXL's VAE encoder has not: {TRUNK}{key}."
    )


def _trunk_value(key: str, value: Tensor) -> Tensor:
    """Attention's projections are linears there and 1x1 convolutions here."""
    return value[:, :, None, None] if _ATTENTION.fullmatch(key) and value.ndim == 2 else value
