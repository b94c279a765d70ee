"""Small networks with random weights.

No weight is zero, so that no test passes because a part adds nothing.
"""

from __future__ import annotations

from pathlib import Path

import torch
from aior_pack.aior_core.degradations import DEGRADATIONS
from aior_pack.aior_core.models.autoencoder import Autoencoder
from aior_pack.aior_core.models.calibration import Calibration
from aior_pack.aior_core.models.config import (
    AutoencoderConfig,
    CompactConfig,
    DAEMConfig,
    DAFFConfig,
    PriorConfig,
    RestorerConfig,
    UNetConfig,
)
from aior_pack.aior_core.models.daem import DAEM
from aior_pack.aior_core.models.daff import DAFF
from aior_pack.aior_core.models.lq_encoder import PriorEncoder
from aior_pack.aior_core.weights import describe, save_weights
from torch import Tensor, nn

TINY = CompactConfig(
    autoencoder=AutoencoderConfig(
        widths=(8, 12, 16, 24),
        encoder_blocks=(1, 1, 1, 1),
        decoder_blocks=(1, 1, 1, 1),
        decoder_plain=(0, 1, 0, 0),
    ),
    unet=UNetConfig(model_channels=32, channel_mult=(1, 2), context_dim=24, head_channels=16),
    restorer=RestorerConfig(
        prior=PriorConfig(
            widths=(8, 12, 16, 24), blocks=(1, 1, 1, 1), plain=(0, 0, 1, 0), head_width=16, context_width=24
        ),
        daff=DAFFConfig(unet_width=32, condition_width=24, width=48, heads=2),
        daem=DAEMConfig(
            decoder_widths=(8, 12, 16, 24),
            skip_widths=(8, 12, 16, 24),
            widths=(8, 16, 16, 32),
            prior_width=24,
            context_width=12,
            anchor_starts=tuple(each.anchor_start for each in DEGRADATIONS),
        ),
        # Random weights use all of their receptive field, trained ones about half of it.
        calibration=Calibration(receptive_field_share=1.0),
    ),
)


SIX_KINDS = ("jpeg", "haze", "scratches", "noise", "rain", "low_light")
"""Another order than the pack's, and a kind that the pack does not know."""
SIX = CompactConfig(
    autoencoder=AutoencoderConfig(
        widths=(8, 8, 16, 32),
        encoder_blocks=(1, 1, 1, 1),
        decoder_blocks=(1, 1, 1, 1),
        decoder_plain=(1, 0, 0, 0),
        latent_channels=8,
    ),
    unet=UNetConfig(in_channels=8, model_channels=64, channel_mult=(1, 1), context_dim=16, head_channels=32),
    restorer=RestorerConfig(
        prior=PriorConfig(
            widths=(8, 16, 16, 32),
            blocks=(1, 1, 1, 1),
            plain=(0, 0, 0, 1),
            degradations=6,
            head_width=24,
            context_width=16,
            place_width=8,
        ),
        daff=DAFFConfig(unet_width=64, condition_width=32, width=32, heads=2),
        daem=DAEMConfig(
            decoder_widths=(8, 8, 16, 32),
            skip_widths=(8, 16, 16, 32),
            widths=(8, 8, 16, 32),
            prior_width=32,
            degradations=6,
            context_width=8,
            tone_width=16,
        ),
        kinds=SIX_KINDS,
        calibration=Calibration(receptive_field_share=1.0, found_probability=0.3, values_per_channel=12.0),
    ),
)
"""A second compact model: other widths, other kinds of degradation, another calibration."""


def randomised(network: nn.Module, seed: int = 0) -> nn.Module:
    """Give every parameter, biases too, a random value that is not zero and keeps activations near 1."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in network.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim >= 2 and parameter[0].numel() > 1:
            value = 0.8 * noise / parameter[0].numel() ** 0.5
        elif name.endswith(("weight", "scale", "temperature")):
            value = 1 + 0.2 * noise
        else:
            value = 0.2 * noise
        parameter.data = value.to(parameter)
    return network.eval()


def restorer_state(config: RestorerConfig, seed: int = 0) -> dict[str, Tensor]:
    """Random state dict with `prior.`, `daff.` and `daem.`."""
    networks = {"prior": PriorEncoder(config.prior), "daff": DAFF(config.daff)}
    if config.daem is not None:
        networks["daem"] = DAEM(config.daem, kinds=config.kinds)
    return flat(networks, seed)


def compact_state(config: CompactConfig = TINY, seed: int = 0) -> dict[str, Tensor]:
    """Random state dict of the whole compact model."""
    import comfy.ops
    from aior_pack.aior_core.models.unet import unet_parameters
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    unet = UNetModel(
        **unet_parameters(config.unet), dtype=torch.float32, operations=comfy.ops.disable_weight_init
    )
    return flat({"unet": unet, "vae": Autoencoder(config.autoencoder)}, seed) | restorer_state(
        config.restorer, seed
    )


def flat(networks: dict[str, nn.Module], seed: int) -> dict[str, Tensor]:
    """One state dict of several networks, each under its name."""
    return {
        f"{name}.{key}": value
        for name, network in networks.items()
        for key, value in randomised(network, seed).state_dict().items()
    }


def save_tiny(folder: Path, config: CompactConfig = TINY, seed: int = 0, name: str = "tiny") -> Path:
    """Write a small compact model in shards; returns the first."""
    return save_weights(folder / name, compact_state(config, seed), describe(config), max_bytes=400_000)[0]


def picture(height: int, width: int, *, batch: int = 1, channels: int = 3, seed: int = 0) -> Tensor:
    """IMAGE `B H W C`, smooth random colours with some noise, 0..1."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch, channels, 5, 5, generator=generator)
    smooth = nn.functional.interpolate(coarse, size=(height, width), mode="bicubic").movedim(1, -1)
    return (smooth + 0.1 * torch.randn(smooth.shape, generator=generator)).clamp(0, 1)


def ksampler(model, positive, negative, samples, *, seed=0, steps=3, cfg=1.0, **options):
    """What the host's KSampler node does."""
    import comfy.sample

    noise = comfy.sample.prepare_noise(samples, seed)
    return comfy.sample.sample(
        model,
        noise,
        steps,
        cfg,
        "euler",
        "simple",
        positive,
        negative,
        samples,
        seed=seed,
        disable_pbar=True,
        **options,
    )


def distance(a, b):
    return (a - b).abs().max().item()


def decode_job(walk, prior):
    """What decoding a prior's own latent with the networks of the fixture `walk` is."""
    from aior_pack.aior_core.pipeline.decode import DecodeJob, DecoderNetworks

    vae, restorer = walk.vae, walk.restorer
    networks = DecoderNetworks(
        vae.first_stage_model,
        restorer.encoder.model.trunk,
        restorer.config.prior,
        restorer.daem.model,
        vae.device,
        vae.vae_dtype,
    )
    return DecodeJob(prior.latent, networks, prior)
