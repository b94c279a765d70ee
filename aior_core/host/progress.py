"""Progress of a sampling run whose steps consist of pieces: windows and frames."""

from __future__ import annotations

import comfy.utils
import latent_preview
from comfy.model_patcher import ModelPatcher
from torch import Tensor


class StepProgress:
    """Counts the pieces of each step, where ComfyUI's own callback counts steps, and shows ComfyUI's
    previews.

    Call `tick` after each piece with its share of the step, and the object itself after each step, as
    samplers do.
    """

    def __init__(self, model: ModelPatcher, steps: int, pieces: int):
        self._previewer = latent_preview.get_previewer(model.load_device, model.model.latent_format)
        self._bar = comfy.utils.ProgressBar(steps * pieces)
        self._pieces, self._step, self._done = pieces, 0, 0.0

    def tick(self, share: float) -> None:
        # Some samplers call the denoiser more than once a step: their later calls count for nothing, only
        # full steps do.
        self._done = min(1.0, self._done + share)
        self._bar.update_absolute(int(self._pieces * (self._step + self._done)))

    def __call__(self, step: int, denoised: Tensor, x: Tensor, total: int) -> None:
        self._step, self._done = step + 1, 0.0
        preview = (
            self._previewer.decode_latent_to_preview_image("JPEG", denoised) if self._previewer else None
        )
        self._bar.update_absolute((step + 1) * self._pieces, total * self._pieces, preview)
