"""Low light: exposure lost, contrast bent, then the noise of a sensor that had few photons."""

import torch

from .fields import stream

# A stop halves linear light; pictures are stored with a gamma of about this.
_DISPLAY_GAMMA = 2.2


def lower_light(picture: torch.Tensor, params: dict, seed: int) -> torch.Tensor:
    """Darken ``picture`` (``B C H W``, 0..1) by ``params["stops"]`` and add shot and read noise; the caller clamps."""
    _, channels, height, width = picture.shape
    stops = params["stops"]
    share = min(1.0, stops / 5.0)
    tint = torch.tensor(params["tint"]).to(picture).view(1, -1, 1, 1)
    tint = 1.0 + (tint - 1.0) * share
    dark = picture.clamp_min(0.0).pow(1.0 + params["contrast"] * share) * tint * 2.0 ** (-stops / _DISPLAY_GAMMA)
    noise = torch.randn(channels, height, width, generator=stream(seed)).to(picture)
    deviation = (params["shot"] ** 2 * dark * 4.0 + params["read"] ** 2).sqrt()
    return dark + noise * deviation * share
