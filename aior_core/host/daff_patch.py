"""DAFF on a MODEL: the condition travels in the CONDITIONING, and a patch on the denoiser's first block holds
the networks.

A patch cannot hold the condition, because it does not see the crops of area conds, masks, context windows and
chunks of a batch. ComfyUI cuts, repeats and joins what is in the CONDITIONING as it does the latent.
"""

from __future__ import annotations

import comfy.conds
import comfy.model_management as management
import node_helpers
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from comfy.sd import CLIP
from torch import Tensor

from ..pipeline.dedupe_cond_uncond import dedupe_cond_uncond
from ..pipeline.fuse import CONDITION, DAFFPatch
from ..pipeline.prior import Prior
from ..pipeline.validate import require_kind, require_numbers
from .compatibility import require_prior, require_steerable
from .default_conditioning import Conditioning, filled
from .restorer import Restorer
from .trained_sampling import require_trained_sampling, trained_sampling_only

KEY = "aior_daff"


def apply_daff(
    model: ModelPatcher,
    restorer: Restorer,
    prior: Prior,
    positive: Conditioning | None = None,
    negative: Conditioning | None = None,
    *,
    strength: float = 1.0,
    start_percent: float = 0.0,
    end_percent: float = 1.0,
    clip: CLIP | None = None,
) -> tuple[ModelPatcher, Conditioning, Conditioning]:
    """Put DAFF on a clone of MODEL, and the prior into positive and negative; for any sampler or guider of
    ComfyUI.

    Without positive or negative, the compact model gets the prior's degradation tokens and the null tokens,
    and SDXL the empty text, encoded by `clip`. DAFF that was applied before is replaced. strength 0 adds
    nothing. start_percent, end_percent: parts of the schedule, 0 is its beginning.

    Raises ValueError if restorer, prior and MODEL do not fit together, if a patch makes ComfyUI sample MODEL
    in another way than it was trained (for later patches, the sampler raises it), if an SDXL restorer gets
    neither CONDITIONING nor `clip`, or if no network would follow a steered prior.
    """
    require_numbers(strength=strength, start_percent=start_percent, end_percent=end_percent)
    require_prior(restorer, prior)
    require_steerable(restorer, prior)
    in_channels = require_model(model, restorer, prior)
    require_trained_sampling(model)
    for name, given in (("positive", positive), ("negative", negative)):
        if given is not None:
            require_kind(name, given, list, "a CONDITIONING, or nothing")
    positive, negative = filled(model, restorer, prior, positive, negative, clip)
    sampling = model.get_model_object("model_sampling")
    patch = DAFFPatch(
        restorer.daff,
        strength,
        float(sampling.percent_to_sigma(start_percent)),
        float(sampling.percent_to_sigma(end_percent)),
        in_channels,
        restorer.family.fusion_site,
    )
    model = without_daff(model)
    model.set_model_input_block_patch(patch)
    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, KEY, patch.wrap)
    model.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, KEY, dedupe_cond_uncond)
    model.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, KEY, trained_sampling_only)
    condition = embed_condition(restorer, prior)
    return model, _with_condition(positive, condition), _with_condition(negative, condition)


def without_daff(model: ModelPatcher) -> ModelPatcher:
    """A clone of MODEL without DAFF."""
    model = model.clone()
    for place in (WrappersMP.DIFFUSION_MODEL, WrappersMP.CALC_COND_BATCH, WrappersMP.PREPARE_SAMPLING):
        model.remove_wrappers_with_key(place, KEY)
    patches = model.model_options["transformer_options"].get("patches", {})
    if "input_block_patch" in patches:
        patches["input_block_patch"] = [
            p for p in patches["input_block_patch"] if not isinstance(p, DAFFPatch)
        ]
    return model


def embed_condition(restorer: Restorer, prior: Prior) -> Tensor:
    """DAFF's condition for whole pictures, `B unet_width h w`, fp32, on the intermediate device."""
    daff = restorer.daff
    batch, channels, height, width = prior.features.shape
    needed = 8 * batch * channels * height * width * management.dtype_size(torch.float32)
    management.load_models_gpu([daff], memory_required=needed)
    return daff.model.embed(prior.features.to(daff.load_device, torch.float32)).to(
        management.intermediate_device()
    )


def require_model(model: ModelPatcher, restorer: Restorer, prior: Prior) -> int:
    """Raise ValueError unless MODEL is the kind of denoiser that the restorer was made for. Returns the
    channels of its input."""
    require_kind("model", model, ModelPatcher, "a MODEL")
    network = model.get_model_object("diffusion_model")
    kind = type(network).__name__
    advice = f"Connect {restorer.family.model_source}."
    if not hasattr(network, "input_blocks") or not hasattr(network, "model_channels"):
        raise ValueError(f"MODEL is a {kind}; DAFF joins UNets only. {advice}")
    latent = model.get_model_object("latent_format").latent_channels
    wanted, found = restorer.config.daff.unet_width, network.model_channels
    labelled = network.num_classes is not None
    if wanted != found or latent != prior.latent.shape[1] or labelled != restorer.family.has_class_labels:
        raise ValueError(
            f"this restorer ({restorer.source}, family {restorer.family.name}) joins denoisers of width "
            f"{wanted} with "
            f"{prior.latent.shape[1]} latent channels; this MODEL has width {found} and {latent} latent "
            f"channels. {advice}"
        )
    return network.in_channels


def _with_condition(conditioning: Conditioning, condition: Tensor) -> Conditioning:
    out = []
    for tokens, options in conditioning:
        model_conds = {**options.get("model_conds", {}), CONDITION: comfy.conds.CONDNoiseShape(condition)}
        out += node_helpers.conditioning_set_values([[tokens, options]], {"model_conds": model_conds})
    return out
