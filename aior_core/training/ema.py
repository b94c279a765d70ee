"""The exponential moving average of the weights, which is what a stage hands on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn


class EMA:
    """The average of the trained parameters, in fp32. Over short runs it covers the last tenth of the steps.

    The update is PyTorch's own. `torch.optim.swa_utils.AveragedModel` itself does not fit: it copies whole
    modules (here five networks, most of them frozen, with layers whose forward functions are bound), its
    first update replaces the average, and its decay is constant.
    """

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        decay: float,
        values: Mapping[str, Tensor] | None = None,
    ):
        """values: the average of the run that is resumed; without it the average starts from the
        parameters."""
        self.decay, self.parameters = decay, dict(parameters)
        # In each parameter's own memory layout: updates in another layout may be rounded otherwise.
        self.values = {
            k: torch.empty_like(p).copy_(values[k] if values else p).detach() for k, p in parameters.items()
        }

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the average towards the parameters after step `step`, counted from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        current = [p.detach() for p in self.parameters.values()]
        get_ema_multi_avg_fn(decay)(list(self.values.values()), current, step)

    @torch.no_grad()
    def copy_to_parameters(self) -> None:
        """Overwrite the parameters with their average."""
        for key, value in self.values.items():
            self.parameters[key].copy_(value)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the parameters are their average; on leaving they are the trained ones again."""
        trained = {key: parameter.detach().clone() for key, parameter in self.parameters.items()}
        self.copy_to_parameters()
        try:
            yield
        finally:
            with torch.no_grad():
                for key, value in trained.items():
                    self.parameters[key].copy_(value)
