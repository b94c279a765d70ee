"""DAFF in the denoiser: the residual on its first feature, and the denoisers' predictions with it
(`docs/method.md`, section 3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..models.family import COMPACT, SDXL

CONDITION = "aior_prior"
TIMESTEPS = "aior_timesteps"
"""Keys of the condition and the timesteps in a CONDITIONING's `model_conds` and in ComfyUI's transformer
options."""


class Patcher(Protocol):
    """ComfyUI's `ModelPatcher`."""

    model: nn.Module


def fuse(daff: nn.Module, h: Tensor, condition: Tensor, timestep: Tensor, strength: float = 1.0) -> Tensor:
    """`h + strength * DAFF(h, condition, timestep)`.

    h: the denoiser's first feature, `B C h w`. condition: from `daff.embed`, of the same size. timestep: `B`,
    0..1000.
    """
    residual = daff(h, condition, timestep).to(h)
    return h + (residual if strength == 1 else strength * residual)


def fusion_options(
    daff: nn.Module, condition: Tensor, timestep: Tensor, site: tuple[str, int]
) -> dict[str, Any]:
    """Transformer options for `UNetModel` that apply `fuse` to the output of its block `site`
    (`Family.fusion_site`)."""

    def patch(h: Tensor, transformer_options: dict[str, Any]) -> Tensor:
        return fuse(daff, h, condition, timestep) if transformer_options["block"] == site else h

    return {"patches": {"input_block_patch": [patch]}}


@dataclass(frozen=True, eq=False)
class DAFFPatch:
    """Applies `fuse` to the denoiser's feature at `site`, as a patch and a wrapper for ComfyUI. Immutable:
    clones of a MODEL share it.

    sigma_start, sigma_end: the noise levels between which it is active. in_channels: of the denoiser's
    latents.
    """

    daff: Patcher
    strength: float
    sigma_start: float
    sigma_end: float
    in_channels: int
    site: tuple[str, int]

    def models(self) -> list[Patcher]:
        return [self.daff]

    def to(self, device_or_dtype: torch.device | torch.dtype) -> DAFFPatch:
        # ComfyUI moves the network through `models`, and the condition with its CONDITIONING.
        return self

    def __call__(self, h: Tensor, transformer_options: dict[str, Any]) -> Tensor:
        """input_block_patch: the feature h, `N C H W`, after any input block; DAFF joins it at `site`."""
        condition = transformer_options.get(CONDITION)
        if (
            condition is None
            or transformer_options["block"] != self.site
            or not self._active(transformer_options)
        ):
            return h
        return fuse(self.daff.model, h, condition, transformer_options[TIMESTEPS], self.strength)

    def _active(self, transformer_options: dict[str, Any]) -> bool:
        if self.strength == 0:
            return False
        sigma = float(transformer_options["sigmas"].flatten()[0])
        return self.sigma_end <= sigma <= self.sigma_start

    def wrap(self, executor, x, timesteps, context, y, control, transformer_options, **kwargs):
        """DIFFUSION_MODEL wrapper: takes the condition out of the arguments and hands it to the patch."""
        condition = kwargs.pop(CONDITION, None)
        if x.shape[1] != self.in_channels:
            raise ValueError(
                f"the latent has {x.shape[1]} channels, this MODEL takes {self.in_channels}. "
                "Use the LATENT of Encode Degradation Prior, or an empty latent of the right kind."
            )
        if condition is not None:
            if condition.shape[2:] != x.shape[2:]:
                raise ValueError(
                    f"the latent is {tuple(x.shape[2:])}, the prior {tuple(condition.shape[2:])} (height, "
                    "width in "
                    "latent pixels): they belong to pictures of different sizes. Give Apply DAFF the prior "
                    "of the picture that is restored."
                )
            transformer_options = {**transformer_options, CONDITION: condition, TIMESTEPS: timesteps}
        return executor(x, timesteps, context, y, control, transformer_options, **kwargs)


def predict_velocity(
    unet: nn.Module, daff: nn.Module, x: Tensor, sigma: Tensor, tokens: Tensor, condition: Tensor | None
) -> Tensor:
    """The compact denoiser's velocity, noise minus clean latent, `B C h w`, with DAFF where there is a
    condition.

    x: noisy latents `B C h w`. sigma: `B`, 0..1, the share of noise in them. tokens: degradation tokens, `B K
    D`.
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

    x: variance-preserving latents `B C h w`. timestep: `B`, whole numbers 0..999. context: text tokens `B T
    D`. label: `B Y`.
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
    """Integrate the rectified flow from pure noise `B C h w` in `steps` equal steps of sigma from 1 to 0: the
    clean latent.

    predict: `predict(x, sigma)` gives the velocity at `x` for sigma `B`. ComfyUI's sampler "euler" with the
    scheduler "simple" takes the same steps, with sigma rounded to a multiple of 0.001.
    """
    x = noise
    for now, after in pairwise(torch.linspace(1, 0, steps + 1, device=x.device)):
        x = x + (after - now) * predict(x, now.expand(len(x))).float()
    return x


def pull_to_mean(fidelity: float) -> Callable[[dict[str, Any]], Tensor]:
    """A post-CFG function for ComfyUI: it pulls each step's denoised latent towards the first step's, which
    is the posterior mean.

    fidelity: 0 changes nothing, 1 gives the first step's latent. Make a new function for every run.
    """
    mean: Tensor | None = None

    def pull(args: dict[str, Any]) -> Tensor:
        nonlocal mean
        denoised = args["denoised"]
        if mean is None:
            mean = denoised
        return denoised + fidelity * (mean - denoised)

    return pull


def official_start(latent: Tensor, noise: Tensor, sigma: float, last: float) -> tuple[Tensor, Tensor]:
    """UniLDiff's start point: the latent and the noise with which ComfyUI starts at sqrt(a) z + sqrt(1 - a)
    sqrt(sigma^2 + 1) n.

    a is abar of the last timestep. UniLDiff's code mixes the latent z and the noise n like this for a
    variance-preserving sampler, but then samples with Euler, so that z has little weight (`docs/method.md`,
    section 8).
    sigma: the first noise level of the schedule. last: the highest noise level.
    """
    kept = 1 / (last**2 + 1)
    # ComfyUI scales noise by sqrt(sigma^2 + 1) at the highest sigma, and by sigma at all others.
    scale = 1.0 if sigma > (1 - 1e-5) * last else (sigma**2 + 1) ** 0.5 / sigma
    return kept**0.5 * latent, (1 - kept) ** 0.5 * scale * noise
