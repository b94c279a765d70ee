"""The compact model's own parts, autoencoder and denoiser: their configs from the weights, and whether they
fit the restorer."""

from __future__ import annotations

from torch import Tensor

from ...models.config import AutoencoderConfig, CompactConfig, UNetConfig
from ...models.family import COMPACT
from ..consistency import differences
from ..metadata import whole
from ..shapes import block_counts, count_modules, shape_of, trunk_widths


def autoencoder_config(tensors: dict[str, Tensor]) -> AutoencoderConfig:
    """The config of the autoencoder from its tensors. Raises KeyError or ValueError for tensors that decide
    it and are wrong.
    """
    widths = trunk_widths(tensors, "encoder.trunk.")
    decoder_blocks, decoder_plain = block_counts(tensors, "decoder.", len(widths))
    return AutoencoderConfig(
        widths=widths,
        encoder_blocks=block_counts(tensors, "encoder.trunk.", len(widths))[0],
        decoder_blocks=decoder_blocks,
        decoder_plain=decoder_plain,
        latent_channels=shape_of(tensors, "encoder.head.weight", 4)[0] // 2,
    )


def unet_config(tensors: dict[str, Tensor], settings: dict[str, object]) -> UNetConfig:
    """The config of the denoiser from its tensors and the file's settings. Raises as `autoencoder_config`
    does.
    """
    model_channels, in_channels = shape_of(tensors, "input_blocks.0.0.weight", 4)[:2]
    count = count_modules(tensors, "input_blocks.")
    blocks = [f"input_blocks.{i}.0.out_layers.3.weight" for i in range(count)]
    attention = min(
        (key for key in tensors if key.endswith("attn2.to_k.weight")), default="*.attn2.to_k.weight"
    )
    return UNetConfig(
        in_channels=in_channels,
        model_channels=model_channels,
        channel_mult=tuple(
            shape_of(tensors, key, 4)[0] // model_channels for key in blocks if key in tensors
        ),
        context_dim=shape_of(tensors, attention, 2)[1],
        head_channels=whole(settings, "unet.head_channels", UNetConfig.head_channels),
    )


def compact_problems(config: CompactConfig) -> list[str]:
    """What does not fit between autoencoder, denoiser and restorer, in words; empty if everything does."""
    autoencoder, unet, restorer = config.autoencoder, config.unet, config.restorer
    problems = differences(("family", restorer.family.name), ("of a compact model", COMPACT.name))
    problems += differences(
        ("levels of the autoencoder", len(autoencoder.widths)), ("expected", COMPACT.levels)
    )
    problems += differences(
        ("latent channels of the autoencoder", autoencoder.latent_channels),
        ("of the denoiser", unet.in_channels),
    )
    problems += differences(
        ("channels of the denoiser", unet.model_channels), ("of DAFF", restorer.daff.unet_width)
    )
    if restorer.prior.head_width:
        problems += differences(
            ("channels of the denoiser's context", unet.context_dim),
            ("of the degradation tokens", restorer.prior.context_width),
        )
    else:
        problems.append("a compact model without degradation tokens for its denoiser")
    if restorer.daem is not None:
        problems += differences(
            ("channels of the autoencoder", autoencoder.widths), ("of DAEM", restorer.daem.decoder_widths)
        )
    return problems
