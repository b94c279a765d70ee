"""Joint tiled diffusion: at every step the denoiser runs on overlapping windows, and its predictions are blended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import comfy.model_management as management
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ..pipeline.windows import windows_of
from .memory import available

KEY = "aior_tiles"
MINIMUM = 16
AT_ONCE = 8
"""At most so many windows or frames go through the denoiser together."""


def _chunked(items: list, size: int) -> Iterator[list]:
    return (items[begin : begin + size] for begin in range(0, len(items), size))


@dataclass(frozen=True, eq=False)
class WindowedDenoiser:
    """A DIFFUSION_MODEL wrapper: the denoiser sees at most `window` latent pixels a side and `at_once` windows or frames at a time.

    Everything of the latent's size among the arguments, the prior above all, is cut with the window, and so are the residuals of a
    ControlNet, which has seen the whole picture. `tick` is called after every piece with its share of the whole.
    """

    window: int
    overlap: int
    at_once: int
    tick: Callable[[float], None] | None = None

    def __call__(self, executor, x, timesteps, context, y, control, transformer_options, **kwargs):
        chunks = len(transformer_options.get("cond_or_uncond", [0]))
        frames = len(x) // chunks
        height, width = x.shape[-2:]
        windows = windows_of(height, width, self.window, self.overlap)
        pieces = [(window, frame) for window in windows for frame in range(frames)]
        if len(windows) == 1 and frames <= self.at_once:
            out = executor(x, timesteps, context, y, control, transformer_options, **kwargs)
            self._tick(1.0)
            return out
        total: Tensor | None = None
        weights = torch.zeros(height, width, device=x.device)
        for window in windows:
            weights[window.rows, window.columns] += window.weight.to(x.device)
        for group in _chunked(pieces, self.at_once):
            rows = torch.tensor(
                [chunk * frames + frame for chunk in range(chunks) for _, frame in group], device=x.device
            )
            places = [window for _ in range(chunks) for window, _ in group]

            def of(value: Any) -> Any:
                if not torch.is_tensor(value) or value.ndim == 0 or len(value) != len(x):
                    return value
                if value.ndim == 4 and value.shape[2:] == x.shape[2:]:
                    return torch.cat(
                        [
                            window.cut(value[row : row + 1], height, width)
                            for window, row in zip(places, rows.tolist())
                        ]
                    )
                return value.index_select(0, rows.to(value.device))

            def of_control(value: Tensor | None) -> Tensor | None:
                if value is None:
                    return None
                single = len(value) == 1
                parts = (value[0 if single else row, None] for row in rows.tolist())
                return torch.cat([window.cut(part, height, width) for window, part in zip(places, parts)])

            cut = {key: of(value) for key, value in kwargs.items()}
            residuals = control and {
                name: [of_control(value) for value in values] for name, values in control.items()
            }
            options = self._options(transformer_options, group, frames)
            made = executor(of(x), of(timesteps), of(context), of(y), residuals, options, **cut)
            if total is None:
                total = torch.zeros(len(x), made.shape[1], height, width, device=x.device)
            for out, window, row in zip(made, places, rows.tolist()):
                total[row, :, window.rows, window.columns] += out.float() * window.weight.to(out.device)
            self._tick(len(group) / len(pieces))
        return (total / weights).to(x.dtype)

    def _options(self, transformer_options: dict, group: list, frames: int) -> dict:
        """The host's options for a group of pieces: what has an entry per frame gets one per piece."""
        options = transformer_options.copy()
        sigmas = options.get("sigmas")
        if torch.is_tensor(sigmas) and sigmas.ndim and len(sigmas) == frames:
            options["sigmas"] = sigmas[[frame for _, frame in group]]
        return options

    def _tick(self, share: float) -> None:
        if self.tick is not None:
            self.tick(share)

    def estimate(self, executor, model, noise_shape, conds, *args, **kwargs):
        """A PREPARE_SAMPLING wrapper: the host makes room for what is at work at a time, not for the whole picture."""
        shape = list(noise_shape)
        shape[0] = min(shape[0], self.at_once)
        shape[-2:] = (min(side, self.window) for side in shape[-2:])
        return executor(model, torch.Size(shape), conds, *args, **kwargs)


def with_windows(
    model: ModelPatcher, window: int, shape: torch.Size, tick: Callable[[float], None] | None = None
) -> ModelPatcher:
    """A clone of MODEL whose denoiser sees at most `window` latent pixels a side of a latent of `shape` (`B C h w`).

    It must be called before DAFF is applied.
    """
    model = model.clone()
    window = max(window, MINIMUM)
    wrapper = WindowedDenoiser(window, window // 4, _at_once(model, window, shape), tick)
    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, KEY, wrapper)
    model.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, KEY, wrapper.estimate)
    return model


def _at_once(model: ModelPatcher, window: int, shape: torch.Size) -> int:
    """How many windows go through the denoiser together: on a CPU one, which keeps its threads as busy; elsewhere what fits."""
    device = model.load_device
    if management.is_device_cpu(device):
        return 1
    one = [2, shape[1], *(min(side, window) for side in shape[-2:])]
    return max(1, min(AT_ONCE, int(0.5 * available(device) / model.memory_required(one))))
