"""Joint tiled diffusion: at every step the denoiser runs on overlapping windows of the latent, and its
predictions are blended."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

ALIGNED = 8
"""Windows begin at multiples of this many latent pixels, so that a ControlNet's coarse residuals can be cut
with them."""


def starts(length: int, window: int, overlap: int) -> list[int]:
    """The starts of windows of `window` pixels that cover `length`, evenly spread; neighbours share at least
    `overlap` pixels.

    All starts but the last are aligned. The last window ends where `length` does.
    """
    if window >= length:
        return [0]
    count = 1 - (-(length - window) // max(1, window - overlap - ALIGNED + 1))
    inner = (round(i * (length - window) / (count - 1) / ALIGNED) * ALIGNED for i in range(count - 1))
    return [*inner, length - window]


def window_weight(window: int, overlap: int, *, first: bool, last: bool) -> Tensor:
    """Blending weights along one side of a window, `window`: a symmetric raised cosine over `overlap` pixels,
    flat at the picture's borders."""
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
    """The rows and columns of the latent that one window covers, and its blending weights `h w`."""

    rows: slice
    columns: slice
    weight: Tensor

    def cut(self, x: Tensor, height: int, width: int) -> Tensor:
        """The window's part of `x`, `... H W`, which covers a latent of `height` by `width` at any scale, as
        a ControlNet's residual does."""
        top, bottom = _scaled(self.rows, x.shape[-2], height)
        left, right = _scaled(self.columns, x.shape[-1], width)
        return x[..., top:bottom, left:right]


def _scaled(span: slice, length: int, whole: int) -> tuple[int, int]:
    """`span` of a side of `whole` pixels, on a grid of `length` cells. On a coarser grid every window has the
    same number of cells."""
    if length == whole:
        return span.start, span.stop
    cell = round(whole / length)
    size = -(-(span.stop - span.start) // cell)
    start = min(round(span.start / cell), length - size)
    return start, start + size


def windows_of(height: int, width: int, window: int, overlap: int) -> list[Window]:
    """The windows that cover a latent of `height` by `width`; all have the same size."""
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


@dataclass(frozen=True, eq=False)
class _Group:
    """Windows, each of one row of the batch, that pass through the denoiser together. The latent is `batch`
    by `height` by `width`."""

    windows: Sequence[Window]
    rows: Sequence[int]
    batch: int
    height: int
    width: int

    def of(self, value: Any) -> Any:
        """An argument of the denoiser for this group: of the latent's size, cut; with a row per sample, the
        group's rows; else unchanged."""
        if not torch.is_tensor(value) or value.ndim == 0 or len(value) != self.batch:
            return value
        if value.ndim == 4 and value.shape[2:] == (self.height, self.width):
            return self._cut(value)
        return value.index_select(0, torch.tensor(self.rows, device=value.device))

    def of_control(self, value: Tensor | None) -> Tensor | None:
        """A ControlNet's residual for this group. One that has a single row counts for all samples."""
        return None if value is None else self._cut(value)

    def _cut(self, value: Tensor) -> Tensor:
        rows = [0] * len(self.rows) if len(value) == 1 else self.rows
        parts = zip(self.windows, rows, strict=True)
        return torch.cat([window.cut(value[row, None], self.height, self.width) for window, row in parts])


@dataclass(frozen=True, eq=False)
class WindowedDenoiser:
    """A DIFFUSION_MODEL wrapper for ComfyUI: the denoiser gets at most `window` latent pixels a side, and
    `at_once` windows or frames at a time.

    Every argument of the latent's size, such as the prior, is cut with the window, and so are the residuals
    of a ControlNet, which sees the whole picture. tick: called after every group of windows with its share of
    the step, so that the shares sum to 1.
    """

    window: int
    overlap: int
    at_once: int
    tick: Callable[[float], None] | None = None

    def __call__(self, executor, x, timesteps, context, y, control, transformer_options, **kwargs):
        chunks = len(transformer_options.get("cond_or_uncond", [0]))
        frames, (height, width) = len(x) // chunks, x.shape[-2:]
        windows = windows_of(height, width, self.window, self.overlap)
        pieces = [(window, frame) for window in windows for frame in range(frames)]
        if len(windows) == 1 and frames <= self.at_once:
            out = executor(x, timesteps, context, y, control, transformer_options, **kwargs)
            self._tick(1.0)
            return out
        total: Any = None
        weights = torch.zeros(height, width, device=x.device)
        for window in windows:
            weights[window.rows, window.columns] += window.weight.to(x.device)
        for some in _chunked(pieces, self.at_once):
            rows = [chunk * frames + frame for chunk in range(chunks) for _, frame in some]
            group = _Group([window for window, _ in some] * chunks, rows, len(x), height, width)
            residuals = control and {
                name: [group.of_control(value) for value in values] for name, values in control.items()
            }
            made = executor(
                *(group.of(value) for value in (x, timesteps, context, y)),
                residuals,
                _options(transformer_options, [frame for _, frame in some], frames),
                **{key: group.of(value) for key, value in kwargs.items()},
            )
            if total is None:
                total = torch.zeros(len(x), made.shape[1], height, width, device=x.device)
            for out, window, row in zip(made, group.windows, rows):
                total[row, :, window.rows, window.columns] += out.float() * window.weight.to(out.device)
            self._tick(len(some) / len(pieces))
        return (total / weights).to(x.dtype)

    def _tick(self, share: float) -> None:
        if self.tick is not None:
            self.tick(share)

    def estimate(self, executor, model, noise_shape, conds, *args, **kwargs):
        """A PREPARE_SAMPLING wrapper: ComfyUI reserves memory for what the denoiser gets at a time, not for
        the whole picture."""
        shape = list(noise_shape)
        shape[0] = min(shape[0], self.at_once)
        shape[-2:] = (min(side, self.window) for side in shape[-2:])
        return executor(model, torch.Size(shape), conds, *args, **kwargs)


def _options(transformer_options: dict[str, Any], group: list[int], frames: int) -> dict[str, Any]:
    """ComfyUI's options for some of the `frames`: noise levels that come one per frame are those of the
    group."""
    options = transformer_options.copy()
    sigmas = options.get("sigmas")
    if torch.is_tensor(sigmas) and sigmas.ndim and len(sigmas) == frames:
        options["sigmas"] = sigmas[group]
    return options


def _chunked(items: list, size: int) -> Iterator[list]:
    return (items[begin : begin + size] for begin in range(0, len(items), size))
