"""The moving average of the weights, which is what a stage hands on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


class EMA:
    """Exponential moving average of the trained parameters, fp32; short runs average over a tenth of what
    they did."""

    def __init__(self, parameters: dict[str, Tensor], decay: float, values: dict[str, Tensor] | None = None):
        """`values`: what a resumed run had reached; without them the average begins with the parameters."""
        self.decay, self.parameters = decay, parameters
        # In each parameter's own layout in memory: updates of another layout may be rounded otherwise.
        self.values = {
            k: torch.empty_like(p).copy_(values[k] if values else p).detach() for k, p in parameters.items()
        }

    @torch.no_grad()
    def update(self, step: int) -> None:
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(
            list(self.values.values()), [p.detach() for p in self.parameters.values()], weight
        )

    @torch.no_grad()
    def put(self) -> None:
        """Make the parameters the averaged ones."""
        for key, value in self.values.items():
            self.parameters[key].copy_(value)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within it the parameters are the averaged ones."""
        held = {key: parameter.detach().clone() for key, parameter in self.parameters.items()}
        self.put()
        try:
            yield
        finally:
            with torch.no_grad():
                for key, value in held.items():
                    self.parameters[key].copy_(value)
