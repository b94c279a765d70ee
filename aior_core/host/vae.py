"""The compact autoencoder as ComfyUI's `VAE`, which every stock node with a VAE input accepts."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import comfy.model_management as management
import comfy.sd
from torch import Tensor

from ..models.autoencoder import Autoencoder
from ..models.calibration import DEFAULT, Calibration
from ..models.config import AutoencoderConfig
from .restorer import PICTURE_DTYPES, make_patcher, picture_dtype


class CompactVAE(comfy.sd.VAE):
    """A VAE whose `encode` gives normalised latents, the posterior's mean, and whose `decode` takes them.

    calibration: says how much memory the autoencoder takes.
    """

    def __init__(
        self,
        state_dict: dict[str, Tensor],
        config: AutoencoderConfig,
        calibration: Calibration = DEFAULT,
    ):
        with _quiet():
            super().__init__(sd={})
        factor = 2 ** (len(config.widths) - 1)
        per_pixel = calibration.values_per_channel * config.widths[0]
        self.latent_channels = config.latent_channels
        self.downscale_ratio = self.upscale_ratio = factor
        self.working_dtypes = PICTURE_DTYPES
        self.device = management.vae_device()
        self.output_device = management.intermediate_device()
        self.vae_dtype = picture_dtype(self.device)
        self.memory_used_encode = lambda shape, dtype: (
            per_pixel * shape[2] * shape[3] * management.dtype_size(dtype)
        )
        self.memory_used_decode = lambda shape, dtype: (
            per_pixel * factor**2 * shape[2] * shape[3] * management.dtype_size(dtype)
        )
        self.patcher = make_patcher(
            Autoencoder,
            config,
            state_dict,
            load_device=self.device,
            offload_device=management.vae_offload_device(),
            dtype=self.vae_dtype,
        )
        self.first_stage_model = self.patcher.model
        self.model_size()

    def encode_unit(self, picture: Tensor) -> Tensor:
        """Picture `B 3 H W` in -1..1, sides multiples of the factor -> normalised latent. The model must be
        loaded.
        """
        return self.first_stage_model.encode(picture.to(self.device, self.vae_dtype)).float()


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress ComfyUI's warning that there are no VAE weights: they are loaded right after."""

    def keep(record: logging.LogRecord) -> bool:
        return "No VAE weights detected" not in str(record.msg)

    logger = logging.getLogger()
    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)
