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

from .memory import available

KEY = "aior_tiles"
MINIMUM = 16
ALIGNED = 8
"""Windows begin at multiples of this many latent pixels, so that a ControlNet's coarse residuals can be cut with them."""
AT_ONCE = 8
"""At most so many windows or frames go through the denoiser together."""


def starts(length: int, window: int, overlap: int) -> list[int]:
    """Starts of windows of `window` over `length`, evenly spread, at least `overlap` shared by neighbours; all but the last aligned.

    The last one ends where the length does.
    """
    if window >= length:
        return [0]
    count = 1 - (-(length - window) // max(1, window - overlap - ALIGNED + 1))
    inner = (round(i * (length - window) / (count - 1) / ALIGNED) * ALIGNED for i in range(count - 1))
    return [*inner, length - window]


def window_weight(window: int, overlap: int, *, first: bool, last: bool) -> Tensor:
    """Weights of one window, `window`: raised cosine over `overlap` pixels, symmetric, flat at the picture's own borders."""
    position = torch.arange(window, dtype=torch.float32) + 0.5
    ramp = torch.sin((position / overlap).clamp(max=1.0) * (torch.pi / 2)).square()
    weight = torch.ones(window)
    if not first:
        weight = weight * ramp
    if not last:
        weight = weight * ramp.flip(0)
    return weight


@dataclass(frozen=True)
class Window:
    """Rows and columns of the latent that one window sees, and its blending weights, `h w`."""

    rows: slice
    columns: slice
    weight: Tensor

    def cut(self, x: Tensor, height: int, width: int) -> Tensor:
        """The window's part of `x`, which lies over a latent of `height` by `width` at any scale: a prior, or a ControlNet's residual."""
        (top, bottom), (left, right) = (
            _scaled(self.rows, x.shape[-2], height),
            _scaled(self.columns, x.shape[-1], width),
        )
        return x[..., top:bottom, left:right]


def _scaled(span: slice, length: int, whole: int) -> tuple[int, int]:
    """`span` of `whole` on a grid of `length`; coarser grids have a size of their own for a window, which counts."""
    if length == whole:
        return span.start, span.stop
    cell = round(whole / length)
    size = -(-(span.stop - span.start) // cell)
    start = min(round(span.start / cell), length - size)
    return start, start + size


def windows_of(height: int, width: int, window: int, overlap: int) -> list[Window]:
    """The windows that cover a latent; all are of one size."""
    tops, lefts = starts(height, window, overlap), starts(width, window, overlap)
    tall, wide = min(window, height), min(window, width)
    made = []
    for i, top in enumerate(tops):
        vertical = window_weight(tall, overlap, first=i == 0, last=i == len(tops) - 1)
        for j, left in enumerate(lefts):
            horizontal = window_weight(wide, overlap, first=j == 0, last=j == len(lefts) - 1)
            made.append(
                Window(slice(top, top + tall), slice(left, left + wide), torch.outer(vertical, horizontal))
            )
    return made


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
