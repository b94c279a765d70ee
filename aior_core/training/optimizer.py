"""The optimizers: Muon for the weights of convolutions, PyTorch's AdamW for everything else.

Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon) steps along the orthogonal matrix nearest to the
momentum, so that every direction of a weight moves equally far. Measured on all damages at once, three
minutes each from random weights, dB of noise 25 / rain: AdamW 27.5 / 18.5 after 467 steps, Muon 28.9 / 19.5
after 282.

`torch.optim.Muon` (PyTorch 2.9 and later) takes matrices only, not the weights `O I k k` of convolutions, and
orthogonalises them one after the other. Here all weights of equal shape are orthogonalised in one batch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

from .precision import fast_dtype

MUON_RATE = 10.0
"""Muon's learning rate, as a multiple of AdamW's."""
SLOW_RATE = 0.1
SMALLEST = 16
QUINTIC = (3.4445, -4.7750, 2.0315)


def orthogonalise(matrices: Tensor, iterations: int = 5) -> Tensor:
    """Newton-Schulz iteration: matrices `N m n` -> the same with all singular values near 1 (0.7 to 1.2), in
    the dtype given."""
    a, b, c = QUINTIC
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(iterations):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Muon for weights of convolutions `O I k k`, each taken as a matrix `O I*k*k`."""

    def __init__(self, parameters, lr: float, momentum: float = 0.95):
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure=None) -> None:  # type: ignore[override]
        """Take one step. A closure is not used."""
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if parameters:
                self._step(parameters, group["lr"], group["momentum"])

    def _step(self, parameters: list[Tensor], lr: float, momentum: float) -> None:
        gradients = [p.grad for p in parameters if p.grad is not None]
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter]["momentum"] = torch.zeros_like(parameter)
        momenta = [self.state[p]["momentum"] for p in parameters]
        torch._foreach_lerp_(momenta, gradients, 1 - momentum)
        by_shape: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = defaultdict(list)
        for parameter, nesterov in zip(
            parameters, torch._foreach_lerp(gradients, momenta, momentum), strict=True
        ):
            # Channels last, as weights lie in memory; the order of the columns makes no difference.
            by_shape[len(nesterov), nesterov[0].numel()].append((parameter, nesterov.permute(0, 2, 3, 1)))
        for (rows, columns), entries in by_shape.items():
            matrices = torch.stack([nesterov.reshape(rows, columns) for _, nesterov in entries])
            steps = orthogonalise(matrices.to(fast_dtype(matrices.device.type))).to(matrices.dtype)
            changes = [
                step.view(nesterov.shape).permute(0, 3, 1, 2)
                for (_, nesterov), step in zip(entries, steps, strict=True)
            ]
            rate = lr * max(1.0, rows / columns) ** 0.5
            torch._foreach_add_([parameter for parameter, _ in entries], changes, alpha=-rate)


def is_matrix(parameter: Tensor) -> bool:
    """Whether Muon trains a parameter: the weight of a convolution that mixes channels and is at least
    `SMALLEST` wide and high as a matrix."""
    return (
        parameter.ndim == 4
        and parameter.shape[1] > 1
        and min(len(parameter), parameter[0].numel()) >= SMALLEST
    )


class Optimizers:
    """Muon and AdamW together, driven by one learning rate, that of AdamW."""

    def __init__(
        self,
        parameters: list[Tensor],
        learning_rate: float,
        *,
        muon: bool = True,
        slow: Sequence[Tensor] = (),
        in_place: bool = False,
    ):
        """muon: False trains everything by AdamW, with the settings of UniLDiff's published scripts. slow:
        parameters that AdamW trains at a tenth of the rate. in_place: gradients are zeroed and stay
        allocated."""
        self.in_place = in_place
        betas, decay = ((0.9, 0.99), 1e-4) if muon else ((0.9, 0.999), 1e-2)
        held = {id(p) for p in slow}
        matrices = [p for p in parameters if muon and is_matrix(p) and id(p) not in held]
        held |= {id(p) for p in matrices}
        others = [p for p in parameters if id(p) not in held]
        self.parts: list[tuple[torch.optim.Optimizer, float]] = []
        for group, scale in ((others, 1.0), (list(slow), SLOW_RATE)):
            if group:
                adamw = torch.optim.AdamW(
                    group, lr=scale * learning_rate, betas=betas, weight_decay=decay, fused=True
                )
                self.parts.append((adamw, scale))
        if matrices:
            self.parts.append((Muon(matrices, lr=MUON_RATE * learning_rate), MUON_RATE))

    def step(self, learning_rate: float) -> None:
        """Step with `learning_rate`, then clear the gradients."""
        for part, scale in self.parts:
            for group in part.param_groups:
                group["lr"] = scale * learning_rate
            part.step()
            part.zero_grad(set_to_none=not self.in_place)

    def state(self, names: dict[str, Tensor]) -> dict[str, Tensor]:
        """The optimizers' state of the parameters `names`, as `NAME/SLOT`: the tensors themselves, no
        copies."""
        return {
            f"{name}/{slot}": value
            for name, parameter in names.items()
            for part, _ in self.parts
            for slot, value in part.state.get(parameter, {}).items()
        }

    def restore(self, names: dict[str, Tensor], state: dict[str, Tensor]) -> None:
        """Restore what `state` gave.

        Tensors get the device, the dtype and the memory layout of their parameter, so that the next step is
        rounded as it would have been. Raises ValueError for a name that is not trained here, and for another
        shape.
        """
        owners = {
            id(parameter): part
            for part, _ in self.parts
            for group in part.param_groups
            for parameter in group["params"]
        }
        for key, value in state.items():
            name, _, slot = key.rpartition("/")
            parameter = names.get(name)
            if parameter is None or value.ndim and value.shape != parameter.shape:
                raise ValueError(
                    f"the checkpoint holds the optimizer's {slot} of {name}, "
                    "which is not trained here or has another shape"
                )
            counts = slot == "step"
            like = torch.empty((), device=parameter.device) if counts else torch.empty_like(parameter)
            owners[id(parameter)].state[parameter][slot] = like.copy_(value)
