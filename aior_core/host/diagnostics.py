"""A restoration with meters on: how much DAFF adds at every step, and which expert each region of the picture speaks for.

The meters are patches of the host's own on either side of DAFF, and `decode_daem`'s `watch`. They read and change nothing: the picture
is the one that DAFF Sampler and DAEM Decode make with the same settings.
"""

from __future__ import annotations

from typing import Any

import torch
from comfy.model_patcher import ModelPatcher
from comfy.sd import CLIP, VAE
from torch import Tensor

from ..models.daem_level import Routing
from ..picture.tiles import Region
from ..pipeline.prior import Prior, require_prior
from ..pipeline.prior_batch import rows_of
from ..pipeline.validate import require_kind, require_numbers
from ..report.diagnostics import Diagnostics, LevelRouting
from .daem_decode import decode_daem
from .default_conditioning import Conditioning
from .prior_encode import require_vae
from .restorer import Restorer
from .sampling import sample_daff

FIRST = ("input", 0)


class Meter:
    """Two patches on the denoiser's first block, one before and one after DAFF: what is added to the feature, relative to it.

    It counts what positive is predicted with. Windows count together, pixels that they share more than once.
    """

    def __init__(self):
        self._feature: Tensor | None = None
        self._energies: dict[float, Tensor] = {}

    @property
    def influence(self) -> list[float]:
        """Size (root of the sum of squares) of what was added over the size of the feature, by noise level, in the order of the run."""
        return [
            float((added / feature).sqrt()) if feature > 0 else 0.0
            for added, feature in self._energies.values()
        ]

    def put_on(self, model: ModelPatcher) -> ModelPatcher:
        """A clone of MODEL that is metered, for Apply DAFF, which puts its own patch behind all others."""
        model = model.clone()
        model.set_model_input_block_patch(self.before)
        patches = model.model_options["transformer_options"]["patches"]
        # Before those of other packs, which may go on to change the feature.
        patches["input_block_patch_after_skip"] = [
            self.after,
            *patches.get("input_block_patch_after_skip", []),
        ]
        return model

    def before(self, h: Tensor, transformer_options: dict[str, Any]) -> Tensor:
        """input_block_patch, the last one before DAFF's."""
        if transformer_options["block"] == FIRST:
            self._feature = h
        return h

    def after(self, h: Tensor, transformer_options: dict[str, Any]) -> Tensor:
        """input_block_patch_after_skip, the first one."""
        if transformer_options["block"] != FIRST:
            return h
        asked = [index for index, which in enumerate(transformer_options["cond_or_uncond"]) if which == 0]
        if asked:
            parts = (len(transformer_options["cond_or_uncond"]), -1)
            feature, fused = (x.unflatten(0, parts)[asked].float() for x in (self._feature, h))
            energies = torch.stack([(fused - feature).square().sum(), feature.square().sum()])
            sigma = float(transformer_options["sigmas"].flatten()[0])
            self._energies[sigma] = self._energies[sigma] + energies if sigma in self._energies else energies
        self._feature = None
        return h


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
) -> Diagnostics:
    """Restore the pictures of a prior as DAFF Sampler and DAEM Decode do (Euler, simple schedule, from noise), and say what happened on the way.

    strength is DAFF's. Pictures are sampled one after the other, each with the noise that it has in the batch.
    Raises what `sample_daff` and `decode_daem` raise.
    """
    require_numbers(cfg=cfg, strength=strength)
    require_kind("model", model, ModelPatcher, "a MODEL")
    require_prior(restorer, prior)
    require_vae(restorer, vae)
    influence, latents = [], []
    experts = len(restorer.config.daem.kernels) if restorer.daem is not None else 0
    shape = (len(prior.latent), experts, *prior.latent.shape[-2:])
    levels = [
        LevelRouting(torch.zeros(shape[:2]), torch.zeros(shape))
        for _ in (restorer.config.daem.widths if experts else ())
    ]

    def watch(picture: int, level: int, region: Region, routing: Routing, votes: Tensor) -> None:
        levels[level].weights[picture] = routing.logits[0].softmax(dim=0).cpu()
        region.place(levels[level].votes[picture : picture + 1], region.inner(votes))

    for index in range(len(prior.latent)):
        meter = Meter()
        alone = rows_of(prior, slice(index, index + 1))
        start = {"samples": torch.zeros_like(alone.latent), "batch_index": [index]}
        options = {"seed": seed, "steps": steps, "cfg": cfg, "strength": strength, "clip": clip}
        latents.append(
            sample_daff(meter.put_on(model), restorer, alone, positive, negative, start, **options)["samples"]
        )
        influence.append(meter.influence)
    image = decode_daem({"samples": torch.cat(latents)}, vae, restorer, prior, watch=watch)
    return Diagnostics(influence, levels, image)
