"""Random generators that are seeded by several values together."""

from __future__ import annotations

import hashlib

import torch


def seed_of(*parts: int | str) -> int:
    """A seed of 32 bits that changes when any of `parts` changes.

    PyTorch's CPU generator is a Mersenne Twister and reads only the low 32 bits of a seed. Sums and shifts of
    several numbers therefore collide, or lose a number altogether. A hash loses none.
    """
    text = " ".join(map(str, parts))
    # The byte order is written out because Python 3.10 has no default for it.
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def seeded(*parts: int | str) -> torch.Generator:
    """A CPU generator whose seed is `seed_of(*parts)`."""
    return torch.Generator().manual_seed(seed_of(*parts))
