"""DAFF Sampler: ComfyUI's own KSampler path on a MODEL with DAFF applied."""

from __future__ import annotations

from typing import Any

import comfy.sample
import comfy.utils
import torch
from comfy.model_patcher import ModelPatcher
from comfy.model_sampling import EPS
from comfy.samplers import KSampler, calculate_sigmas
from comfy.sd import CLIP
from torch import Tensor

from ..pipeline.fuse import official_start, pull_to_mean
from ..pipeline.prior import Prior, require_start
from ..pipeline.validate import mask_of, require_index, require_kind, require_numbers, samples_of
from ..pipeline.windows import windows_of
from .compatibility import require_prior
from .daff_patch import Conditioning, apply_daff
from .memory import SHARE, Need, available, choose_tile, with_smaller_tiles
from .progress import StepProgress
from .restorer import Restorer
from .windows import MINIMUM, with_windows

START_POINTS = ("noise", "lq", "lq_official")
NOISES = ("per picture", "same for all")
WHOLE_UP_TO, WINDOW = 1536, 1024
"""Where tile is 0: the largest side in pixels that is sampled whole, and the side of windows for larger
pictures. Attention takes time and memory with the square."""
LEAST_WINDOW = WHOLE_UP_TO
"""Where memory allows it, smaller tiles are raised to what tile 0 chooses, up to this side. Small tiles save
memory in encoder and decoder, which see every pixel, and not in the denoiser, which sees every eighth. And
the denoiser predicts something else for a part of a picture: with windows of 256 and 512, a hazy photograph
changes by up to 9 and 6 of 255."""


def sampler_names() -> list[str]:
    """ComfyUI's samplers, with those of other packs."""
    return list(KSampler.SAMPLERS)


def scheduler_names() -> list[str]:
    """ComfyUI's schedulers, with those of other packs."""
    return list(KSampler.SCHEDULERS)


