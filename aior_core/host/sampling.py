"""The DAFF Sampler: the host's own KSampler path on a MODEL with DAFF applied."""

from __future__ import annotations

from typing import Any

import comfy.sample
import comfy.utils
import latent_preview
import torch
from comfy.model_patcher import ModelPatcher
from comfy.model_sampling import EPS
from comfy.samplers import KSampler, calculate_sigmas
from torch import Tensor

from .daff_patch import Conditioning, apply_daff
from .inputs import require_index, require_kind, require_numbers, samples_of
from .prior import Prior, require_prior, require_same_size
from .restorer import Restorer
from .tiling import with_tiles

NODE = "DAFF Sampler"
START_POINTS = ("noise", "lq", "lq_official")


def sampler_names() -> list[str]:
    """The host's samplers, those of other packs among them."""
    return list(KSampler.SAMPLERS)


def scheduler_names() -> list[str]:
    """The host's schedulers, those of other packs among them."""
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
) -> dict[str, Any]:
    """Restore in latent space -> LATENT `{"samples": B C h w}` (with the given latent's other entries, its mask among them).

    Without `latent`, sampling starts from pure noise, from the damaged picture's latent, noised as much as `denoise` says (`start`
    "lq"), or from both as UniLDiff's code mixes them ("lq_official", for SDXL). With fidelity 0 the same as Apply DAFF and KSampler; towards 1 every step is pulled to the first
    one's prediction, the posterior mean, and 1 is the result of a single step. tile: side in pixels of the windows that
    the denoiser sees, 0 for the whole picture.
    Raises ValueError for a latent of another size or kind than the prior's, an unknown `start`, or "lq_official" where it means nothing.
    """
    require_numbers(NODE, cfg=cfg, denoise=denoise, fidelity=fidelity, strength=strength)
    if start not in START_POINTS:
        raise ValueError(f"{NODE}: unknown start point {start!r}; expected one of {', '.join(START_POINTS)}.")
    for name, given, known in (("sampler_name", sampler_name, sampler_names()), ("scheduler", scheduler, scheduler_names())):
        if given not in known:
            raise ValueError(f"{NODE}: this ComfyUI has no {name} {str(given)[:60]!r}; it has {', '.join(known)}.")
    require_kind(NODE, "model", model, ModelPatcher, "a MODEL")
    require_prior(restorer, prior, NODE)
    official = start == "lq_official" and latent is None
    latent = _start_latent(model, prior, latent, start)
    if tile > 0:
        ratio = model.get_model_object("latent_format").spacial_downscale_ratio
        model = with_tiles(model, tile // ratio)
    model, positive, negative = apply_daff(model, restorer, prior, positive, negative, strength=strength)
    if fidelity > 0:
        model.set_model_sampler_post_cfg_function(_pull_to_mean(fidelity))
    samples = latent["samples"]
    noise = comfy.sample.prepare_noise(samples, seed, latent.get("batch_index"))
    if official:
        samples, noise = _official_start(model, samples, noise, steps, scheduler, denoise)
    out = comfy.sample.sample(
        model,
        noise,
        steps,
        cfg,
        sampler_name,
        scheduler,
        positive,
        negative,
        samples,
        denoise=denoise,
        noise_mask=latent.get("noise_mask"),
        callback=latent_preview.prepare_callback(model, steps),
        disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
        seed=seed,
    )
    if not torch.isfinite(out).all():
        raise RuntimeError(
            f"{NODE}: the denoiser made NaN or infinite values in {model.model.get_dtype_inference()}. Start ComfyUI with --fp32-unet."
        )
    return {**latent, "samples": out}


def _start_latent(model: ModelPatcher, prior: Prior, latent: dict[str, Any] | None, start: str) -> dict[str, Any]:
    if latent is None:
        return {"samples": torch.zeros_like(prior.latent) if start == "noise" else prior.latent}
    samples_of(latent, NODE)
    require_index(latent, NODE)
    ratios = [latent.get(f"downscale_ratio_{kind}") for kind in ("spacial", "temporal")]
    samples = comfy.sample.fix_empty_latent_channels(model, latent["samples"], *ratios)
    channels = prior.latent.shape[1]
    if samples.shape[1] != channels:
        raise ValueError(
            f"{NODE}: the latent has {samples.shape[1]} channels, this MODEL's have {channels}. "
            "Encode the picture with the VAE that belongs to this MODEL, or use the LATENT of Encode Degradation Prior."
        )
    require_same_size(samples, prior, NODE)
    if len(samples) != len(prior.latent) and len(prior.latent) != 1:
        raise ValueError(f"{NODE}: {len(samples)} latents for a prior of {len(prior.latent)} pictures; expected as many.")
    rest = {key: value for key, value in latent.items() if not key.startswith("downscale_ratio_")}
    return {**rest, "samples": samples}


def _official_start(
    model: ModelPatcher, latent: Tensor, noise: Tensor, steps: int, scheduler: str, denoise: float
) -> tuple[Tensor, Tensor]:
    """Latent and noise from which the host makes x = sqrt(a) z + sqrt(1 - a) sqrt(sigma^2 + 1) eps, a = abar of the last timestep.

    unildiff.md section 6: a mix for a variance-preserving sampler, handed to Euler, so the latent z has little weight.
    """
    sampling = model.get_model_object("model_sampling")
    if not isinstance(sampling, EPS) or denoise < 1:
        raise ValueError(f"{NODE}: the start point lq_official is for SDXL and denoise 1. Use lq, which is for every MODEL and denoise.")
    sigma, last = (float(value) for value in (calculate_sigmas(sampling, scheduler, steps)[0], sampling.sigma_max))
    kept = 1 / (last**2 + 1)
    # From the highest sigma the host scales noise by sqrt(sigma^2 + 1), from all others by sigma.
    scale = 1.0 if sigma > (1 - 1e-5) * last else (sigma**2 + 1) ** 0.5 / sigma
    return kept**0.5 * latent, (1 - kept) ** 0.5 * scale * noise


def _pull_to_mean(fidelity: float):
    """A post-CFG function: keeps the first step's denoised, the posterior mean, and pulls every later one towards it."""
    mean: Tensor | None = None

    def pull(args: dict[str, Any]) -> Tensor:
        nonlocal mean
        denoised = args["denoised"]
        if mean is None:
            mean = denoised
        return denoised + fidelity * (mean - denoised)

    return pull
