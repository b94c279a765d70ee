"""How far a network looks: the halo, in latent pixels, with which tiles of it are as good as the whole."""

from __future__ import annotations

import math

from ..architecture.anchor import ANCHOR_REACH
from ..architecture.config import AutoencoderConfig, DAEMConfig, PriorConfig

KL_HALO = 16
"""The KL networks look at the whole picture (GroupNorm, attention), so no halo is exact; this one hides the seams."""
REACHED = 0.5
"""Of how far the compact networks could look, how far they do: what lies beyond changes no pixel by 1/10000 of the range, and halos cost time.

Measured with the trained weights, 512x512 in tiles of 256: the largest difference to the whole picture is below 0.001 of 255 at 0.6 of the
reach, 0.005 at 0.4, and 0.6 at 0.25.
"""


def trunk_halo(config: PriorConfig | AutoencoderConfig) -> int:
    """Halo of the LQ encoder's trunk, or of the autoencoder's encoder: a 3x3 stem and one 3x3 per NAF block, two per plain one."""
    if isinstance(config, PriorConfig) and config.kind == "kl":
        return KL_HALO
    blocks, plain = (config.blocks, config.plain) if isinstance(config, PriorConfig) else (config.encoder_blocks, ())
    pixels = 1 + sum(reach * 2**level for level, reach in enumerate(_reaches(blocks, plain)))
    return math.ceil(REACHED * pixels / 2 ** (len(blocks) - 1))


def decoder_halo(config: AutoencoderConfig | None, daem: DAEMConfig | None) -> int:
    """Halo of the decoder with DAEM in it: stem, blocks, and at each level the widest expert or the smaller copy's 3x3, and the anchor.

    None is the KL decoder.
    """
    if config is None:
        return KL_HALO
    deepest = len(config.decoder_blocks) - 1
    experts, anchor = [0] * (deepest + 1), 0
    if daem is not None:
        widest = max(d * (k // 2) for k, d in zip(daem.kernels, daem.dilations))
        experts = [max(pool, widest) for pool in daem.pools]
        anchor = ANCHOR_REACH if daem.anchored else 0
    pixels = 2**deepest + 1 + sum(
        (reach + experts[level]) * 2**level for level, reach in enumerate(_reaches(config.decoder_blocks, config.decoder_plain))
    )
    return math.ceil((REACHED * pixels + anchor) / 2**deepest)


def _reaches(blocks: tuple[int, ...], plain: tuple[int, ...]) -> list[int]:
    """How far each level's blocks look, in its own pixels."""
    return [count + 2 * extra for count, extra in zip(blocks, plain or (0,) * len(blocks), strict=True)]