def sample_daff(
    model: ModelPatcher,
    restorer: Restorer,
    prior: Prior,
    positive: Conditioning | None = None,
    negative: Conditioning | None = None,
    latent: dict[str, Any] | None = None,
    *,
    seed: int = 0,
    steps: int = 4,
    cfg: float = 1.0,
    sampler_name: str = "euler",
    scheduler: str = "simple",
    start: str = "noise",
    denoise: float = 1.0,
    fidelity: float = 0.0,
    strength: float = 1.0,
    tile: int = 0,
    noise: str = "per picture",
    clip: CLIP | None = None,
) -> dict[str, Any]:
    """Restore in latent space: LATENT `{"samples": B C h w}`, with the given latent's other entries, such as
    its mask.

    Without `latent`, `start` says where sampling starts: "noise" is pure noise; "lq" is the damaged picture's
    latent with as much noise as `denoise` says; "lq_official", for SDXL, mixes both as UniLDiff's code does.
    fidelity: 0 gives what Apply DAFF and KSampler give. Towards 1, every step is pulled to the first step's
    prediction, the posterior mean, and 1 is the result of a single step.
    tile: side in pixels of the overlapping windows that the denoiser gets. 0 takes the whole picture up to
    `WHOLE_UP_TO` pixels a side, and windows of `WINDOW` beyond. Smaller windows are used only if memory is
    short.
    noise: "per picture" gives every picture of a batch its own noise; "same for all" is for the frames of a
    video.
    clip: for SDXL, encodes the empty text where positive or negative is None.

    Raises ValueError for a latent of another size or kind than the prior's, an unknown choice, "lq_official"
    where it has no meaning, or a scheduler that fails with so few steps; RuntimeError for NaN, and if memory
    does not suffice.
    """
    require_numbers(cfg=cfg, denoise=denoise, fidelity=fidelity, strength=strength)
    _require_choices(start, noise, sampler_name, scheduler)
    require_kind("model", model, ModelPatcher, "a MODEL")
    require_prior(restorer, prior)
    if latent is None and start not in restorer.family.start_points:
        raise ValueError(
            f"the start point {start} is for SDXL, and this restorer ({restorer.source}) is of the family "
            f"{restorer.family.name}. Use {' or '.join(restorer.family.start_points)}."
        )
    official = start == "lq_official" and latent is None
    latent = _start_latent(model, prior, latent, start)
    samples = latent["samples"]
    if not torch.isfinite(samples).all():
        raise ValueError("the latent holds NaN or infinite values. Check the node that it comes from.")
    _require_sigmas(model, steps, sampler_name, scheduler, denoise)
    drawn = comfy.sample.prepare_noise(
        samples, seed, [0] * len(samples) if noise == NOISES[1] else latent.get("batch_index")
    )
    if official:
        samples, drawn = _official_start(model, samples, drawn, steps, scheduler, denoise)
    ratio = model.get_model_object("latent_format").spacial_downscale_ratio

    height, width = samples.shape[-2:]

    def run(side: int) -> Tensor:
        window = max(side // ratio, MINIMUM)
        pieces = len(windows_of(height, width, window, window // 4)) * len(samples)
        progress = StepProgress(model, steps, pieces)
        windowed = with_windows(model, window, samples.shape, progress.tick)
        patched, *conditionings = apply_daff(
            windowed, restorer, prior, positive, negative, strength=strength, clip=clip
        )
        if fidelity > 0:
            patched.set_model_sampler_post_cfg_function(pull_to_mean(fidelity))
        return comfy.sample.sample(
            patched,
            drawn,
            steps,
            cfg,
            sampler_name,
            scheduler,
            *conditionings,
            samples,
            denoise=denoise,
            noise_mask=latent.get("noise_mask"),
            callback=progress,
            disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
            seed=seed,
        )

    out = with_smaller_tiles(run, _window(model, samples.shape, ratio, tile), "sampling")
    if not torch.isfinite(out).all():
        raise RuntimeError(
            f"the denoiser made NaN or infinite values in {model.model.get_dtype_inference()}. Start ComfyUI "
            "with --fp32-unet."
        )
    return {**latent, "samples": out}


def _require_choices(start: str, noise: str, sampler_name: str, scheduler: str) -> None:
    """Raise ValueError naming a choice that does not exist, and those that do."""
    for value, known in ((start, START_POINTS), (noise, NOISES)):
        if value not in known:
            raise ValueError(f"unknown choice {value!r}; expected one of {', '.join(known)}.")
    samplers = {"sampler_name": (sampler_name, sampler_names()), "scheduler": (scheduler, scheduler_names())}
    for name, (given, names) in samplers.items():
        if given not in names:
            raise ValueError(f"this ComfyUI has no {name} {str(given)[:60]!r}; it has {', '.join(names)}.")


def _require_sigmas(
    model: ModelPatcher, steps: int, sampler_name: str, scheduler: str, denoise: float
) -> None:
    """Raise ValueError if ComfyUI's scheduler divides by zero, as kl_optimal does with a single step."""
    sigmas = KSampler(
        model, steps, model.load_device, sampler_name, scheduler, denoise, model.model_options
    ).sigmas
    if not torch.isfinite(sigmas).all():
        raise ValueError(
            f"the scheduler {scheduler} makes NaN of the noise levels for {steps} steps. Take more steps, or "
            "another scheduler."
        )


def _window(model: ModelPatcher, shape: torch.Size, ratio: int, tile: int) -> int:
    """Side in pixels of the denoiser's windows. By the picture's size, not by free memory as other tiles:
    windows change the result a little."""
    height, width = (side * ratio for side in shape[-2:])
    need = Need(height, width, model.memory_required([1, shape[1], 1, 1]) / ratio**2)
    usual = need.whole if need.whole <= WHOLE_UP_TO else WINDOW
    least = min(usual, LEAST_WINDOW)
    if 0 < tile < least and need.bytes(least) <= SHARE * available(model.load_device):
        tile = least
    elif tile <= 0 and usual < need.whole:
        tile = usual
    return choose_tile(tile, need, model.load_device, "sampling")


def _start_latent(
    model: ModelPatcher, prior: Prior, latent: dict[str, Any] | None, start: str
) -> dict[str, Any]:
    if latent is None:
        return {"samples": torch.zeros_like(prior.latent) if start == "noise" else prior.latent}
    samples_of(latent)
    require_index(latent)
    mask_of(latent)
    # The temporal ratio, unknown to ComfyUI 0.20 and older, is for videos.
    samples = comfy.sample.fix_empty_latent_channels(
        model, latent["samples"], latent.get("downscale_ratio_spacial")
    )
    require_start(samples, prior)
    rest = {key: value for key, value in latent.items() if not key.startswith("downscale_ratio_")}
    return {**rest, "samples": samples}


def _official_start(
    model: ModelPatcher, latent: Tensor, noise: Tensor, steps: int, scheduler: str, denoise: float
) -> tuple[Tensor, Tensor]:
    """`official_start` for a MODEL. Raises ValueError unless it is an SDXL model at denoise 1."""
    sampling = model.get_model_object("model_sampling")
    if not isinstance(sampling, EPS) or denoise < 1:
        raise ValueError(
            "the start point lq_official is for SDXL and denoise 1. Use lq, which is for every MODEL and "
            "denoise."
        )
    first = float(calculate_sigmas(sampling, scheduler, steps)[0])
    return official_start(latent, noise, first, float(sampling.sigma_max))
