"""The decoder's walk, from level to level, for both kinds of autoencoder: ours, and the KL one of SDXL."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from .autoencoder import Autoencoder, Walk


def walk_of(autoencoder: nn.Module, latent: Tensor) -> Walk:
    """The decoder's walk from a latent `B C h w`, which is not scaled: for SDXL, divide the UNet's latent by
    its scale factor first.

    autoencoder: an `Autoencoder`, or ComfyUI's `AutoencoderKL`. Raises ValueError for any other, such as a
    video autoencoder.
    """
    if isinstance(autoencoder, Autoencoder):
        return autoencoder.walk(latent)
    decoder = getattr(autoencoder, "decoder", None)
    if (
        not hasattr(decoder, "up")
        or not hasattr(decoder, "mid")
        or getattr(decoder, "carried", False)
        or getattr(autoencoder, "bn", None)
    ):
        raise ValueError(
            f"DAEM cannot follow the decoder of a {type(autoencoder).__name__}. Use the VAE of an SDXL "
            "checkpoint."
        )
    return kl_walk(autoencoder, latent)


def kl_walk(autoencoder: Any, latent: Tensor) -> Walk:
    """The walk of a KL decoder: it runs as ComfyUI's `Decoder.forward` does, and stops at each level, deepest
    first, between its blocks and its upsampling."""
    decoder = autoencoder.decoder
    if hasattr(autoencoder, "post_quant_conv"):
        latent = autoencoder.post_quant_conv(latent)
    h = decoder.conv_in(latent)
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
