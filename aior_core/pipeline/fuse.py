"""DAFF in the denoiser: the residual on its first feature, and the denoisers' predictions with it (`docs/method.md`, section 3)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from ..models.family import COMPACT, SDXL


def fuse(daff: nn.Module, h: Tensor, condition: Tensor, timestep: Tensor, strength: float = 1.0) -> Tensor:
    """`h + strength * DAFF(h, condition, timestep)`.

    h: the denoiser's first feature, `B C h w`. condition: from `daff.embed`, of the same size. timestep: `B`, 0..1000.
    """
    residual = daff(h, condition, timestep).to(h)
    return h + (residual if strength == 1 else strength * residual)


def fusion_options(
    daff: nn.Module, condition: Tensor, timestep: Tensor, site: tuple[str, int]
) -> dict[str, Any]:
    """Transformer options for `UNetModel` that apply `fuse` to the output of its block `site` (`Family.fusion_site`)."""

    def patch(h: Tensor, transformer_options: dict[str, Any]) -> Tensor:
        return fuse(daff, h, condition, timestep) if transformer_options["block"] == site else h

    return {"patches": {"input_block_patch": [patch]}}


def predict_velocity(
    unet: nn.Module, daff: nn.Module, x: Tensor, sigma: Tensor, tokens: Tensor, condition: Tensor | None
) -> Tensor:
    """The compact denoiser's velocity, noise minus clean latent, `B C h w`, with DAFF where there is a condition.

    x: noisy latents `B C h w`. sigma: `B`, 0..1, the share of noise in them. tokens: degradation tokens, `B K D`.
    """
    timestep = 1000 * sigma
    options = {} if condition is None else fusion_options(daff, condition, timestep, COMPACT.fusion_site)
    return unet(x, timesteps=timestep, context=tokens, transformer_options=options)


def predict_noise(
    unet: nn.Module,
    daff: nn.Module,
    x: Tensor,
    timestep: Tensor,
    condition: Tensor,
    context: Tensor,
    label: Tensor,
) -> Tensor:
    """SDXL's predicted noise, `B C h w`, with DAFF, in the dtype of the UNet's weights.

    x: variance-preserving latents `B C h w`. timestep: `B`, whole numbers 0..999. context: text tokens `B T D`. label: `B Y`.
    """
    dtype = next(unet.parameters()).dtype
    return unet(
        x.to(dtype),
        timesteps=timestep,
        context=context.to(dtype),
        y=label.to(dtype),
        transformer_options=fusion_options(daff, condition, timestep, SDXL.fusion_site),
    )


def sample_euler(predict: Callable[[Tensor, Tensor], Tensor], noise: Tensor, steps: int) -> Tensor:
    """Integrate the rectified flow from pure noise `B C h w` in `steps` equal steps of sigma from 1 to 0: the clean latent.

    predict: `predict(x, sigma)` gives the velocity at `x` for sigma `B`. ComfyUI's sampler "euler" with the scheduler "simple" takes
    the same steps, with sigma rounded to a multiple of 0.001.
    """
    x = noise
    for now, after in pairwise(torch.linspace(1, 0, steps + 1, device=x.device)):
        x = x + (after - now) * predict(x, now.expand(len(x))).float()
    return x
