"""The walk over the host's KL decoder: the same stops as our own decoder has."""

from __future__ import annotations

from comfy.sd import VAE
from torch import Tensor, nn
from torch.nn import functional as F

from .autoencoder import Autoencoder, Walk


def walk_of(vae: VAE, latent: Tensor) -> Walk:
    """The walk of whichever decoder `vae` has, from its latent `B C h w`.

    Raises ValueError for a VAE that is neither ours nor a two-dimensional KL autoencoder.
    """
    model = vae.first_stage_model
    if isinstance(model, Autoencoder):
        return model.walk(latent)
    decoder = getattr(model, "decoder", None)
    if (
        not hasattr(decoder, "up")
        or not hasattr(decoder, "mid")
        or getattr(decoder, "carried", False)
        or getattr(model, "bn", None)
    ):
        raise ValueError(
            f"DAEM Decode: no way into the decoder of a {type(model).__name__}. Use the VAE of an SDXL checkpoint."
        )
    return kl_walk(model, latent)


def kl_walk(model: nn.Module, latent: Tensor) -> Walk:
    """Stops after each level's blocks and before its step up, deepest first, as the host's `Decoder.forward` runs them."""
    decoder = model.decoder
    h = decoder.conv_in(model.post_quant_conv(latent) if hasattr(model, "post_quant_conv") else latent)
    h = decoder.mid.block_2(decoder.mid.attn_1(decoder.mid.block_1(h, None)), None)
    for level in reversed(range(decoder.num_resolutions)):
        up = decoder.up[level]
        for index, block in enumerate(up.block):
            h = block(h, None)
            if len(up.attn) > 0:
                h = up.attn[index](h)
        h = yield level, h
        if level:
            h = up.upsample(h)
    return h, decoder.conv_out(F.silu(decoder.norm_out(h)))
