"""Receptive fields: the halo, in latent pixels, with which a tile gives what the whole picture gives."""

from __future__ import annotations

import math
from itertools import accumulate

from ..models.config import AutoencoderConfig, DAEMConfig, PriorConfig
from ..models.low_frequency_anchor import ANCHOR_REACH

KL_HALO = 16
"""Halo of the KL networks. They look at the whole picture (GroupNorm, attention), so no halo is exact, but
this one hides the seams."""
LEVELS = 4
"""Levels of every decoder: latents are 8 times smaller than pictures."""


def trunk_halo(config: PriorConfig | AutoencoderConfig, levels: int | None = None, *, share: float) -> int:
    """Halo of the LQ encoder's trunk, or of the autoencoder's encoder: a 3x3 stem, one 3x3 per NAF block and
    two per plain block.

    levels: only the features of the first so many levels are needed. share:
    `Calibration.receptive_field_share`.
    """
    if isinstance(config, PriorConfig) and config.kind == "kl":
        return KL_HALO
    blocks, plain = (
        (config.blocks, config.plain) if isinstance(config, PriorConfig) else (config.encoder_blocks, ())
    )
    pixels = 1 + sum(reach * 2**level for level, reach in enumerate(_reaches(blocks, plain)[:levels]))
    return math.ceil(share * pixels / 2 ** (len(blocks) - 1))


def decoder_halos(
    config: AutoencoderConfig | None, daem: DAEMConfig | None, stop: int | None = None, *, share: float
) -> tuple[int, ...]:
    """Halos of a tile on its way through the decoder with DAEM: at each level, finest first, and last of its
    latent.

    The halo at a level is the receptive field of that level and of all finer ones: their blocks, their widest
    experts (or the 3x3 on the smaller copy), and the low-frequency anchor. So a tile shrinks from level to
    level.
    config: of our autoencoder; None is the KL decoder. daem: None is the plain decoder. stop: the tile ends
    at the statistics of this level, which needs DAEM. share: `Calibration.receptive_field_share`.
    """
    if config is None:
        return (KL_HALO,) * (LEVELS + 1)
    deepest = len(config.decoder_blocks) - 1
    experts, anchor = [0] * (deepest + 1), 0
    if daem is not None:
        widest = max(d * (k // 2) for k, d in zip(daem.kernels, daem.dilations))
        experts = [max(pool, widest) for pool in daem.pools]
        anchor = ANCHOR_REACH if daem.anchored else 0
    blocks = [
        (reach + experts[level]) * 2**level
        for level, reach in enumerate(_reaches(config.decoder_blocks, config.decoder_plain))
    ]
    # Only long chains of convolutions use less than their receptive field, so single ones count in full.
    end = 1 + anchor
    if stop is not None and daem is not None:
        blocks[: stop + 1] = [0] * (stop + 1)
        end = daem.pools[stop] * 2**stop
    far = [share * beyond + end for beyond in accumulate(blocks)]
    return tuple(math.ceil(pixels / 2**deepest) for pixels in (*far, far[-1] + 2**deepest))


def _reaches(blocks: tuple[int, ...], plain: tuple[int, ...]) -> list[int]:
    """The reach of each level's blocks in its own pixels: one per NAF block, two per plain block."""
    return [count + 2 * extra for count, extra in zip(blocks, plain or (0,) * len(blocks), strict=True)]
