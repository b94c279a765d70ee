"""Which experts the routers choose. A router that sends everything to one expert has collapsed; this shows
it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..models.daem_level import Routing


def shares(routings: Sequence[Routing]) -> Tensor:
    """Routings, deepest level first -> the share of samples that each expert got, `levels E`, finest level
    first.

    A row adds up to the number of experts per sample.
    """
    return torch.stack([(r.gates > 0).float().mean(dim=0) for r in reversed(routings)]).detach()


def line(shares: Tensor) -> str:
    """`levels E` as percentages, with a bar between levels: `97  1  2  0 | 25 25 25 25`."""
    return " | ".join(" ".join(f"{100 * share:3.0f}" for share in level) for level in shares.tolist())
