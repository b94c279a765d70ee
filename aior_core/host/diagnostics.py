"""A restoration with meters on: how much DAFF adds at every step, and which expert each region of the picture
votes for.

The meters are ComfyUI's own patches on either side of DAFF's, and `watch` of `decode_daem`. They only read:
the picture is the one that DAFF Sampler and DAEM Decode give with the same settings.
"""

from __future__ import annotations

from typing import Any

import torch
from comfy.model_patcher import ModelPatcher
from comfy.sd import CLIP, VAE
from torch import Tensor

from ..models.daem_level import Routing
from ..picture.tiles import Region
from ..pipeline.diagnostics import FusionMeter, Inside, Level
from ..pipeline.prior import Prior
from ..pipeline.prior_batch import rows_of
from ..pipeline.validate import require_kind, require_numbers
from .compatibility import require_prior, require_vae
from .daem_decode import decode_daem
from .default_conditioning import Conditioning
from .restorer import Restorer
from .sampling import sample_daff


def put_on(meter: FusionMeter, model: ModelPatcher) -> ModelPatcher:
    """A clone of MODEL with the meter. Apply DAFF must come after it, as that puts its patch behind all
    others."""
    model = model.clone()
    model.set_model_input_block_patch(meter.before)
    patches = model.model_options["transformer_options"]["patches"]
    # First in the list: the patches of other packs may change the feature afterwards.
    later = patches.get("input_block_patch_after_skip", [])
    patches["input_block_patch_after_skip"] = [meter.after, *later]
    return model


def look_inside(
    model: ModelPatcher,
    vae: VAE,
    restorer: Restorer,
    prior: Prior,
    positive: Conditioning | None = None,
    negative: Conditioning | None = None,
    *,
    seed: int = 0,
    steps: int = 4,
    cfg: float = 1.0,
    strength: float = 1.0,
    clip: CLIP | None = None,
) -> Inside:
    """Restore the pictures of a prior as DAFF Sampler (Euler, simple schedule, from noise) and DAEM Decode
    do, and record what happens.

    strength: of DAFF. Pictures are sampled one after the other, each with the noise that it has in the batch.
    Raises what `sample_daff` and `decode_daem` raise.
    """
    require_numbers(cfg=cfg, strength=strength)
    require_kind("model", model, ModelPatcher, "a MODEL")
    require_prior(restorer, prior)
    require_vae(restorer, vae)
    influence, latents = [], []
    batch, height, width = len(prior.latent), *prior.latent.shape[-2:]
    daem = restorer.config.daem if restorer.daem is not None else None
    levels = [Level.empty(batch, len(daem.kernels), height, width) for _ in daem.widths] if daem else []

    def watch(picture: int, level: int, region: Region, routing: Routing, votes: Tensor) -> None:
        levels[level].record(picture, region, routing, votes)

    options: dict[str, Any] = {"seed": seed, "steps": steps, "cfg": cfg, "strength": strength, "clip": clip}
    for index in range(batch):
        meter = FusionMeter(restorer.family.fusion_site)
        alone = rows_of(prior, slice(index, index + 1))
        start = {"samples": torch.zeros_like(alone.latent), "batch_index": [index]}
        sampled = sample_daff(put_on(meter, model), restorer, alone, positive, negative, start, **options)
        latents.append(sampled["samples"])
        influence.append(meter.influence.steps)
    image = decode_daem({"samples": torch.cat(latents)}, vae, restorer, prior, watch=watch)
    return Inside(influence, levels, image)
