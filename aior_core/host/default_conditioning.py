"""The default for positive and negative where nothing is connected: the estimated degradations, or the empty
text."""

from __future__ import annotations

from typing import Any

import comfy.model_management as management
from comfy.model_patcher import ModelPatcher
from comfy.sd import CLIP

from ..models.family import DefaultConditioning
from ..pipeline.prior import Prior
from .restorer import Restorer

Conditioning = list[list[Any]]


def filled(
    model: ModelPatcher,
    restorer: Restorer,
    prior: Prior,
    positive: Conditioning | None,
    negative: Conditioning | None,
    clip: CLIP | None,
) -> tuple[Conditioning, Conditioning]:
    """Positive and negative, with a default in place of None.

    The compact model gets the prior's degradation tokens and the null tokens. SDXL gets the empty text,
    encoded by `clip`, which is used for nothing else. Raises ValueError if an SDXL restorer gets neither them
    nor `clip`, or if `clip` belongs to another kind of model.
    """
    if positive is not None and negative is not None:
        return positive, negative
    if restorer.family.default_conditioning is DefaultConditioning.DEGRADATION_TOKENS:
        tokens, null = _tokens(restorer, prior)
    elif clip is None:
        raise ValueError(
            f"a restorer of the family {restorer.family.name} needs positive and negative, or clip. Connect "
            "two CLIP Text Encode nodes, "
            "both may be empty; or connect the checkpoint's CLIP to clip, and what is left open says nothing."
        )
    else:
        tokens = null = _nothing(model, clip)
    return tokens if positive is None else positive, null if negative is None else negative


def _tokens(restorer: Restorer, prior: Prior) -> tuple[Conditioning, Conditioning]:
    encoder = restorer.encoder
    management.load_models_gpu([encoder])
    out = management.intermediate_device()
    severities = prior.to_remove.to(encoder.load_device)
    tokens = encoder.model.tokens
    return [[tokens(severities).to(out), {}]], [[tokens.unknown(severities).to(out).clone(), {}]]


def _nothing(model: ModelPatcher, clip: CLIP) -> Conditioning:
    """What CLIP Text Encode gives for the empty text."""
    said = clip.encode_from_tokens_scheduled(clip.tokenize(""))
    wanted, found = model.model.model_config.unet_config["context_dim"], said[0][0].shape[-1]
    if wanted != found:
        raise ValueError(
            f"clip says {found} numbers a word, this MODEL listens to {wanted}: they belong to different "
            "kinds of models. "
            "Connect the CLIP of the MODEL's own checkpoint, or of its kind."
        )
    return said
